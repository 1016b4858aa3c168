"""The example controller over real DDS: it follows a replayed bag through a real stereo node, and holds when a gate closes."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.duration import Duration
from rclpy.node import NodeNameNonExistentError
from rclpy.qos import LivelinessPolicy, QoSProfile
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import String

from csl_tracker.bags.writer import BagWriter
from csl_tracker.datasets.synthetic.instrument import parts_and_landmarks, random_look
from csl_tracker.datasets.synthetic.stereo import as_result, endoscope_rig, project, random_placement
from csl_tracker.instruments import ENDOVIS
from csl_tracker.messages.cdr import restamp
from csl_tracker.messages.poses import make_header, make_pose_array
from csl_tracker.messages.topics import POSES_TYPE
from csl_tracker.node.processes import NodeProcess
from csl_tracker.node.ros_types import ROS_TYPES
from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.ros

EXAMPLE = Path(__file__).parents[2] / "examples" / "safe_follow.py"
RIG = endoscope_rig()
SIZE = (RIG.left.height, RIG.left.width)
FRAME = "stereo_left_frame"
MAX_STEP, MAX_SPEED = 0.0005, 0.01
# Patient, since the machine that runs the tests may be busy; what is tested are the gates, not the time.
PATIENT = {"watchdog": 1.5, "max_age": 1.5}
REMAPPINGS = {"target": "/stereo_node/left/measured_cp_cov", "poses": "/left/poses", "arm": "/PSM1/measured_cp"}


@pytest.fixture
def start_follower(ros_environment, tmp_path):
    """A function that starts the example as a process of its own."""
    started = []

    def start(**parameters):
        command = [sys.executable, str(EXAMPLE), "--ros-args"]
        for name, value in {**PATIENT, **parameters}.items():
            command += ["-p", f"{name}:={value}"]
        for name, value in REMAPPINGS.items():
            command += ["-r", f"{name}:={value}"]
        with (tmp_path / "follower.log").open("w") as log:
            started.append(
                subprocess.Popen(command, env=ros_environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
            )
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        assert process.wait(20.0) == 0
    assert "Traceback" not in (tmp_path / "follower.log").read_text()


@pytest.fixture
def follower(start_follower):
    return start_follower()


class Arm:
    """An arm that says where it is, and takes every proposal at its word."""

    def __init__(self, peer, position):
        self.peer = peer
        self.position = np.array(position, float)
        self.frame_id = FRAME
        self.publisher = peer.node.create_publisher(PoseStamped, "/PSM1/measured_cp", 10)
        self.states = peer.listen(String, "/safe_follow/state")
        self.steps = []
        self.told = []
        self.proposals = 0
        peer.node.create_subscription(PoseStamped, "/safe_follow/proposed_cp", self._move, 10)

    def _move(self, message):
        self.proposals += 1
        assert message.header.frame_id == self.frame_id
        point = message.pose.position
        to = np.array([point.x, point.y, point.z])
        # What it told a moment ago is what the follower knew.
        self.steps.append(min(float(np.linalg.norm(to - known)) for known in self.told[-50:]))
        self.position = to

    def tell(self):
        message = PoseStamped()
        message.header.frame_id = self.frame_id
        message.header.stamp = self.peer.node.get_clock().now().to_msg()
        message.pose.position.x, message.pose.position.y, message.pose.position.z = (float(v) for v in self.position)
        message.pose.orientation.w = 1.0
        self.told.append(self.position)
        self.publisher.publish(message)

    @property
    def state(self):
        return self.states[-1].data if self.states else ""


def make_bag(path, frames=75):
    """Poses of one instrument that drifts by 0.2 mm a frame, and both calibrations; gives the heads, m."""
    rng = np.random.default_rng(12)
    place = random_placement(rng, RIG)
    truth = place.positions(parts_and_landmarks(place.shape, random_look(rng), place.pose)[1])
    heads = []
    with BagWriter(path) as bag:
        for side in ("left", "right"):
            bag.add_topic(f"/{side}/poses", POSES_TYPE)
            bag.add_topic(f"/{side}/camera_info", "sensor_msgs/msg/CameraInfo")
        for index in range(frames):
            stamp = 10**9 + 40_000_000 * index
            now = truth + index * np.array([0.0002, 0, 0])
            heads.append(now[ENDOVIS.landmarks.index("head")])
            for side, camera, points in zip(("left", "right"), (RIG.left, RIG.right), project(RIG, now[None]), strict=True):
                header = make_header(ROS_TYPES, stamp, FRAME)
                info = CameraInfo(header=header, width=camera.width, height=camera.height, distortion_model=camera.model)
                info.d = camera.d.tolist()
                info.k, info.r, info.p = camera.k.ravel(), camera.r.ravel(), camera.p.ravel()
                array = make_pose_array(ROS_TYPES, header, as_result(points, SIZE, 0.5), "known@00000000")
                bag.write_raw(f"/{side}/camera_info", serialize_message(info), stamp)
                bag.write_raw(f"/{side}/poses", serialize_message(array), stamp)
    return np.array(heads)


def play(path, publishers, arm):
    """Publish a bag's messages at their pace under the time of now, while the arm says where it is."""
    began, wall = time.monotonic(), time.time_ns()
    with AnyReader([path]) as bag:
        for connection, stamp, data in bag.messages():
            since = stamp - bag.start_time
            while time.monotonic() < began + 1e-9 * since:
                arm.tell()
                arm.peer.spin_for(0.01)
            publishers[connection.topic].publish(restamp(data, wall + since))


