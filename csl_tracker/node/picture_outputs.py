"""The tracker's colour pictures, each with a JPEG copy on its ``/compressed`` topic.

The copies have the format of ``compressed_image_transport``, so that ``rqt_image_view``, RViz and ``image_transport``
subscribers can show them over networks that are too slow for raw pictures.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage, Image

from csl_tracker.messages import topics

JPEG_QUALITY = 90
"""Of 100. At 720x576 a picture is about 50 kB, 1/25 of the raw size."""

JPEG_FORMAT = "rgb8; jpeg compressed bgr8"
"""``format`` as in ``compressed_image_transport``: raw encoding, codec, and encoding passed to the codec."""

_JPEG_SIDE = 65500
"""Longest image side that libjpeg accepts, px."""


def compress(picture: Any) -> Any:
    """Encode an rgb8 ``sensor_msgs/Image`` as JPEG.

    Returns:
        A ``sensor_msgs/CompressedImage`` with the picture's header; None if the picture is too large for JPEG.
    """
    if max(picture.height, picture.width) > _JPEG_SIDE:
        return None
    rgb: npt.NDArray[np.uint8] = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    data = array.array("B")  # the only type that the generated setter accepts without checking every byte
    data.frombytes(encoded.data)
    return CompressedImage(header=picture.header, format=JPEG_FORMAT, data=data)


class PicturePublisher:
    """Publishes an rgb8 picture raw, as JPEG, or both, depending on the subscribers."""

    def __init__(self, raw: Publisher, compressed: Publisher) -> None:
        self._raw = raw
        self._compressed = compressed

    def get_subscription_count(self) -> int:
        """Number of subscribers of both forms."""
        return int(self._raw.get_subscription_count()) + int(self._compressed.get_subscription_count())

    def publish(self, picture: Any) -> None:
        """Publish an rgb8 ``sensor_msgs/Image`` in each form that has subscribers."""
        if self._raw.get_subscription_count() > 0:
            self._raw.publish(picture)
        if self._compressed.get_subscription_count() > 0 and (message := compress(picture)) is not None:
            self._compressed.publish(message)


def picture_publisher(create: Callable[[Any, str], Publisher], name: str) -> PicturePublisher:
    """Create the publishers of one picture.

    Args:
        create: Creates a publisher from a message type and a topic name.
        name: Topic of the raw picture.
    """
    return PicturePublisher(create(Image, name), create(CompressedImage, name + topics.COMPRESSED_SUFFIX))
