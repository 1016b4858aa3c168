"""The camera's calibration next to the tracker's pictures, for ``image_transport``'s ``CameraSubscriber``.

A ``CameraSubscriber`` replaces the last part of the image topic by ``camera_info`` and pairs both by equal stamps. The pictures
use the raw image's pixels, so the camera's own calibration is valid; only its header becomes that of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from csl_tracker.node.optional_outputs import OptionalPublisher

QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

CAMERA_INFOS = ("~/camera_info", "~/segmentation/camera_info")
"""For ``~/segmentation`` and ``~/overlay``, and for ``~/segmentation/color``."""


def camera_info_publishers(node: Node, latest: Callable[[], Any]) -> tuple[OptionalPublisher, ...]:
    """Create the publishers; they publish once per processed image while they have subscribers.

    Args:
        node: The tracker node.
        latest: Returns the camera's last ``sensor_msgs/CameraInfo``, or None.
    """

    def make(poses: Any) -> Any:
        return calibration_of(poses, latest())

    return tuple(OptionalPublisher(node.create_publisher(CameraInfo, topic, QOS), make) for topic in CAMERA_INFOS)


def calibration_of(poses: Any, calibration: Any) -> Any:
    """The calibration for the image of an ``InstrumentPoseArray``.

    Returns:
        A ``sensor_msgs/CameraInfo`` with the image's header; None without a calibration for the image's size.
    """
    if calibration is None or _image_size(calibration) != (poses.image_width, poses.image_height):
        return None
    fields = {name: getattr(calibration, name) for name in CameraInfo.get_fields_and_field_types()}
    return CameraInfo(**{**fields, "header": poses.header})


def _image_size(calibration: Any) -> tuple[int, int]:
    """Width and height of the images, px; ``width`` and ``height`` are the full sensor, before ROI and binning."""
    width, height = calibration.roi.width or calibration.width, calibration.roi.height or calibration.height
    return width // max(calibration.binning_x, 1), height // max(calibration.binning_y, 1)