def test_it_follows_a_replayed_bag_in_small_steps_and_holds_when_it_ends(peer, follower, ros_environment, tmp_path):
    heads = make_bag(tmp_path / "poses.mcap")
    arm = Arm(peer, heads[0] + [0.005, 0.004, -0.003])
    start = arm.position
    publishers = {
        f"/{side}/{name}": peer.node.create_publisher(kind, f"/{side}/{name}", 10)
        for side in ("left", "right")
        for name, kind in (("poses", InstrumentPoseArray), ("camera_info", CameraInfo))
    }
    with NodeProcess("stereo_node", {"discovery_time": 0.5}, None, ros_environment, tmp_path / "log") as stereo:
        ready = [publishers["/left/poses"], publishers["/right/poses"]]
        peer.wait_for(lambda: all(p.get_subscription_count() for p in ready), 60.0, "nobody listens")
        peer.wait_for(lambda: arm.states, 60.0, "the follower says nothing")
        peer.spin_for(1.0)
        assert arm.proposals == 0, "nothing is proposed before anything was seen"
        began = time.monotonic()
        while arm.proposals < 30:  # a busy machine may need the bag again
            assert time.monotonic() < began + 60, arm.state
            play(tmp_path / "poses.mcap", publishers, arm)
        elapsed = time.monotonic() - began
        assert stereo.poll() is None
    assert max(arm.steps) <= MAX_STEP + 1e-9
    assert np.linalg.norm(arm.position - start) <= MAX_SPEED * elapsed + MAX_STEP
    assert np.linalg.norm(arm.position - heads[-1]) < np.linalg.norm(start - heads[-1])

    def held():
        arm.tell()
        peer.spin_for(0.02)
        return arm.state == "no recent pose of the instrument"

    peer.wait_for(held, 30.0, "it goes on without poses")
    peer.spin_for(0.2)
    before = arm.proposals
    for _ in range(20):
        arm.tell()
        peer.spin_for(0.02)
    assert arm.proposals == before


GOOD_POSITION, GOOD_SIGMA = np.array([0.01, 0.0, 0.1]), 0.001


