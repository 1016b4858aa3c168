"""The tracker's coloured pictures, each with a JPEG copy on its ``/compressed`` sibling.

The copies are what ``compressed_image_transport`` would publish, so that ``rqt_image_view``, RViz and ``image_transport``
subscribers read them: for visualisation over a network, where a raw picture of a megabyte is too much.
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
"""Of 100. At 720x576 a picture is about 50 kB, a 25th of the raw one."""

JPEG_FORMAT = "rgb8; jpeg compressed bgr8"
"""``format`` as ``compressed_image_transport`` writes it: the raw encoding, the codec, and what the codec was given."""

_JPEG_SIDE = 65500
"""Longest side of a picture that libjpeg takes, px."""


def compress(picture: Any) -> Any:
    """Encode an rgb8 ``sensor_msgs/Image`` as JPEG.

    Returns:
        A ``sensor_msgs/CompressedImage`` with the picture's header, or None for a picture longer than JPEG allows.
    """
    if max(picture.height, picture.width) > _JPEG_SIDE:
        return None
    rgb: npt.NDArray[np.uint8] = np.frombuffer(picture.data, np.uint8).reshape(picture.height, picture.width, 3)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    data = array.array("B")  # the one type that the generated setter takes without looking at every byte
    data.frombytes(encoded.data)
    return CompressedImage(header=picture.header, format=JPEG_FORMAT, data=data)


class PicturePublisher:
    """Publishes an rgb8 picture raw, as JPEG, or both, as it is asked for. To the node it is one publisher."""

    def __init__(self, raw: Publisher, compressed: Publisher) -> None:
        self._raw = raw
        self._compressed = compressed

    def get_subscription_count(self) -> int:
        """Subscribers of either form: the picture is made only while there are any."""
        return int(self._raw.get_subscription_count()) + int(self._compressed.get_subscription_count())

    def publish(self, picture: Any) -> None:
        """Publish an rgb8 ``sensor_msgs/Image`` in the forms that someone subscribes."""
        if self._raw.get_subscription_count() > 0:
            self._raw.publish(picture)
        if self._compressed.get_subscription_count() > 0 and (message := compress(picture)) is not None:
            self._compressed.publish(message)


def picture_publisher(create: Callable[[Any, str], Publisher], name: str) -> PicturePublisher:
    """Make the publishers of one picture.

    Args:
        create: Makes a publisher of a message type and a name.
        name: Name of the raw picture's topic.
    """
    return PicturePublisher(create(Image, name), create(CompressedImage, name + topics.COMPRESSED_SUFFIX))
