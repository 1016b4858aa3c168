import array
import gc
import re
import signal
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from csl_tracker.clock import NS
from csl_tracker.instruments import ENDOVIS
from csl_tracker.messages.images import decode_compressed, fill_image, to_rgb
from csl_tracker.messages.poses import make_header
from csl_tracker.node import managed_node, tracker_node
from csl_tracker.node.activation import Activation
from csl_tracker.node.processes import NodeProcess
from csl_tracker.node.ros_types import ROS_TYPES
from csl_tracker.node.session_ports import InputFrame
from csl_tracker.node.tracker_outputs import TrackerOutputs
from csl_tracker_msgs.msg import InstrumentPose, InstrumentPoseArray

pytestmark = pytest.mark.ros

TOPIC = "/endoscope/image_raw"
OTHER_TOPIC = "/endoscope/left/image_raw"  # for a node beside the module's own, which must not answer too
RNG = np.random.default_rng(5)
PICTURE = RNG.integers(0, 256, (96, 120, 3), np.uint8)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (["weights:=/nowhere/model.safetensors"], "/nowhere/model.safetensors"),
        (["weights:=FOREIGN"], "FOREIGN"),
        (["weights:=TINY", "device:=tpu"], "tpu"),
        (["weights:=TINY", "engine:=abacus"], "abacus"),
        (["image_transport:=h264"], "h264"),
        (["max_instruments:=0"], "max_instruments"),
        (["max_instruments:=two"], "max_instruments"),
        (["confidence_threshold:=1.5"], "confidence_threshold"),
        (["weights"], "weights"),
    ],
)
def test_a_wrong_parameter_is_one_sentence_and_status_2(
    ros_environment, tiny_weights, tmp_path, monkeypatch, capfd, parameters, words
):
    foreign = tmp_path / "FOREIGN"
    foreign.write_bytes(b"\x00" * 100)
    arguments = ["tracker_node", "--ros-args"]
    for parameter in parameters:
        arguments += ["-p", parameter.replace("FOREIGN", str(foreign)).replace("TINY", str(tiny_weights))]
    assert tracker_node.main(arguments) == 2
    error = capfd.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("tracker_node: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in error


def test_a_misspelt_parameter_is_named(ros_environment, capfd):
    arguments = ["tracker_node", "--ros-args", "-p", "weight:=a.safetensors", "-p", "weights:=/nowhere"]
    assert tracker_node.main(arguments) == 2
    assert "tracker_node: tracker_node has no parameter 'weight' (did you mean weights?)" in capfd.readouterr().err


def start(tiny_weights, environment, log, topic=TOPIC, **parameters):
    given = {
        "weights": str(tiny_weights),
        "device": "cpu",
        "engine": "torch",
        "warm_up_width": 120,
        "warm_up_height": 96,
        **parameters,
    }
    return NodeProcess("tracker_node", given, {"image": topic}, environment, log)


@pytest.fixture(scope="module")
def tracker(tiny_weights, ros_environment, tmp_path_factory):
    """The node as a process of its own; it always reports two instruments."""
    log = tmp_path_factory.mktemp("log") / "tracker.log"
    with start(tiny_weights, ros_environment, log, always_report=True) as process:
        yield process


def image(stamp_ns: int, picture: np.ndarray = PICTURE, frame_id: str = "endoscope") -> Image:
    return fill_image(Image(header=make_header(ROS_TYPES, stamp_ns, frame_id)), picture)


def connect(peer, process, topic=TOPIC, kind=Image):
    """Publisher of images and what comes back, once both ends know each other."""
    publisher = peer.publisher(kind, topic)
    poses = peer.listen(InstrumentPoseArray, "/tracker_node/poses")

    def ready():
        assert process.poll() is None, process.output()
        return publisher.get_subscription_count() and peer.node.count_publishers("/tracker_node/poses")

    peer.wait_for(ready, 60.0, "no tracker")
    # Discovery is known on this side only; a frame that comes back proves both.
    probe = image(1) if kind is Image else compressed(1)

    def answered():
        publisher.publish(probe)
        peer.spin_for(0.2)
        return poses

    peer.wait_for(answered, 60.0, "no answer to any frame")
    peer.spin_for(0.3)
    poses.clear()
    return publisher, poses


def broken(**changes) -> Image:
    message = image(7)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


BROKEN = {
    "size": broken(height=0, width=0, step=0, data=array.array("B")),
    "data": broken(data=array.array("B", bytes(100))),
    "step": broken(step=10),
    "encoding": broken(encoding="h265"),
}


def test_the_node_lives_on_after_broken_images_and_says_why(peer, tracker):
    publisher, poses = connect(peer, tracker)
    for reason, message in BROKEN.items():

        def named(reason=reason, message=message):
            publisher.publish(message)
            peer.spin_for(0.05)
            return f"Frame not used ({reason}" in tracker.output()

        peer.wait_for(named, what=f"no warning of {reason}")
    assert poses == []
    publisher.publish(image(99))
    peer.wait_for(lambda: poses, what="the valid frame after the broken ones")
    assert poses[0].header.stamp.nanosec == 99


def test_a_warning_comes_at_most_every_few_seconds(peer, tiny_weights, ros_environment, tmp_path):
    with start(tiny_weights, ros_environment, tmp_path / "log", OTHER_TOPIC) as process:
        publisher, _ = connect(peer, process, OTHER_TOPIC)
        began = time.monotonic()

        def named():
            publisher.publish(BROKEN["encoding"])
            peer.spin_for(0.02)
            return "Frame not used (encoding" in process.output()

        peer.wait_for(named, what="no warning at all")
        end = time.monotonic() + 2
        while time.monotonic() < end:
            named()
        assert process.stop() == 0
        elapsed_s = time.monotonic() - began
        unusable = re.search(r"frames received, .*, unusable: (\d+) encoding$", process.complaint())
        assert unusable, process.complaint()
        assert int(unusable[1]) >= 10, "broken frames have come, and many more than warnings"
        assert 1 <= process.output().count("Frame not used (encoding") <= 1 + elapsed_s // managed_node.WARNING_PERIOD_S


@pytest.mark.parametrize(("stamp", "frame_id"), [(1_700_000_000_123_456_789, "endoscope_left"), (5, ""), (0, "Kamera_äöü")])
def test_the_header_is_the_images_own(peer, tracker, stamp, frame_id):
    publisher, poses = connect(peer, tracker)
    single = peer.listen(InstrumentPose, "/tracker_node/pose")
    peer.wait_for(lambda: peer.node.count_publishers("/tracker_node/pose"))

    def both():
        publisher.publish(image(stamp, frame_id=frame_id))
        peer.spin_for(0.1)
        return poses and single

    peer.wait_for(both)
    header = make_header(ROS_TYPES, stamp, frame_id)
    assert {repr(message.header) for message in [*poses, *single, *(pose for one in poses for pose in one.poses)]} == {
        repr(header)
    }


def test_a_pose_array_is_complete(peer, tracker):
    publisher, poses = connect(peer, tracker)
    publisher.publish(image(42))
    peer.wait_for(lambda: poses)
    found = poses[0]
    assert (found.image_width, found.image_height) == (120, 96)
    assert found.model.startswith("tiny@")
    assert 0 < found.processing_time.sec * NS + found.processing_time.nanosec < 10 * NS
    assert len(found.poses) == 2
    for pose in found.poses:
        assert tuple(mark.name for mark in pose.landmarks) == ENDOVIS.landmarks
        assert pose.track_id >= 1


def test_pictures_have_the_images_size_and_header(peer, tracker):
    publisher, _ = connect(peer, tracker)
    topics = {"segmentation": "mono8", "segmentation/color": "rgb8", "overlay": "rgb8"}
    received = {name: peer.listen(Image, f"/tracker_node/{name}") for name in topics}

    def all_there():
        publisher.publish(image(123_456))
        peer.spin_for(0.1)
        return all(received.values())

    peer.wait_for(all_there, what=f"pictures, got {[name for name in topics if received[name]]}")
    for name, encoding in topics.items():
        picture = received[name][0]
        assert (picture.encoding, picture.height, picture.width) == (encoding, 96, 120)
        assert picture.header == Header(stamp=picture.header.stamp, frame_id="endoscope")
        assert picture.header.stamp.nanosec == 123_456
        assert len(picture.data) == picture.step * picture.height
    assert max(received["segmentation"][0].data) < ENDOVIS.num_classes


def test_over_a_network_pictures_come_as_jpeg_with_the_cameras_calibration_beside_them(peer, tracker):
    publisher, _ = connect(peer, tracker)
    names = ("overlay/compressed", "segmentation/color/compressed")
    pictures = {name: peer.listen(CompressedImage, f"/tracker_node/{name}") for name in names}
    infos = {name: peer.listen(CameraInfo, f"/tracker_node/{name}camera_info") for name in ("", "segmentation/")}
    camera = peer.publisher(CameraInfo, f"{TOPIC.rpartition('/')[0]}/camera_info")
    calibration = CameraInfo(header=Header(frame_id="another"), width=120, height=96, distortion_model="plumb_bob")
    calibration.k[0] = 99.5

    def all_there():
        camera.publish(calibration)
        publisher.publish(image(654_321))
        peer.spin_for(0.1)
        return all(pictures.values()) and all(infos.values())

    peer.wait_for(all_there, what=f"pictures and calibrations, got {pictures.keys()} {infos.keys()}")
    for name in names:
        picture = pictures[name][-1]
        assert picture.format == "rgb8; jpeg compressed bgr8"
        assert decode_compressed(picture.data, picture.format).shape == (96, 120, 3)
        assert (picture.header.stamp.nanosec, picture.header.frame_id) == (654_321, "endoscope")
    for info in (infos[""][-1], infos["segmentation/"][-1]):
        assert (info.header.stamp.nanosec, info.header.frame_id) == (654_321, "endoscope")
        assert (info.width, info.height, info.k[0], info.distortion_model) == (120, 96, 99.5, "plumb_bob")


def test_of_a_flood_of_frames_the_newest_is_tracked(peer, tiny_weights, ros_environment, tmp_path):
    with start(tiny_weights, ros_environment, tmp_path / "log", OTHER_TOPIC) as process:
        publisher, poses = connect(peer, process, OTHER_TOPIC)
        message = image(0, cv2.resize(PICTURE, (640, 480)))  # made once, so that publishing is much faster than tracking
        sent = []

        def send():
            sent.append(1000 + len(sent))
            message.header.stamp.nanosec = sent[-1]
            publisher.publish(message)

        flood = 150
        for _ in range(flood):
            send()
            peer.executor.spin_once(timeout_sec=0.0)
        patience = time.monotonic() + 3

        def newest_is_answered():
            nonlocal patience
            if time.monotonic() > patience:
                send()  # best effort may lose any frame, the last one too; then a newer one is the newest
                patience = time.monotonic() + 3
            return poses and poses[-1].header.stamp.nanosec == sent[-1]

        peer.wait_for(newest_is_answered, 60.0, "the last frame")
        stamps = [message.header.stamp.nanosec for message in poses]
        assert stamps == sorted(set(stamps)), "in order, none twice"
        assert len([stamp for stamp in stamps if stamp < 1000 + flood]) < flood, "it could not keep up"
        assert process.stop() == 0
        counts = re.fullmatch(r"(\d+) frames received, (\d+) processed, (\d+) dropped for a newer one", process.complaint())
        assert counts, process.complaint()
        received, processed, dropped = map(int, counts.groups())
        assert received == processed + dropped
        assert dropped > 0, "the node itself has dropped, not the transport alone"


def compressed(stamp: int, data: bytes | None = None) -> CompressedImage:
    content = cv2.imencode(".jpg", PICTURE[..., ::-1])[1].tobytes() if data is None else data
    return CompressedImage(header=make_header(ROS_TYPES, stamp, "c"), format="jpeg", data=array.array("B", content))


def test_compressed_images_and_an_empty_array_when_nothing_is_seen(peer, tiny_weights, ros_environment, tmp_path):
    with start(
        tiny_weights, ros_environment, tmp_path / "log", image_transport="compressed", confidence_threshold=1.0
    ) as process:
        publisher, poses = connect(peer, process, f"{TOPIC}/compressed", CompressedImage)

        def named():
            publisher.publish(compressed(5, b"no jpeg"))
            peer.spin_for(0.05)
            return "Frame not used (decode" in process.output()

        peer.wait_for(named)
        publisher.publish(compressed(6))
        peer.wait_for(lambda: poses)
        assert [(message.header.stamp.nanosec, len(message.poses)) for message in poses] == [(6, 0)]
        assert process.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_cleanly(tiny_weights, ros_environment, tmp_path, number):
    with start(tiny_weights, ros_environment, tmp_path / "log") as process:
        end = time.monotonic() + 60
        while "ready: " not in process.output():
            assert process.poll() is None, process.output()
            assert time.monotonic() < end
            time.sleep(0.05)
        ready = next(line for line in process.output().splitlines() if "ready: " in line)
        for part in ("model tiny@", "device cpu", "engine ", "input 64x64 px", TOPIC):
            assert part in ready
        process._process.send_signal(number)
        assert process.wait(20) == 0
        assert "Traceback" not in process.output()
        assert process.complaint() == "0 frames received, 0 processed, 0 dropped for a newer one"


def test_what_is_there_after_configuring_is_kept_out_of_garbage_collection(peer, tiny_weights):
    from rclpy.parameter import Parameter

    values = {"weights": str(tiny_weights), "device": "cpu", "engine": "torch", "warm_up_width": 0}
    node = tracker_node.TrackerNode(
        context=peer.context, parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
    )
    gc.unfreeze()
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert gc.get_freeze_count() > 0
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
        assert gc.get_freeze_count() == 0
    finally:
        node.destroy_node()


def frame(stamp):
    message = image(stamp)
    return InputFrame(stamp, message.header, lambda: to_rgb(message))


def test_the_segmentation_is_made_only_while_someone_subscribes(peer, tiny_weights):
    """The node in this process, so that one can see what it asks of its tracker."""
    from rclpy.parameter import Parameter

    values = {"weights": str(tiny_weights), "device": "cpu", "engine": "torch", "warm_up_width": 0}
    node = tracker_node.TrackerNode(
        context=peer.context, parameter_overrides=[Parameter(name, value=value) for name, value in values.items()]
    )
    peer.executor.add_node(node)
    try:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        asked = []
        session, outputs = node.session, node.outputs
        localize = session.tracker.localize
        session.tracker.localize = lambda *args, **kwargs: (asked.append(kwargs["segmentation"]), localize(*args, **kwargs))[1]
        activation = Activation(1, session.tracker, 0.0)
        session._track(activation, outputs, frame(1))
        assert asked == [False]
        masks = peer.listen(Image, "/tracker_node/segmentation")
        peer.wait_for(outputs.subscribed_pictures)
        session._track(activation, outputs, frame(2))
        assert asked == [False, True]
        peer.wait_for(lambda: masks)
        assert [mask.header.stamp.nanosec for mask in masks] == [2]
        order = []
        publish = outputs.publish_poses
        outputs.publish_poses = lambda *args: (publish(*args), order.append("poses"))

        def begun(*args, **kwargs):
            result, make_label_map = localize(*args, **kwargs)
            return result, lambda: (order.append("label map"), make_label_map())[1]

        session.tracker.localize = begun
        session._track(activation, outputs, frame(3))
        assert order == ["poses", "label map"], "nothing waits for a picture"
    finally:
        peer.executor.remove_node(node)
        node.close()
        node.destroy_node()


@pytest.mark.parametrize("alive", [True, False])
def test_a_heartbeat_fails_silently_only_after_the_shutdown_of_ros(alive):
    def fail():
        raise RuntimeError("context is not valid")

    outputs = TrackerOutputs.__new__(TrackerOutputs)
    outputs._poses = SimpleNamespace(assert_liveliness=fail)
    outputs._node = SimpleNamespace(context=SimpleNamespace(ok=lambda: alive))
    if alive:
        with pytest.raises(RuntimeError, match="context"):
            outputs.assert_liveliness()
    else:
        outputs.assert_liveliness()
