"""The stereo node over real DDS: a known instrument goes in as two arrays of poses, and its position comes out."""

import math
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")
pytest.importorskip("visualization_msgs")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.duration import Duration
from rclpy.qos import LivelinessPolicy, QoSProfile
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo
from visualization_msgs.msg import Marker, MarkerArray

from csl_tracker.datasets.synthetic.instrument import parts_and_landmarks, random_look
from csl_tracker.datasets.synthetic.stereo import as_result, endoscope_rig, project, random_placement
from csl_tracker.instruments import ENDOVIS
from csl_tracker.messages.poses import make_header, make_pose_array, stamp_ns
from csl_tracker.node import stereo_node, stereo_parameters
from csl_tracker.node.distributions import SubscriptionEventCallbacks
from csl_tracker.node.parameter_table import check, markdown
from csl_tracker.node.processes import NodeProcess
from csl_tracker.node.ros_types import ROS_TYPES
from csl_tracker.stereo.orientation import UNKNOWN_ANGLE_VARIANCE
from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.ros

ROOT = Path(__file__).resolve().parents[2]
RIG = endoscope_rig()
SIZE = (RIG.left.height, RIG.left.width)
MS = 1_000_000
PLACE = random_placement(np.random.default_rng(12), RIG)
TRUTH = PLACE.positions(parts_and_landmarks(PLACE.shape, random_look(np.random.default_rng(0)), PLACE.pose)[1])
HEAD = TRUTH[ENDOVIS.landmarks.index("head")]
SEEN = tuple(as_result(points, SIZE, 0.5) for points in project(RIG, TRUTH[None]))
FRAME = "stereo_left_frame"


def camera_info(camera, frame_id) -> CameraInfo:
    message = CameraInfo(width=camera.width, height=camera.height, distortion_model="plumb_bob")
    message.header.frame_id = frame_id
    message.d = [float(value) for value in np.ravel(camera.d)]
    message.k, message.r, message.p = (np.ascontiguousarray(m, np.float64).ravel() for m in (camera.k, camera.r, camera.p))
    return message


def poses(result, stamp: int, frame_id: str = FRAME) -> InstrumentPoseArray:
    return make_pose_array(ROS_TYPES, make_header(ROS_TYPES, stamp, frame_id), result, "known@00000000")


def start(environment, log, **parameters):
    name = parameters.pop("name", "stereo_node")
    remappings = {"__node": name, **parameters.pop("remappings", {})}
    return NodeProcess("stereo_node", {"discovery_time": 0.5, **parameters}, remappings, environment, log)


class Cameras:
    """Both trackers and both camera drivers, and what comes back from a stereo node."""

    def __init__(self, peer, process, name="stereo_node", infos=(RIG.left, RIG.right)):
        self.peer, self.process, self.name = peer, process, name
        self.stamp = time.time_ns()  # so that stamps grow from test to test
        self.publishers = [peer.node.create_publisher(InstrumentPoseArray, f"{side}/poses", 10) for side in ("left", "right")]
        self.info_publishers = [peer.node.create_publisher(CameraInfo, f"{s}/camera_info", 1) for s in ("left", "right")]
        self.infos = [camera_info(camera, frame) for camera, frame in zip(infos, (FRAME, "stereo_right_frame"), strict=True)]
        self.positions = peer.listen(PoseStamped, f"/{name}/left/measured_cp")
        self.covariances = peer.listen(PoseWithCovarianceStamped, f"/{name}/left/measured_cp_cov")
        self.reports = peer.listen(DiagnosticArray, "/diagnostics")

    def send_infos(self):
        for publisher, info in zip(self.info_publishers, self.infos, strict=True):
            publisher.publish(info)

    def send(self, left=SEEN[0], right=SEEN[1], skew=0):
        """One moment, 40 ms after the last one; None sends nothing on that side."""
        self.stamp += 40 * MS
        for publisher, result, stamp in zip(self.publishers, (left, right), (self.stamp, self.stamp + skew), strict=True):
            if result is not None:
                publisher.publish(poses(result, stamp))

    def until(self, condition, what, **sent):
        """Send until something has come of it."""

        def done():
            assert self.process.poll() is None, self.process.output()
            self.send_infos()
            self.send(**sent)
            self.peer.spin_for(0.05)
            return condition()

        self.peer.wait_for(done, 60.0, what)

    def connect(self):
        self.until(lambda: self.positions and self.covariances, "no position of a known instrument")
        self.peer.spin_for(0.3)
        self.positions.clear()
        self.covariances.clear()
        return self

    def values(self):
        """The newest of this node's diagnostics."""
        own = [status for array in self.reports for status in array.status if status.name.startswith(f"/{self.name}:")]
        return (
            {} if not own else {"level": own[-1].level, "message": own[-1].message, **{v.key: v.value for v in own[-1].values}}
        )


