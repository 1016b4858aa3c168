"""What is said of a topic from which no images come: topics of another type, a doubled suffix, nobody who publishes."""

import time

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from csl_tracker.node.hints import LAUNCHED
from csl_tracker.node.inputs import explain_images, explain_topic
from csl_tracker.node.processes import NodeProcess
from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.ros

RAW, JPEG = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@pytest.fixture
def node(peer):
    made = rclpy.create_node("asking", context=peer.context)
    yield made
    made.destroy_node()


@pytest.mark.parametrize(
    ("published", "image", "compressed", "words"),
    [
        ({"/t/a": Image}, "/t/a", False, ()),
        ({"/t/a/compressed": CompressedImage}, "/t/a", True, ()),
        (
            {"/t/b/compressed": CompressedImage},
            "/t/b/compressed",
            False,
            ("/t/b/compressed is published as " + JPEG, f"expects {RAW}", "'-p image_transport:=compressed -r image:=/t/b'"),
        ),
        (
            {"/t/c/compressed": CompressedImage},
            "/t/c",
            False,
            (
                "No image publisher on /t/c",
                "/t/c/compressed has compressed images",
                "'-p image_transport:=compressed -r image:=/t/c'",
            ),
        ),
        (
            {"/t/d/compressed": CompressedImage},
            "/t/d/compressed",
            True,
            ("No publisher on /t/d/compressed/compressed", "already ends with /compressed", "'-r image:=/t/d'"),
        ),
        (
            {"/t/e": Image},
            "/t/e",
            True,
            ("No image publisher on /t/e/compressed", "'-p image_transport:=raw -r image:=/t/e'"),
        ),
        (
            {"/t/f/compressed": Image},
            "/t/f",
            True,
            (
                "/t/f/compressed is published as " + RAW,
                f"expects {JPEG}",
                "'-p image_transport:=raw -r image:=/t/f/compressed'",
            ),
        ),
        ({"/t/g": CompressedImage}, "/t/g", False, ("/t/g is published as " + JPEG, "republish them as /t/g/compressed")),
        (
            {"/t/h": CameraInfo, "/t/x": Image},
            "/t/h",
            False,
            ("sensor_msgs/msg/CameraInfo by /asking", "images are on /t/x", "'-r image:=/t/x'"),
        ),
        ({"/t/x": Image}, "/t/nothing", False, ("No image publisher on /t/nothing", "images are on /t/x")),
        ({}, "/t/nothing", False, ("has no image topic of a camera; start the camera",)),
        (
            {
                "/t/tracker/poses": InstrumentPoseArray,
                "/t/tracker/overlay": Image,
                "/t/tracker/color/compressed": CompressedImage,
            },
            "/t/nothing",
            False,
            ("has no image topic of a camera; start the camera",),
        ),
        (
            {"/t/tracker/poses": InstrumentPoseArray, "/t/tracker/overlay": Image, "/t/trackers": Image},
            "/t/nothing",
            False,
            ("images are on /t/trackers;",),
        ),
    ],
)
def test_what_is_really_there_is_named(peer, node, monkeypatch, published, image, compressed, words):
    monkeypatch.delenv(LAUNCHED, raising=False)
    publishers = [node.create_publisher(kind, topic, 1) for topic, kind in published.items()]
    peer.wait_for(lambda: all(node.get_publishers_info_by_topic(publisher.topic_name) for publisher in publishers))
    found = explain_images(node, image, compressed)
    assert bool(found) is bool(words)
    for word in words:
        assert word in found[0]
    for publisher in publishers:
        node.destroy_publisher(publisher)


def test_other_topics(peer, node):
    publishers = [node.create_publisher(Image, "/u/poses", 1), node.create_publisher(CameraInfo, "/u/info", 1)]
    peer.wait_for(lambda: all(node.get_publishers_info_by_topic(publisher.topic_name) for publisher in publishers))
    wanted = "sensor_msgs/msg/CameraInfo"
    assert explain_topic(node, "/u/info", wanted) == []
    (sentence,) = explain_topic(node, "/u/poses", wanted)
    assert f"/u/poses is published as {RAW} by /asking, but this node expects {wanted}." == sentence
    assert "No publisher on /u/none; sensor_msgs/msg/CameraInfo is on /u/info." in explain_topic(node, "/u/none", wanted)


@pytest.mark.parametrize("launched", [False, True])
def test_the_node_says_it_in_log_and_diagnostics(peer, tiny_weights, ros_environment, tmp_path, launched):
    environment = {**ros_environment, **({LAUNCHED: "tracker.launch.py"} if launched else {})}
    camera = peer.publisher(CompressedImage, "/cam/image_raw/compressed")
    said = peer.listen(DiagnosticArray, "/diagnostics")
    parameters = {"weights": str(tiny_weights), "device": "cpu", "engine": "torch", "warm_up_width": 0}
    remedy = (
        "'image_transport:=compressed image:=/cam/image_raw'"
        if launched
        else "'-p image_transport:=compressed -r image:=/cam/image_raw'"
    )
    with NodeProcess(
        "tracker_node", parameters, {"image": "/cam/image_raw/compressed"}, environment, tmp_path / "log"
    ) as process:

        def told():
            assert process.poll() is None, process.output()
            camera.publish(CompressedImage(format="jpeg"))
            peer.spin_for(0.05)
            return remedy in process.output() and any(remedy in s.message for one in said for s in one.status)

        peer.wait_for(told, 90.0, "no word of the type")
        time.sleep(2.5)
        assert process.output().count("is published as") == 1, "and once is enough"
        assert f"is published as {JPEG} by /peer" in process.output()
        assert process.stop() == 0
