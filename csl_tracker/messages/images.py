"""Convert image messages to arrays and back, for any object with the fields of a ``sensor_msgs`` message.

A ``CvBridge`` (:mod:`csl_tracker.node.cv_bridge`) is used if given, except for encodings that it does not treat as colours. The
same tests cover both conversions.
"""

from __future__ import annotations

import array
import io
from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Image
from csl_tracker.errors import BagError, ImageError
from csl_tracker.image_files import image_problem, size_problem
from csl_tracker.messages import topics
from csl_tracker.messages.compressed_format import UnknownFormatError, parse_format
from csl_tracker.messages.poses import bag_types, make_header
from csl_tracker.messages.types import typestore

AnyImage = npt.NDArray[Any]


class ImageMessage(Protocol):
    """The fields of ``sensor_msgs/Image`` used here."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def encoding(self) -> str:
        """Pixel layout, as in ``sensor_msgs/image_encodings.hpp``."""

    @property
    def step(self) -> int:
        """Bytes per row, including padding."""

    @property
    def is_bigendian(self) -> int | bool:
        """Whether 16-bit samples are big-endian."""

    @property
    def data(self) -> Any:
        """Pixel data: ``array.array('B')``, ``bytes`` or a uint8 array."""


class UnusableImageError(ImageError):
    """A message without a usable image.

    Attributes:
        reason: Key for counting: ``size``, ``step``, ``data``, ``encoding`` or ``decode``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _from(code: int) -> Callable[[AnyImage], AnyImage]:
    return lambda image: cv2.cvtColor(image, code)


def _same(image: AnyImage) -> AnyImage:
    return image


# encoding -> (channels, bytes per channel, conversion to RGB of the same depth)
_PACKED: dict[str, tuple[int, int, Callable[[AnyImage], AnyImage]]] = {
    "rgb8": (3, 1, _same),
    "bgr8": (3, 1, _from(cv2.COLOR_BGR2RGB)),
    "rgba8": (4, 1, _from(cv2.COLOR_RGBA2RGB)),
    "bgra8": (4, 1, _from(cv2.COLOR_BGRA2RGB)),
    "mono8": (1, 1, _from(cv2.COLOR_GRAY2RGB)),
    "8UC1": (1, 1, _from(cv2.COLOR_GRAY2RGB)),
    "8UC3": (3, 1, _from(cv2.COLOR_BGR2RGB)),
    "8UC4": (4, 1, _from(cv2.COLOR_BGRA2RGB)),
    "rgb16": (3, 2, _same),
    "bgr16": (3, 2, _from(cv2.COLOR_BGR2RGB)),
    "rgba16": (4, 2, _from(cv2.COLOR_RGBA2RGB)),
    "bgra16": (4, 2, _from(cv2.COLOR_BGRA2RGB)),
    "mono16": (1, 2, _from(cv2.COLOR_GRAY2RGB)),
    "16UC1": (1, 2, _from(cv2.COLOR_GRAY2RGB)),
    "16UC3": (3, 2, _from(cv2.COLOR_BGR2RGB)),
    "16UC4": (4, 2, _from(cv2.COLOR_BGRA2RGB)),
    "yuv422": (2, 1, _from(cv2.COLOR_YUV2RGB_UYVY)),
    "uyvy": (2, 1, _from(cv2.COLOR_YUV2RGB_UYVY)),
    "yuv422_yuy2": (2, 1, _from(cv2.COLOR_YUV2RGB_YUY2)),
    "yuyv": (2, 1, _from(cv2.COLOR_YUV2RGB_YUY2)),
    **{
        f"bayer_{pattern}{8 * depth}": (1, depth, _from(code))
        for pattern, code in (
            ("rggb", cv2.COLOR_BayerRGGB2RGB),
            ("bggr", cv2.COLOR_BayerBGGR2RGB),
            ("gbrg", cv2.COLOR_BayerGBRG2RGB),
            ("grbg", cv2.COLOR_BayerGRBG2RGB),
        )
        for depth in (1, 2)
    },
}
# A luma plane followed by an interleaved chroma plane of half the height.
_SEMI_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}
# Chroma is stored per pair of columns (or rows), so that sizes must be even.
_PAIRED_COLUMNS = {"yuv422", "uyvy", "yuv422_yuy2", "yuyv", *_SEMI_PLANAR}

ENCODINGS: tuple[str, ...] = (*_PACKED, *_SEMI_PLANAR)
"""Encodings supported by :func:`to_rgb`. ``8UCn`` and ``16UCn`` have no colour order; BGR is assumed, as in OpenCV."""

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"

CV_BRIDGE_ENCODINGS = frozenset(
    name
    for name in _PACKED
    if name not in ("uyvy", "yuyv") and "UC" not in name and not (name.startswith("bayer") and name.endswith("16"))
)
"""Encodings that the ``cv_bridge`` of every ROS 2 distribution converts to ``rgb8``."""