def changed(result, **values):
    return replace(result, instruments=tuple(replace(one, **values) for one in result.instruments))


def moved_head(result, **values):
    marks = tuple(replace(m, **values) if m.name == "head" else m for m in result.instruments[0].landmarks)
    return changed(result, landmarks=marks)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["slots:=[left, left]"], "name each instrument once"),
        (["slots:=[PSM1/tip]"], "PSM1/tip"),
        (["slots:=[]"], "slots"),
        (["axis_landmarks:=[center]"], "axis_landmarks"),
        (["pose_frame:=cooked"], "pose_frame is 'cooked'; choose one of raw, rectified"),
        (["output_frame:=moon"], "output_frame"),
        (["hand_eye:=/nowhere/hand_eye.yaml"], "/nowhere/hand_eye.yaml"),
        (["tolerance:=-1.0"], "tolerance"),
        (["min_depth:=0.5"], "min_depth is 0.5 m"),
        (["min_landmarks:=many"], "min_landmarks"),
    ],
)
def test_a_wrong_parameter_is_one_sentence_and_status_2(ros_environment, capfd, parameters, words):
    arguments = ["stereo_node", "--ros-args", *(word for parameter in parameters for word in ("-p", parameter))]
    assert stereo_node.main(arguments) == 2
    error = capfd.readouterr().err
    assert len([line for line in error.splitlines() if line.startswith("stereo_node: ") and words in line]) == 1
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["servo_cp", "move_cp", "interpolate_cp", "servo_jp"])
def test_a_position_is_never_published_as_a_motion_command(ros_environment, capfd, command):
    assert stereo_node.main(["stereo_node", "--ros-args", "-r", f"~/left/measured_cp:=/PSM1/{command}"]) == 2
    assert f"remapped to /PSM1/{command}, a motion command" in capfd.readouterr().err


def test_every_parameter_is_described_and_bounded():
    for name, one in stereo_parameters.PARAMETERS.items():
        assert one.description.endswith("."), name
        assert (one.limits is not None) == (one.kind in ("integer", "double")), name
        check(stereo_parameters.PARAMETERS, name, one.default)


def test_the_page_and_the_file_of_parameters_are_those_of_the_node():
    assert markdown(stereo_parameters.PARAMETERS) in (ROOT / "docs" / "dvrk.md").read_text(encoding="utf-8")
    given = yaml.safe_load((ROOT / "config" / "dvrk.yaml").read_text(encoding="utf-8"))["/**/stereo_node"]["ros__parameters"]
    for name, value in given.items():
        check(stereo_parameters.PARAMETERS, name, value)


def test_it_does_not_start_on_a_topic_of_another(peer, ros_environment, tmp_path):
    peer.publisher(PoseStamped, "/PSM1/measured_cp")
    remap = {"~/left/measured_cp": "/PSM1/measured_cp"}
    with start(ros_environment, tmp_path / "log", name="guest", discovery_time=20.0, remappings=remap) as process:
        assert process.wait(60.0) == 2
    assert "The topic /PSM1/measured_cp already has a publisher (/peer)" in process.complaint()


@pytest.fixture(scope="module")
def node(ros_environment, tmp_path_factory):
    with start(ros_environment, tmp_path_factory.mktemp("stereo") / "log", min_confidence=0.5) as process:
        yield process


@pytest.fixture
def cameras(peer, node):
    return Cameras(peer, node).connect()


def test_a_known_instrument_comes_back(cameras):
    cameras.send()
    cameras.peer.wait_for(lambda: cameras.positions and cameras.covariances, what="no position")
    (position,), (with_covariance,) = cameras.positions, cameras.covariances
    assert stamp_ns(position.header.stamp) == cameras.stamp
    assert position.header.frame_id == FRAME
    assert with_covariance.header == position.header
    assert with_covariance.pose.pose == position.pose
    point, turn = position.pose.position, position.pose.orientation
    np.testing.assert_allclose([point.x, point.y, point.z], HEAD, atol=1e-9)
    rotation = Rotation.from_quat([turn.x, turn.y, turn.z, turn.w])
    np.testing.assert_allclose(rotation.apply([0, 0, 1]), PLACE.along, atol=1e-6)
    covariance = np.reshape(with_covariance.pose.covariance, (6, 6))
    assert np.linalg.eigvalsh(covariance).min() > -1e-12
    assert PLACE.along @ covariance[3:, 3:] @ PLACE.along == pytest.approx(UNKNOWN_ANGLE_VARIANCE)
    # 0.5 px are stated and 0.5 px added for the calibration.
    assert math.sqrt(covariance[2, 2]) == pytest.approx(RIG.geometry.depth_sigma(HEAD[2], math.sqrt(0.5)), rel=0.15)


