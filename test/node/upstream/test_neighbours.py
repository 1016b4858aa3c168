"""Detections and annotations in the real messages of ``vision_msgs`` and ``foxglove_msgs``, over real DDS."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2")

import rclpy
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header

from csl_tracker.instruments import ENDOVIS
from csl_tracker.node.optional_outputs import OptionalPublisher, optional_publishers
from csl_tracker.node.processes import NodeProcess
from csl_tracker_msgs.msg import InstrumentPose, InstrumentPoseArray, Landmark

pytestmark = pytest.mark.upstream


def messages(package: str) -> Any:
    return pytest.importorskip(f"{package}.msg", reason=f"{package} cannot be imported: install it beside a sourced ROS 2")


def landmarks(**places: tuple[float, float]) -> list[Landmark]:
    return [
        Landmark(name=name, x=x, y=y, confidence=0.9, visible=not math.isnan(x))
        for name, (x, y) in {**dict.fromkeys(ENDOVIS.landmarks, (math.nan, math.nan)), **places}.items()
    ]


HEADER = Header(frame_id="endoscope")
HEADER.stamp.sec, HEADER.stamp.nanosec = 42, 7
LEFT = InstrumentPose(
    header=HEADER,
    track_id=3,
    instrument="left",
    confidence=0.75,
    roi=RegionOfInterest(x_offset=10, y_offset=20, width=5, height=8),
    landmarks=landmarks(center=(10.0, 20.0), shaft=(14.5, 27.0), left_clasper=(0.0, 0.0)),
)
UNSEEN = InstrumentPose(header=HEADER, track_id=4, instrument="right", landmarks=landmarks())
POSES = InstrumentPoseArray(header=HEADER, image_width=720, image_height=576, poses=[LEFT, UNSEEN])


@dataclass
class Publishing:
    """The optional publishers of a node in this process, and the peer that hears them."""

    publishers: tuple[OptionalPublisher, ...]
    peer: Any

    def receive(self, kind: Any, topic: str, poses: Any) -> Any:
        received = self.peer.listen(kind, topic)

        def heard() -> Any:
            for publisher in self.publishers:
                publisher.publish(poses)
            self.peer.spin_for(0.05)
            return received

        self.peer.wait_for(heard, 30.0, f"nothing on {topic}")
        return received[0]


@pytest.fixture
def publishing(peer: Any) -> Iterator[Publishing]:
    node = rclpy.create_node("tracker_node", context=peer.context)
    try:
        yield Publishing(optional_publishers(node, ENDOVIS), peer)
    finally:
        node.destroy_node()


@pytest.mark.parametrize("package", ["vision_msgs", "foxglove_msgs"])
def test_an_output_is_there_where_its_package_is(publishing: Publishing, package: str) -> None:
    messages(package)
    topics = {output.publisher.topic_name for output in publishing.publishers}
    assert {"vision_msgs": "/tracker_node/detections", "foxglove_msgs": "/tracker_node/annotations"}[package] in topics


def test_detections(publishing: Publishing) -> None:
    kind = messages("vision_msgs").Detection2DArray
    array = publishing.receive(kind, "/tracker_node/detections", POSES)
    assert array.header == HEADER
    (detection,) = array.detections  # what has no box is left out
    assert detection.header == HEADER
    assert detection.id == "3"
    assert [(scored.hypothesis.class_id, scored.hypothesis.score) for scored in detection.results] == [("left", 0.75)]
    box = detection.bbox
    # vision_msgs/create_aabb.hpp: left + width / 2. The pixels 10 to 14 are [10, 15] from the corner.
    assert (box.center.position.x, box.center.position.y, box.center.theta) == (12.5, 24.0, 0.0)
    assert (box.size_x, box.size_y) == (5.0, 8.0)


def test_nothing_seen_is_published_too(publishing: Publishing) -> None:
    kind = messages("vision_msgs").Detection2DArray
    array = publishing.receive(kind, "/tracker_node/detections", InstrumentPoseArray(header=HEADER))
    assert (array.header, array.detections) == (HEADER, [])


def test_annotations_count_from_the_corner_of_the_image(publishing: Publishing) -> None:
    package = messages("foxglove_msgs")
    found = publishing.receive(package.ImageAnnotations, "/tracker_node/annotations", POSES)
    assert [(circle.position.x, circle.position.y) for circle in found.circles] == [(10.5, 20.5), (15.0, 27.5), (0.5, 0.5)]
    (lines,) = found.points
    assert lines.type == package.PointsAnnotation.LINE_LIST
    # Of the skeleton only the pair (center, shaft) has both its ends in sight.
    assert [(point.x, point.y) for point in lines.points] == [(10.5, 20.5), (15.0, 27.5)]
    (text,) = found.texts
    assert text.text == "left #3 0.75"
    assert all(one.timestamp == HEADER.stamp for one in [*found.circles, *found.points, *found.texts])
    color = found.circles[0].fill_color
    assert (color.r, color.g, color.b, color.a) == (*(value / 255 for value in ENDOVIS.landmark_colors[0]), 1.0)


@pytest.mark.parametrize(
    ("package", "name", "topic"),
    [("vision_msgs", "Detection2DArray", "detections"), ("foxglove_msgs", "ImageAnnotations", "annotations")],
)
def test_the_tracker_publishes_them(
    peer: Any, tiny_weights: Path, ros_environment: dict[str, str], tmp_path: Path, package: str, name: str, topic: str
) -> None:
    messages(package)
    kind = getattr(importlib.import_module(f"{package}.msg"), name)
    parameters = {"weights": str(tiny_weights), "device": "cpu", "engine": "torch", "always_report": True, "warm_up_width": 0}
    image = Image(header=HEADER, height=48, width=64, encoding="rgb8", step=192, data=bytes(range(256)) * 36)
    publisher = peer.publisher(Image, "/endoscope/image")
    with NodeProcess("tracker_node", parameters, {"image": "/endoscope/image"}, ros_environment, tmp_path / "log") as process:
        received = peer.listen(kind, f"/tracker_node/{topic}")

        def answered() -> Any:
            assert process.poll() is None, process.output()
            publisher.publish(image)
            peer.spin_for(0.2)
            return received

        peer.wait_for(answered, 90.0, f"nothing on {topic}")
    if topic == "detections":
        assert received[0].header == HEADER
    else:
        assert {one.timestamp.sec for one in received[0].circles} <= {42}
