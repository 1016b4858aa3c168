"""Optional outputs of the tracker, for message packages that may not be installed.

- ``~/detections`` (``vision_msgs/Detection2DArray``): bounding boxes;
- ``~/annotations`` (``foxglove_msgs/ImageAnnotations``): landmarks as an overlay on the camera image in Foxglove.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy

from csl_tracker.instruments import InstrumentSet
from csl_tracker.messages.annotations import PACKAGE as FOXGLOVE_MSGS
from csl_tracker.messages.annotations import annotation_types, make_annotations
from csl_tracker.messages.detections import PACKAGE as VISION_MSGS
from csl_tracker.messages.detections import detection_types, make_detections

QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

DETECTIONS = "~/detections"
ANNOTATIONS = "~/annotations"


@dataclass(frozen=True)
class OptionalPublisher:
    """A publisher that converts a pose array only while it has subscribers.

    Attributes:
        publisher: Owned by the node.
        make: Converts an ``InstrumentPoseArray``; None if there is nothing to publish.
    """

    publisher: Publisher
    make: Callable[[Any], Any]

    def publish(self, poses: Any) -> None:
        """Convert and publish an ``InstrumentPoseArray`` if there are subscribers."""
        if self.publisher.get_subscription_count() > 0 and (message := self.make(poses)) is not None:
            self.publisher.publish(message)


def optional_publishers(node: Node, instruments: InstrumentSet) -> tuple[OptionalPublisher, ...]:
    """Create a publisher for each installed message package; log missing ones at debug level.

    Args:
        node: The tracker node.
        instruments: Instruments of its model.
    """
    made = []
    for package, (topic, build) in _OUTPUTS.items():
        try:
            messages = importlib.import_module(f"{package}.msg")
        except ImportError as error:  # not installed, or built for another ROS
            node.get_logger().debug(f"No {topic}: {package} cannot be imported ({error}).")
            continue
        made.append(build(node, topic, messages, instruments))
    return tuple(made)


def _detections(node: Node, topic: str, messages: Any, instruments: InstrumentSet) -> OptionalPublisher:
    make = partial(make_detections, detection_types(messages))
    return OptionalPublisher(node.create_publisher(messages.Detection2DArray, topic, QOS), make)


def _annotations(node: Node, topic: str, messages: Any, instruments: InstrumentSet) -> OptionalPublisher:
    make = partial(make_annotations, annotation_types(messages), instruments=instruments)
    return OptionalPublisher(node.create_publisher(messages.ImageAnnotations, topic, QOS), make)


_OUTPUTS: dict[str, tuple[str, Callable[[Node, str, Any, InstrumentSet], OptionalPublisher]]] = {
    VISION_MSGS: (DETECTIONS, _detections),
    FOXGLOVE_MSGS: (ANNOTATIONS, _annotations),
}
