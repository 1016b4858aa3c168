"""JPEG copies of pictures and the calibration beside them, without a node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from csl_tracker.messages.images import decode_compressed, fill_image
from csl_tracker.node.camera_info_outputs import calibration_of
from csl_tracker.node.picture_outputs import PicturePublisher, compress, picture_publisher
from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.ros

HEADER = Header(frame_id="scope")
HEADER.stamp.nanosec = 7


class Heard:
    """Stands for a publisher with so many subscribers."""

    def __init__(self, subscribers: int) -> None:
        self.subscribers = subscribers
        self.messages: list[Any] = []

    def get_subscription_count(self) -> int:
        return self.subscribers

    def publish(self, message: Any) -> None:
        self.messages.append(message)


def picture(height: int = 24, width: int = 32) -> Image:
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0], rgb[..., 2] = 200, 40  # red, so that swapped channels would show
    return fill_image(Image(header=HEADER), rgb)


def test_a_jpeg_copy_has_header_format_and_colours_of_the_picture() -> None:
    copy = compress(picture())
    assert isinstance(copy, CompressedImage)
    assert (copy.header, copy.format) == (HEADER, "rgb8; jpeg compressed bgr8")
    assert bytes(copy.data[:2]) == b"\xff\xd8"
    rgb = decode_compressed(copy.data, copy.format)
    assert rgb.shape == (24, 32, 3)
    assert np.abs(rgb.astype(int) - (200, 0, 40)).max() < 6


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 32767), (3, 2)])
def test_odd_sizes_are_compressed(height: int, width: int) -> None:
    copy = compress(picture(height, width))
    assert decode_compressed(copy.data, copy.format).shape == (height, width, 3)


def test_a_picture_longer_than_jpeg_allows_has_no_copy() -> None:
    raw, jpeg = Heard(1), Heard(1)
    PicturePublisher(raw, jpeg).publish(picture(1, 65501))
    assert (len(raw.messages), len(jpeg.messages)) == (1, 0)


@pytest.mark.parametrize(("raw", "jpeg"), [(0, 0), (1, 0), (0, 2), (3, 1)])
def test_only_what_is_subscribed_is_made(raw: int, jpeg: int) -> None:
    ends = {"/overlay": Heard(raw), "/overlay/compressed": Heard(jpeg)}
    kinds = {}

    def create(kind: type, name: str) -> Heard:
        kinds[name] = kind
        return ends[name]

    publisher = picture_publisher(create, "/overlay")
    assert kinds == {"/overlay": Image, "/overlay/compressed": CompressedImage}
    assert publisher.get_subscription_count() == raw + jpeg
    publisher.publish(picture())
    assert [len(end.messages) for end in ends.values()] == [min(raw, 1), min(jpeg, 1)]


def info(**fields: Any) -> CameraInfo:
    return CameraInfo(header=Header(frame_id="other"), **{"width": 32, "height": 24, **fields})


@pytest.mark.parametrize(
    "calibration",
    [
        info(k=np.arange(9.0), d=[0.1, 0.2], distortion_model="plumb_bob"),
        info(width=64, height=48, binning_x=2, binning_y=2),
        info(width=640, height=480, roi=RegionOfInterest(width=32, height=24, x_offset=5)),
        info(width=640, height=480, roi=RegionOfInterest(width=64, height=24), binning_x=2),
    ],
)
def test_the_calibration_is_the_cameras_under_the_images_header(calibration: CameraInfo) -> None:
    made = calibration_of(InstrumentPoseArray(header=HEADER, image_width=32, image_height=24), calibration)
    assert made.header == HEADER
    assert calibration.header.frame_id == "other", "the camera's own message is left alone"
    made.header = calibration.header
    assert made == calibration


@pytest.mark.parametrize("calibration", [None, info(width=24, height=32), info(width=0, height=0), info(binning_x=2)])
def test_without_a_calibration_of_the_images_size_there_is_none(calibration: CameraInfo | None) -> None:
    assert calibration_of(InstrumentPoseArray(header=HEADER, image_width=32, image_height=24), calibration) is None
