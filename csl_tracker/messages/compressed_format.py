"""Parse the ``format`` of a ``sensor_msgs/CompressedImage`` as compressed_image_transport does.

Its publisher writes ``ENCODING; CODEC compressed TARGET``: the encoding of the raw image, the codec, and the encoding to which
the image was converted before OpenCV compressed it (``rgb8; jpeg compressed bgr8``). Cameras and other programs write only the
codec (``jpeg``). Its subscriber assumes that a colour image without a target, or with a target other than BGR, was compressed
in RGB order, so that OpenCV decodes it with red and blue swapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CODECS = ("jpeg", "png", "webp", "tiff", "bmp", "gif")
_SAME = {"jpg": "jpeg", "tif": "tiff"}
_DEPTH = ("compresseddepth", "rvl")
_COLOURS = {
    f"{order}{bits}": order.removesuffix("a") for order in ("bgr", "bgra", "rgb", "rgba") for bits in (8, 16)
}  # encoding -> order
_AS_STORED = {"mono8", "mono16", "8uc1", "16uc1", "8uc3", "8uc4", "16uc3", "16uc4"}
_MOSAICS = {f"bayer_{pattern}{bits}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)}
_ONLY_BEFORE = {"yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"}
"""Raw encodings that a codec cannot store; the image was converted to BGR or grey."""


class UnknownFormatError(ValueError):
    """The format is unknown; the message is the end of a sentence."""


@dataclass(frozen=True)
class CompressedFormat:
    """How to interpret the data.

    Attributes:
        order: Channel order after decoding with OpenCV: ``bgr``, or ``rgb`` if the image was compressed in that order.
        mosaic: Bayer encoding of the data, such as ``bayer_rggb8``; None if it is not a mosaic.
    """

    order: Literal["bgr", "rgb"] = "bgr"
    mosaic: str | None = None


def parse_format(text: str) -> CompressedFormat:
    """Parse a ``format``.

    Args:
        text: The message's field; an empty one is treated like a codec alone.

    Raises:
        UnknownFormatError: A depth image, or an unknown format.
    """
    before, _, after = text.lower().partition(";")
    before = before.strip()
    words = after.replace(";", " ").split()
    if any(name in text.lower() for name in _DEPTH):
        raise UnknownFormatError("is that of a depth image, which has no colours; use the camera's colour topic")
    if not words:
        return _alone(before)
    if _codec(words[0]) is None or (len(words) > 1 and words[1] != "compressed") or len(words) > 3:
        raise _unknown()
    target = words[2] if len(words) == 3 else ""
    if before not in {*_COLOURS, *_AS_STORED, *_MOSAICS, *_ONLY_BEFORE}:
        raise _unknown()
    if target in _COLOURS:
        return CompressedFormat("bgr" if _COLOURS[target] == "bgr" else "rgb")
    if target in _AS_STORED:
        return CompressedFormat()
    if target and target != before:
        raise _unknown()
    if before in _COLOURS:
        return CompressedFormat("rgb")
    return _alone(before)


def _alone(word: str) -> CompressedFormat:
    """The format for a single word: a codec, or an encoding without a codec."""
    if not word or _codec(word) is not None or word in _COLOURS or word in _AS_STORED:
        return CompressedFormat()
    if word in _MOSAICS:
        return CompressedFormat(mosaic=word)
    raise _unknown()


def _codec(word: str) -> str | None:
    name = word.removeprefix("image/").removeprefix(".")
    name = _SAME.get(name, name)
    return name if name in CODECS else None


def _unknown() -> UnknownFormatError:
    return UnknownFormatError(
        f"is not known; publish one of {', '.join(CODECS)}, or ENCODING; CODEC compressed TARGET as compressed_image_transport"
        " does"
    )