NOTHING = {
    "wrong stamps": ({"skew": 3 * MS}, "dropped unpaired"),
    "no right instrument": ({"right": replace(SEEN[1], instruments=())}, "rejected unmatched"),
    "swapped cameras": ({"left": SEEN[1], "right": SEEN[0]}, "rejected unmatched"),
    "NaN landmark": ({"left": moved_head(SEEN[0], x=math.nan)}, "rejected no_position"),
    "infinite landmark": ({"right": moved_head(SEEN[1], y=math.inf)}, "rejected no_position"),
    "NaN covariance": ({"left": moved_head(SEEN[0], covariance=np.full((2, 2), math.nan))}, "rejected no_covariance"),
    "landmark on another row": ({"left": moved_head(SEEN[0], y=20.0)}, "rejected epipolar"),
    "unsure": ({"right": changed(SEEN[1], confidence=0.2)}, "rejected low_confidence"),
    "carried forward": ({"left": changed(SEEN[0], predicted=True)}, "rejected predicted"),
    "unknown slot": ({"left": changed(SEEN[0], slot="extra1")}, "rejected unknown_slot"),
    "other size": ({"left": replace(SEEN[0], size=(576, 720))}, "rejected size"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_not_sure_is_not_published_and_counted(cameras, name):
    sent, reason = NOTHING[name]
    before = int(cameras.values().get(reason, 0))
    cameras.until(lambda: int(cameras.values().get(reason, 0)) >= before + 2, f"{reason} was not counted", **sent)
    assert cameras.positions == []
    cameras.until(lambda: cameras.positions, "a good pair after the bad ones is published")


def test_a_side_that_is_silent_is_named(cameras):
    cameras.until(lambda: cameras.values().get("message") == "no poses from right", "no word of it", right=None)
    assert cameras.positions == []
    cameras.until(lambda: cameras.values().get("message") == "poses are paired", "no word of the end of it")


def test_a_bag_that_begins_anew_is_followed(cameras):
    begin = cameras.stamp
    cameras.stamp -= 60_000 * MS
    cameras.until(lambda: cameras.positions, "no position after the jump")
    assert stamp_ns(cameras.positions[-1].header.stamp) < begin


def test_markers_show_landmarks_and_axis(cameras):
    arrays = cameras.peer.listen(MarkerArray, "/stereo_node/markers")
    cameras.until(lambda: arrays and arrays[-1].markers, "no markers")
    markers = {marker.type: marker for marker in arrays[-1].markers}
    assert {marker.header.frame_id for marker in markers.values()} == {FRAME}
    balls = markers[Marker.SPHERE_LIST]
    np.testing.assert_allclose([(p.x, p.y, p.z) for p in balls.points], TRUTH, atol=1e-9)
    assert len(balls.colors) == len(balls.points)
    assert len(markers[Marker.LINE_LIST].points) == 2 * len(ENDOVIS.skeleton)
    tail, tip = ([p.x, p.y, p.z] for p in markers[Marker.ARROW].points)
    np.testing.assert_allclose(np.subtract(tip, tail) / np.linalg.norm(np.subtract(tip, tail)), PLACE.along, atol=1e-6)


def test_it_falls_silent_when_another_comes_to_its_topic(cameras):
    intruder = cameras.peer.publisher(PoseStamped, "/stereo_node/left/measured_cp")
    cameras.until(lambda: "another publisher" in cameras.values().get("message", ""), "the intruder was not seen")
    assert cameras.values()["level"] == b"\x02"
    cameras.peer.spin_for(0.3)
    cameras.positions.clear()
    cameras.covariances.clear()
    for _ in range(10):
        cameras.send()
        cameras.peer.spin_for(0.02)
    assert cameras.positions == cameras.covariances == []
    cameras.peer.node.destroy_publisher(intruder)
    cameras.until(lambda: cameras.positions, "still silent though alone")


def test_tolerance_hand_eye_and_rectified_poses(peer, ros_environment, tmp_path):
    """What the parameters change, together: stamps 4 ms apart, landmarks rectified already, poses in an arm's frame."""
    rotation = Rotation.from_euler("xyz", [170, 10, 40], degrees=True)
    hand_eye = tmp_path / "hand_eye.yaml"
    quaternion = [float(value) for value in rotation.as_quat()]
    hand_eye.write_text(f"parent_frame: PSM1_base\ntranslation: [0.1, -0.2, 0.3]\nquaternion: {quaternion}\n")
    rectified = [as_result(points, SIZE, 0.5) for points in RIG.geometry.project(TRUTH[None])]
    parameters = {"tolerance": 0.005, "hand_eye": str(hand_eye), "pose_frame": "rectified"}
    with start(ros_environment, tmp_path / "log", name="in_arm", **parameters) as process:
        cameras = Cameras(peer, process, "in_arm")
        cameras.until(lambda: cameras.positions, "no position", left=rectified[0], right=rectified[1], skew=4 * MS)
    point = cameras.positions[0].pose.position
    assert cameras.positions[0].header.frame_id == "PSM1_base"
    np.testing.assert_allclose([point.x, point.y, point.z], rotation.apply(HEAD) + np.array([0.1, -0.2, 0.3]), atol=1e-9)


def test_a_calibration_in_mm_is_refused_in_one_sentence(peer, ros_environment, tmp_path):
    right = replace(RIG.right, p=np.asarray(RIG.right.p) * np.array([1, 1, 1, 1000.0]))
    with start(ros_environment, tmp_path / "log", name="in_mm") as process:
        cameras = Cameras(peer, process, "in_mm", (RIG.left, right))
        cameras.until(lambda: "made in mm" in cameras.values().get("message", ""), "no word of it")
        assert cameras.positions == []
        cameras.infos[1] = camera_info(RIG.right, "stereo_right_frame")
        cameras.until(lambda: cameras.positions, "the right calibration is taken when it comes")


def test_a_calibration_that_is_lost_ends_the_positions(cameras):
    cameras.infos[1] = CameraInfo(width=RIG.right.width, height=RIG.right.height, distortion_model="plumb_bob")
    cameras.until(lambda: "right camera" in cameras.values().get("message", ""), "no word of it")
    cameras.peer.spin_for(0.3)
    cameras.positions.clear()
    before = int(cameras.values().get("rejected no_calibration", 0))
    cameras.until(lambda: int(cameras.values().get("rejected no_calibration", 0)) > before, "not counted")
    assert cameras.positions == []
    cameras.infos[1] = camera_info(RIG.right, "stereo_right_frame")
    cameras.until(lambda: cameras.positions, "the next calibration is taken")


def test_a_new_calibration_is_taken_though_its_halves_come_one_after_the_other(cameras):
    """In between they do not fit each other."""
    good = list(cameras.infos)
    other = endoscope_rig(baseline=0.006, size=(720, 1200))
    cameras.infos[0] = camera_info(other.left, FRAME)
    cameras.until(lambda: "no calibration" in cameras.values().get("message", ""), "the halves do not fit")
    cameras.infos[1] = camera_info(other.right, "stereo_right_frame")
    cameras.until(lambda: cameras.values().get("baseline (mm)") == "6.000", "the new calibration is taken")
    cameras.infos = good
    cameras.until(lambda: cameras.values().get("baseline (mm)") == "5.000", "and the one before again")


def test_a_stopped_node_is_noticed_by_its_lease(peer, ros_environment, tmp_path):
    alive = []
    lease = Duration(seconds=1.0)
    quality = QoSProfile(depth=10, deadline=lease, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC, liveliness_lease_duration=lease)
    events = SubscriptionEventCallbacks(liveliness=lambda event: alive.append(event.alive_count))
    topic = "/leased/left/measured_cp"
    peer.node.create_subscription(PoseStamped, topic, lambda message: None, quality, event_callbacks=events)
    with start(ros_environment, tmp_path / "log", name="leased", expected_rate=3.0) as process:
        peer.wait_for(lambda: alive and alive[-1] == 1, 60.0, "the node is not alive, though it only waits for images")
        peer.spin_for(2.5)
        assert alive[-1] == 1
        os.kill(process.pid, signal.SIGSTOP)
        try:
            peer.wait_for(lambda: alive[-1] == 0, 20.0, "nobody noticed")
        finally:
            os.kill(process.pid, signal.SIGCONT)
        peer.wait_for(lambda: alive[-1] == 1, 20.0, "nobody noticed that it is back")