class Perception:
    """What a stereo node and a tracker publish, by hand."""

    def __init__(self, peer, quality=10):
        self.peer = peer
        self.target = peer.node.create_publisher(PoseWithCovarianceStamped, "/stereo_node/left/measured_cp_cov", quality)
        self.poses = peer.node.create_publisher(InstrumentPoseArray, "/left/poses", 10)

    def say(self, position=GOOD_POSITION, sigma=GOOD_SIGMA, confidence=1.0, age_s=0.0, frame_id=FRAME, slot="left"):
        stamp = self.peer.node.get_clock().now().nanoseconds - round(age_s * 1e9)
        header = make_header(ROS_TYPES, stamp, frame_id)
        result = as_result(np.full((1, 5, 2), 100.0), SIZE, slots=(slot,))
        array = make_pose_array(ROS_TYPES, header, result, "known@00000000")
        array.poses[0].confidence = confidence
        message = PoseWithCovarianceStamped(header=header)
        message.pose.pose.position.x, message.pose.pose.position.y, message.pose.pose.position.z = (float(v) for v in position)
        message.pose.covariance = (sigma**2 * np.eye(6)).ravel()
        self.poses.publish(array)
        self.target.publish(message)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"confidence": 0.2}, "the tracker's confidence is 0.20"),
        ({"slot": "right"}, "the tracker's confidence is 0.00"),
        ({"sigma": 0.02}, "the position has a standard deviation of 20.0 mm"),
        ({"sigma": np.nan}, "the pose is not finite"),
        ({"position": [np.nan, 0, 0.1]}, "the pose is not finite"),
        ({"age_s": 30.0}, "the pose is 30.0"),
        ({"age_s": -30.0}, "the pose is -"),
        ({"frame_id": "PSM2_base"}, "the arm is in 'stereo_left_frame' and the instrument in 'PSM2_base'"),
        (None, "no recent pose of the instrument"),
    ],
)
def test_a_gate_that_closes_ends_the_proposals(peer, follower, said, state):
    arm, perception = Arm(peer, GOOD_POSITION + np.array([0.05, 0, 0])), Perception(peer)

    def until(condition, words, **values):
        def done():
            assert follower.poll() is None
            arm.tell()
            if words is not None:
                perception.say(**values)
            peer.spin_for(0.03)
            return condition()

        peer.wait_for(done, 60.0, f"{words}, but: {arm.state}")

    until(lambda: arm.proposals > 5 and arm.state == "following", "it follows")
    if said is None:
        until(lambda: arm.state == state, None)
    else:
        until(lambda: arm.state.startswith(state), state, **said)
    peer.spin_for(0.2)
    before = arm.proposals
    for _ in range(10):
        arm.tell()
        if said is not None:
            perception.say(**said)
        peer.spin_for(0.03)
    assert arm.proposals == before
    until(lambda: arm.proposals > before, "it follows again")


def test_a_jump_is_not_followed_at_once(peer, follower):
    arm, perception = Arm(peer, GOOD_POSITION + np.array([0.05, 0, 0])), Perception(peer)
    jumps = iter(np.cumsum(np.full(10_000, 0.02)))  # away by 2 cm from image to image

    def done(jump):
        arm.tell()
        perception.say(GOOD_POSITION + np.array([next(jumps) if jump else 0, 0, 0]))
        peer.spin_for(0.03)

    peer.wait_for(lambda: done(False) or arm.proposals > 5, 60.0, "it does not follow at all")
    peer.wait_for(lambda: done(True) or arm.state == "the instrument has jumped, or is new", 60.0, "it follows jumps")
    before = arm.proposals
    for _ in range(10):
        done(True)
    assert arm.proposals == before


def test_a_publisher_that_falls_silent_is_noticed_by_its_lease(peer, start_follower):
    """And not by the watchdog, which has ten seconds here."""
    follower = start_follower(watchdog=10.0, max_age=10.0, lease=2.0)
    lease = Duration(seconds=1.5)
    quality = QoSProfile(depth=10, deadline=lease, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC, liveliness_lease_duration=lease)
    arm, perception = Arm(peer, GOOD_POSITION + np.array([0.05, 0, 0])), Perception(peer, quality)

    def followed():
        assert follower.poll() is None
        arm.tell()
        perception.say()
        peer.spin_for(0.03)
        return arm.proposals > 5 and arm.state == "following"

    def noticed():
        arm.tell()
        peer.spin_for(0.03)
        return arm.state in ("the stereo node is not alive", "the instrument was not seen within the deadline")

    peer.wait_for(followed, 60.0, "it does not follow")
    silent = time.monotonic()
    peer.wait_for(noticed, 30.0, f"nobody noticed; {arm.state}")
    assert time.monotonic() - silent < 9.0
    peer.wait_for(followed, 60.0, "it does not follow again")


def test_it_publishes_no_motion_command(peer, follower):
    def topics():
        with contextlib.suppress(NodeNameNonExistentError):  # until it is discovered
            return {name for name, _ in peer.node.get_publisher_names_and_types_by_node("safe_follow", "/")}
        return set()

    peer.wait_for(lambda: "/safe_follow/proposed_cp" in topics(), 60.0, "it is not there")
    peer.spin_for(1.0)
    assert topics() - {"/rosout", "/parameter_events"} == {"/safe_follow/proposed_cp", "/safe_follow/state"}
