"""The ``format`` of a ``sensor_msgs/CompressedImage``, as compressed_image_transport writes and reads it.

Its publisher writes ``ENCODING; CODEC compressed TARGET``: the encoding of the raw image, the codec, and the encoding that the
image was brought to before OpenCV compressed it (``rgb8; jpeg compressed bgr8``). Cameras and other programs write the codec
alone (``jpeg``). Its subscriber takes a colour image without a target, or with one other than BGR, as compressed in the order
red, green, blue, so that what OpenCV decodes has red and blue in each other's place.
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
"""Encodings that no codec keeps: they are known as those of raw images that became BGR or grey."""


class UnknownFormatError(ValueError):
    """A format that says nothing which is understood here; the text is the end of a sentence."""


@dataclass(frozen=True)
class CompressedFormat:
    """How to read the data.

    Attributes:
        order: Channels as OpenCV decodes them: ``bgr``, or ``rgb`` for an image that was compressed in that order.
        mosaic: The Bayer encoding, such as ``bayer_rggb8``, where the data is a mosaic; else None.
    """

    order: Literal["bgr", "rgb"] = "bgr"
    mosaic: str | None = None


def parse_format(text: str) -> CompressedFormat:
    """Understand a ``format``.

    Args:
        text: As in the message; empty where the publisher left it so, which is taken as a codec alone.

    Raises:
        UnknownFormatError: It names another kind of data, or something unknown.
    """
    before, _, after = text.lower().partition(";")
    before = before.strip()
    words = after.replace(";", " ").split()
    if any(name in text.lower() for name in _DEPTH):
        raise UnknownFormatError("is that of a depth image, which shows no colours; name the camera's own topic")
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
    """What a codec says, or an encoding without one."""
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
