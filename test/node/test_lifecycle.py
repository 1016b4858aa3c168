"""The managed node in a process of its own: transitions, parameters, services, QoS and diagnostics, all over DDS."""

import shutil
import signal
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter as RosParameter
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger

from csl_tracker.messages.diagnostics import ERROR, OK, WARN
from csl_tracker.messages.images import fill_image
from csl_tracker.messages.poses import make_header
from csl_tracker.node.parameter_table import Change
from csl_tracker.node.processes import NodeProcess
from csl_tracker.node.ros_types import ROS_TYPES
from csl_tracker.node.tracker_parameters import PARAMETERS
from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.ros

TOPIC = "/scope/image_raw"
PICTURE = np.random.default_rng(5).integers(0, 256, (96, 120, 3), np.uint8)
LONG_S = 90.0


class Rig:
    """A tracker in a process, and everything that talks to it."""

    def __init__(self, peer, process, topic=TOPIC):
        self.peer, self.process = peer, process
        self.camera = peer.publisher(Image, topic)
        self.poses = peer.listen(InstrumentPoseArray, "/tracker_node/poses")
        self.said = peer.listen(DiagnosticArray, "/diagnostics")
        self.clients = {}

    def call(self, kind, name, request):
        client = self.clients.setdefault(name, self.peer.node.create_client(kind, f"/tracker_node/{name}"))
        self.wait(client.service_is_ready, f"no {name}")
        future = client.call_async(request)
        self.wait(future.done, f"no answer of {name}")
        return future.result()

    def wait(self, condition, what=""):
        def checked():
            assert self.process.poll() is None, self.process.output()
            return condition()

        self.peer.wait_for(checked, LONG_S, what)

    def state(self):
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def change(self, label):
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, "change_state", request).success

    def set(self, name, value):
        request = SetParameters.Request(parameters=[RosParameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, "set_parameters", request).results[0]

    def get(self, name):
        values = self.call(GetParameters, "get_parameters", GetParameters.Request(names=[name])).values
        return parameter_value_to_python(values[0])

    def show(self, stamp, picture=PICTURE):
        self.camera.publish(fill_image(Image(header=make_header(ROS_TYPES, stamp, "scope")), picture))

    def track(self, stamp=10**9, picture=PICTURE):
        """Show an image, again and again, until its poses come."""
        self.poses.clear()

        def of_it():
            return [array for array in self.poses if array.header.stamp.sec * 10**9 + array.header.stamp.nanosec == stamp]

        def answered():
            self.show(stamp, picture)
            self.peer.spin_for(0.1)
            return bool(of_it())

        self.wait(answered, "no poses")
        return of_it()[0]  # an image that was shown before may be answered last

    def says(self, level, words, meanwhile=lambda: None, tracked=0):
        """Wait until the diagnostics say so, with so many frames tracked; their values."""
        self.said.clear()

        def heard():
            meanwhile()
            self.peer.spin_for(0.02)
            statuses = [status for array in self.said for status in array.status]
            found = [s for s in statuses if s.level == bytes([level]) and words in s.message]
            values = [{value.key: value.value for value in status.values} for status in found]
            return [one for one in values if int(one["tracked"]) >= tracked]

        self.wait(heard, f"not said: {words}")
        return heard()[-1]


def start(weights, environment, log, remap=TOPIC, **parameters):
    given = {"weights": str(weights), "device": "cpu", "engine": "torch", "warm_up_width": 0, "always_report": True}
    given["expected_rate"] = 0.0  # a busy machine is slower than the lease of 30 Hz, and the diagnostics would say so
    return NodeProcess("tracker_node", {**given, **parameters}, {"image": remap}, environment, log)


@pytest.fixture
def rig(peer, tiny_weights, ros_environment, tmp_path, request):
    weights = tmp_path / "model.safetensors"
    shutil.copy(tiny_weights, weights)
    with start(weights, ros_environment, tmp_path / "log", **getattr(request, "param", {})) as process:
        rig = Rig(peer, process)
        rig.weights = weights
        yield rig
        if process.poll() is None:
            process._process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("rig", [{"autostart": False}], indirect=True)
def test_the_states_are_gone_through_and_back(rig):
    assert rig.state() == "unconfigured"
    assert not rig.change("activate"), "not before it is configured"

    good = rig.weights.read_bytes()
    rig.weights.write_bytes(b"no weights")
    assert not rig.change("configure")
    assert rig.state() == "unconfigured"
    rig.says(ERROR, str(rig.weights))
    assert str(rig.weights) in rig.process.output()
    assert "Traceback" not in rig.process.output()

    rig.weights.write_bytes(good)
    assert rig.change("configure")
    assert rig.state() == "inactive"
    rig.says(OK, "The node is inactive")
    for _ in range(5):
        rig.show(5)
        rig.peer.spin_for(0.05)
    assert rig.poses == [], "an inactive node is silent"

    assert rig.change("activate")
    assert rig.track().header.frame_id == "scope"
    assert rig.change("deactivate")
    assert rig.change("activate"), "and again"
    rig.track()
    assert rig.change("deactivate")
    assert rig.change("cleanup")
    assert rig.state() == "unconfigured"
    assert rig.change("configure")
    assert rig.change("activate")
    rig.track()
    assert rig.change("shutdown"), "from active"
    assert rig.state() == "finalized"
    assert rig.process.stop() == 0


def test_what_is_not_possible_now_is_refused_and_the_node_lives(rig):
    def ask(number=0, label=""):
        request = ChangeState.Request()
        request.transition.id, request.transition.label = number, label
        return rig.call(ChangeState, "change_state", request).success

    states = {"unconfigured": {1}, "inactive": {2, 3}, "active": {4}}
    for state, way in (("active", ["deactivate", "cleanup"]), ("unconfigured", ["configure"]), ("inactive", ["activate"])):
        assert rig.state() == state
        for number in {0, 1, 2, 3, 4, 8, 10, 20, 60, 66, 255} - states[state]:
            assert not ask(number)
        for label in (
            "create",
            "transition_success",
            "activate" if state == "active" else "deactivate",
            "\u00e4 %s",
            "x" * 999,
        ):
            assert not ask(label=label)
        assert rig.state() == state
        for step in way:
            assert rig.change(step)
    assert (
        "The transition 3 is refused: the node is active; possible transitions: deactivate, shutdown." in rig.process.output()
    )
    rig.track()

    for kind, value in ((77, {}), (0, {}), (4, {"string_value": "x"})):  # of no type, not set, of another type
        for name in ("rate_limit", "no_such_parameter", "use_sim_time", ""):
            parameter = Parameter(name=name, value=ParameterValue(type=kind, **value))
            rig.call(SetParameters, "set_parameters", SetParameters.Request(parameters=[parameter]))
            rig.call(
                SetParametersAtomically, "set_parameters_atomically", SetParametersAtomically.Request(parameters=[parameter])
            )
    assert rig.set("rate_limit", 500).successful, "an integer for a double is taken"
    assert rig.get("rate_limit") == 500.0
    assert rig.track(2 * 10**9)
    assert ask(7), "any shutdown is this state's"
    assert rig.state() == "finalized"
    assert not ask(7)
    assert rig.process.stop() == 0
    assert "Traceback" not in rig.process.output()


def test_parameters_say_what_they_are_and_change_where_they_can(rig):
    rig.track()
    assert rig.state() == "active"
    described = rig.call(DescribeParameters, "describe_parameters", DescribeParameters.Request(names=list(PARAMETERS)))
    for (name, parameter), descriptor in zip(PARAMETERS.items(), described.descriptors, strict=True):
        assert descriptor.name == name
        assert parameter.description in descriptor.description
        assert descriptor.read_only is (parameter.change is Change.START)
        ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
        assert [(item.from_value, item.to_value) for item in ranges] == ([parameter.limits] if parameter.limits else [])

    for name, value, words in [
        ("weights", "elsewhere", "-p weights:="),
        ("device", "cuda", "cleanup"),
        ("expected_rate", 10.0, "'ros2 lifecycle set /tracker_node deactivate' and 'ros2 lifecycle set /tracker_node cleanup'"),
        (
            "pose_frame",
            "rectified",
            "'ros2 lifecycle set /tracker_node deactivate' and 'ros2 lifecycle set /tracker_node cleanup'",
        ),
        ("max_instruments", 9, "max_instruments"),
        ("max_instruments", "two", "max_instruments"),
        ("rate_limit", -1.0, "rate_limit"),
    ]:
        before = rig.get(name)
        result = rig.set(name, value)
        assert not result.successful
        assert words in result.reason
        assert rig.get(name) == before

    assert len(rig.track(2 * 10**9).poses) == 2
    assert rig.set("max_instruments", 1).successful
    assert len(rig.track(3 * 10**9).poses) == 1
    assert rig.set("confidence_threshold", 1.0).successful
    assert not any(mark.visible for pose in rig.track(4 * 10**9).poses for mark in pose.landmarks)
    assert rig.set("confidence_threshold", 0.0).successful
    assert all(mark.visible for pose in rig.track(5 * 10**9).poses for mark in pose.landmarks)

    overlays = rig.peer.listen(Image, "/tracker_node/overlay")
    rig.wait(lambda: (rig.show(6 * 10**9), rig.peer.spin_for(0.1), overlays)[-1], "no overlay")
    assert rig.set("overlay", False).successful
    rig.track(7 * 10**9)
    rig.peer.spin_for(0.5)
    overlays.clear()
    rig.track(8 * 10**9)
    rig.peer.spin_for(0.5)
    assert overlays == []

    assert rig.set("rate_limit", 0.1).successful
    rig.peer.spin_for(0.5)
    rig.poses.clear()
    for _ in range(20):
        rig.show(9 * 10**9)
        rig.peer.spin_for(0.05)
    assert len(rig.poses) <= 2


def test_services_switch_it_off_and_on_and_forget_identities(rig):
    rig.track(10**9)
    again = rig.track(10**9 + 1).poses
    known = {pose.track_id for pose in again}
    assert max(known) >= 2
    answer = rig.call(SetBool, "enable", SetBool.Request(data=False))
    assert answer.success
    rig.peer.spin_for(0.5)
    rig.poses.clear()
    rig.says(OK, "Disabled by ~/enable", meanwhile=lambda: rig.show(2 * 10**9))
    assert rig.poses == []
    assert rig.call(SetBool, "enable", SetBool.Request(data=True)).success
    for _ in range(3):  # new pictures, so that identities beyond the first two are given
        rig.track(time.time_ns(), np.random.default_rng().integers(0, 256, (96, 120, 3), np.uint8))
    assert rig.call(Trigger, "reset", Trigger.Request()).success
    assert {pose.track_id for pose in rig.track(time.time_ns()).poses} == {1, 2}
    assert rig.change("deactivate")
    for kind, name, request in ((SetBool, "enable", SetBool.Request(data=True)), (Trigger, "reset", Trigger.Request())):
        refused = rig.call(kind, name, request)
        assert not refused.success
        assert "inactive" in refused.message


def test_time_that_goes_back_begins_anew(rig):
    rig.track(5 * 10**9)
    assert {pose.track_id for pose in rig.track(10**9).poses} == {1, 2}
    assert "stamps jumped back by 4.000 s" in rig.process.output()


def test_diagnostics_tell_of_the_input_the_model_and_the_file(rig):
    rig.says(WARN, f"No image received yet on {TOPIC}")
    values = rig.says(OK, "Tracking at", meanwhile=lambda: (rig.peer.spin_for(0.2), rig.show(time.time_ns())), tracked=1)
    for key in ("input rate", "output rate", "received", "tracked", "dropped", "processing", "memory", "temperature"):
        assert values[key]
    assert (values["state"], values["engine"], values["device"]) == ("active", "torch", "cpu")
    assert values["model"].startswith("tiny@")
    assert values["weights sha256"].startswith(values["model"].partition("@")[2])
    assert "ms" in values["stamp to publication"]

    rig.says(ERROR, "The camera has stopped")
    assert rig.track(time.time_ns()), "it returns"

    replaced = rig.weights.with_name("new")
    replaced.write_bytes(rig.weights.read_bytes())
    replaced.replace(rig.weights)
    rig.says(WARN, "was replaced", meanwhile=lambda: (rig.peer.spin_for(0.2), rig.show(time.time_ns())))


def test_latency_is_not_applicable_with_stamps_of_another_clock(rig):
    values = rig.says(OK, "Tracking at", meanwhile=lambda: (rig.peer.spin_for(0.2), rig.show(5 * 10**9)), tracked=1)
    assert values["stamp to publication"] == "not applicable"


@pytest.mark.parametrize("rig", [{"image_reliability": "reliable"}], indirect=True)
def test_a_camera_that_offers_too_little_is_named_with_both_sides(rig):
    rig.peer.node.destroy_publisher(rig.camera)
    quality = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    rig.camera = rig.peer.node.create_publisher(Image, TOPIC, quality)

    def told():
        rig.show(1)
        rig.peer.spin_for(0.1)
        return "image_reliability:=best_effort" in rig.process.output()

    rig.wait(told, "no word of the QoS")
    line = next(line for line in rig.process.output().splitlines() if "image_reliability:=" in line)
    assert "/peer" in line
    assert "offers best effort, volatile" in line
    assert "requests reliable, volatile" in line
    rig.says(WARN, "offers best effort")


# 1 Hz: a lease of 2.5 s, which a busy machine keeps as well. The lease is what is tested; at 30 Hz it is 83 ms.
@pytest.mark.parametrize("rig", [{"expected_rate": 1.0}], indirect=True)
def test_a_dead_tracker_is_told_from_a_camera_that_stopped(rig):
    events = rig.peer.watch_over(InstrumentPoseArray, "/tracker_node/poses", 2.5)
    rig.track()
    rig.wait(lambda: events["seen"] and events["alive"], "the controller's subscription does not match")
    assert rig.poses, "a subscriber with the default quality is served as well"

    # The camera stops: no poses, but a tracker that lives.
    deadlines = events["deadlines"]
    rig.wait(lambda: events["deadlines"] > deadlines, "no deadline was missed")
    end = time.monotonic() + 6
    while time.monotonic() < end:
        rig.peer.spin_for(0.1)
        assert events["alive"], "an idle tracker is alive"

    began = time.monotonic()
    rig.process._process.send_signal(signal.SIGSTOP)
    rig.peer.wait_for(lambda: not events["alive"], 60.0, "nobody noticed that it is dead")
    assert time.monotonic() - began < 2.5 + 5.0
    rig.process._process.send_signal(signal.SIGCONT)
    rig.wait(lambda: events["alive"], "nobody noticed that it is back")
    rig.track()


CAMERA = {"k": [100.0, 0.0, 60.0, 0.0, 100.0, 48.0, 0.0, 0.0, 1.0], "r": [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0]}


@pytest.mark.parametrize("rig", [{"pose_frame": "rectified"}], indirect=True)
def test_poses_in_rectified_pixels(rig):
    rig.says(ERROR, "camera_info", meanwhile=lambda: (rig.peer.spin_for(0.1), rig.show(10**9)))
    assert "No camera_info received on /scope/camera_info" in rig.process.output()
    # Twice the focal length and another centre, no distortion: x' = 2 (x - 60) + 70, y' = 2 (y - 48) + 40.
    p = [200.0, 0, 70.0, 0, 0, 200.0, 40.0, 0, 0, 0, 1.0, 0]
    calibration = CameraInfo(width=120, height=96, distortion_model="plumb_bob", d=[0.0] * 5, p=p, **CAMERA)
    told = rig.peer.publisher(CameraInfo, "/scope/camera_info")
    overlays = rig.poses
    overlays.clear()

    def rectified():
        told.publish(calibration)
        rig.show(2 * 10**9)
        rig.peer.spin_for(0.2)
        return rig.poses

    rig.wait(rectified, "no poses")
    found = rig.poses[-1].poses
    with Raw(rig) as raw:
        assert sum(np.isfinite(mark.x) for marks in raw for mark in marks) >= 5
        for a, b in zip(found, raw, strict=True):
            for mark, before in zip(a.landmarks, b, strict=True):
                expected = (2 * (before.x - 60) + 70, 2 * (before.y - 48) + 40)
                assert (mark.x, mark.y) == pytest.approx(expected, abs=1e-4, nan_ok=True)
                assert mark.covariance == pytest.approx(4 * np.asarray(before.covariance).ravel(), rel=1e-4, nan_ok=True)


class Raw:
    """The same picture tracked without ROS."""

    def __init__(self, rig):
        self.rig = rig

    def __enter__(self):
        from csl_tracker.tracker import Tracker

        tracker = Tracker.from_weights(self.rig.weights, device="cpu", engine="torch", always_report=True)
        return [instrument.landmarks for instrument in tracker.track(PICTURE, 2.0, segmentation=False).instruments]

    def __exit__(self, *problem):
        return None