def to_rgb(message: ImageMessage, cv_bridge: Any | None = None) -> Image:
    """Convert an image message to RGB.

    Args:
        message: The image. Rows may be padded (``step`` larger than a row's bytes).
        cv_bridge: Result of :func:`csl_tracker.node.cv_bridge.find_cv_bridge`, or None.

    Returns:
        uint8 (height, width, 3), RGB; 16-bit samples are scaled by 255 / 65535. Read-only: it may share the message's memory.

    Raises:
        UnusableImageError: The message is empty, its encoding unknown, or its sizes inconsistent.
    """
    rows = _checked_rows(message)
    if cv_bridge is not None and message.encoding in CV_BRIDGE_ENCODINGS and int(message.step) % _pixel_bytes(message) == 0:
        try:
            return np.asarray(cv_bridge.imgmsg_to_cv2(message, desired_encoding="rgb8"), np.uint8)
        except Exception as error:
            raise UnusableImageError(
                "decode", f"cv_bridge cannot convert an image of encoding {message.encoding!r}: {error}."
            ) from error
    height, width = int(message.height), int(message.width)
    if message.encoding in _SEMI_PLANAR:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows[:, :width]), _SEMI_PLANAR[message.encoding]), np.uint8)
    channels, depth, convert = _PACKED[message.encoding]
    pixels: AnyImage = rows[:, : width * channels * depth]
    if depth == 2:
        samples = np.ascontiguousarray(pixels).view(">u2" if message.is_bigendian else "<u2")
        pixels = samples.astype(np.uint16, copy=False)
    shape = (height, width) if channels == 1 else (height, width, channels)
    rgb = convert(pixels.reshape(shape))
    return np.asarray(_to_8_bits(rgb), np.uint8)


def _pixel_bytes(message: ImageMessage) -> int:
    """Bytes per pixel. cv_bridge reads rows as whole pixels, and shears an image whose step is not a multiple of this."""
    channels, depth, _ = _PACKED[message.encoding]
    return channels * depth


def _checked_rows(message: ImageMessage) -> Image:
    """The message's bytes as uint8 (rows, step), after all checks."""
    height, width, step, encoding = int(message.height), int(message.width), int(message.step), message.encoding
    if height <= 0 or width <= 0:
        raise UnusableImageError("size", f"The image is {width}x{height} px; a camera driver must publish at least 1x1 px.")
    if encoding in _SEMI_PLANAR:
        row_bytes, rows = width, height * 3 // 2
    elif encoding in _PACKED:
        channels, depth, _ = _PACKED[encoding]
        row_bytes, rows = width * channels * depth, height
    else:
        raise UnusableImageError(
            "encoding", f"The image has the unknown encoding {encoding!r}; publish one of {', '.join(ENCODINGS)}."
        )
    if (encoding in _PAIRED_COLUMNS and width % 2) or (encoding in _SEMI_PLANAR and height % 2):
        raise UnusableImageError(
            "size", f"The image is {width}x{height} px, but {encoding} stores pixels in pairs; publish an even size."
        )
    if encoding.startswith("bayer") and (width < 3 or height < 3):
        raise UnusableImageError(
            "size", f"The image is {width}x{height} px, too small for the mosaic of {encoding}; publish at least 3x3 px."
        )
    data = message.data
    buffer = np.asarray(data, np.uint8) if isinstance(data, list | tuple) else np.frombuffer(data, np.uint8)
    if buffer.size == 0:
        raise UnusableImageError("data", f"The image of {width}x{height} px carries no data; check the camera driver.")
    if step < row_bytes:
        raise UnusableImageError(
            "step",
            f"The image's step is {step} bytes, but {width} px of {encoding} need {row_bytes} bytes; check the camera driver.",
        )
    if buffer.size != step * rows:
        raise UnusableImageError(
            "data",
            f"The image carries {buffer.size} bytes instead of {step * rows} ({rows} rows of {step}); check the camera driver.",
        )
    problem = size_problem((height, width))
    if problem is not None:
        raise UnusableImageError("size", f"The image cannot be used, since {problem}.")
    return buffer.reshape(rows, step)


def decode_compressed(data: Any, image_format: str = "") -> Image:
    """Decode the data of a ``sensor_msgs/CompressedImage``.

    The codec is detected from the data, and the size is checked before decoding. The EXIF orientation is ignored, so that the
    pixels match ``camera_info``.

    Args:
        data: File content: ``array.array('B')``, ``bytes`` or a uint8 array.
        image_format: The message's ``format``; see :mod:`csl_tracker.messages.compressed_format`.

    Returns:
        uint8 (height, width, 3), RGB; 16-bit samples are scaled by 255 / 65535, and mosaics are demosaiced.

    Raises:
        UnusableImageError: Unknown format, no data, not an image, or an image that is too large.
    """
    try:
        chosen = parse_format(image_format)
    except UnknownFormatError as error:
        raise UnusableImageError("encoding", f"The format {image_format[:80]!r} of a compressed image {error}.") from error
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size == 0:
        raise UnusableImageError("data", "The compressed image carries no data; check the camera driver.")
    content = buffer.tobytes()
    problem = image_problem(io.BytesIO(content))
    if problem is not None:
        raise UnusableImageError(
            problem.kind,
            f"A compressed image (format {image_format[:80]!r}) of {buffer.size} bytes cannot be used: {problem.text}.",
        )
    # OpenCV fills the missing part of a JPEG with grey and only prints a warning.
    cut_off = content.startswith(_JPEG_START) and content.rfind(_JPEG_END) < 0
    flags = cv2.IMREAD_UNCHANGED if chosen.mosaic else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = None if cut_off else cv2.imdecode(buffer, flags)
    except cv2.error:
        image = None
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise UnusableImageError(
            "decode",
            f"The {buffer.size} bytes of a compressed image (format {image_format[:80]!r}) are not an image, or are cut off.",
        )
    if chosen.mosaic:
        rgb = _PACKED[chosen.mosaic][2](_mosaic(image, image_format))
    else:
        rgb = image if chosen.order == "rgb" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return np.asarray(_to_8_bits(rgb), np.uint8)


def _mosaic(image: AnyImage, image_format: str) -> AnyImage:
    """The single channel of a mosaic; some encoders repeat it three times."""
    if image.ndim == 3 and all(np.array_equal(image[..., 0], image[..., channel]) for channel in (1, 2)):
        image = np.ascontiguousarray(image[..., 0])
    if image.ndim == 3 or min(image.shape) < 3:
        raise UnusableImageError(
            "encoding",
            f"The format {image_format[:80]!r} of a compressed image requires a mosaic of 3x3 px or more, but its data"
            f" decodes to {image.shape[1]}x{image.shape[0]} px{' in colour' if image.ndim == 3 else ''}; check the publisher.",
        )
    return image


def _to_8_bits(image: AnyImage) -> AnyImage:
    return cv2.convertScaleAbs(image, alpha=255 / 65535) if image.dtype == np.uint16 else image


def message_to_rgb(message: Any) -> Image:
    """Convert a ``sensor_msgs/Image`` or ``CompressedImage`` to RGB.

    Raises:
        UnusableImageError: See :func:`to_rgb` and :func:`decode_compressed`.
    """
    return decode_compressed(message.data, message.format) if hasattr(message, "format") else to_rgb(message)


def fill_image(message: Any, image: Image) -> Any:
    """Set an image message's size, encoding and data, but not its header.

    Args:
        message: A ``sensor_msgs/Image``.
        image: uint8 (H, W, 3) RGB for ``rgb8``, or uint8 (H, W) for ``mono8``.

    Returns:
        The same message.
    """
    message.height, message.width = int(image.shape[0]), int(image.shape[1])
    message.encoding = "mono8" if image.ndim == 2 else "rgb8"
    message.step = message.width * (1 if image.ndim == 2 else 3)
    message.is_bigendian = 0
    data = array.array("B")  # the only type that the generated setter accepts without checking every byte
    data.frombytes(np.ascontiguousarray(image).data)
    message.data = data
    return message


def image_message(image: Image, stamp_ns: int, frame_id: str = topics.CAMERA_FRAME) -> Any:
    """A ``sensor_msgs/Image`` for a bag: rgb8 for (H, W, 3), mono8 for (H, W)."""
    channels = 1 if image.ndim == 2 else 3
    return typestore().types["sensor_msgs/msg/Image"](
        header=make_header(bag_types(), stamp_ns, frame_id),
        height=image.shape[0],
        width=image.shape[1],
        encoding="mono8" if channels == 1 else "rgb8",
        is_bigendian=0,
        step=image.shape[1] * channels,
        data=np.ascontiguousarray(image).reshape(-1),
    )


def compressed_message(image: Image, quality: int, stamp_ns: int, frame_id: str = topics.CAMERA_FRAME) -> Any:
    """A ``sensor_msgs/CompressedImage`` for a bag: an (H, W, 3) RGB image as JPEG with a quality from 1 to 100."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return typestore().types["sensor_msgs/msg/CompressedImage"](
        header=make_header(bag_types(), stamp_ns, frame_id), format="jpeg", data=data.reshape(-1)
    )


def label_map(message: Any) -> Image:
    """Read the label map, uint8 (H, W), from a mono8 image message.

    Raises:
        BagError: Not mono8, or its size does not match its data.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if message.encoding != "mono8" or step < width or data.size != height * step:
        raise BagError(
            f"A label map must be mono8, but this image is {message.encoding!r}, {width}x{height} px with {data.size} bytes."
        )
    return data.reshape(height, step)[:, :width]
