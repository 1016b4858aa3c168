"""Checks the header of an image file before decoding: a few bytes can claim billions of pixels.

Defines the size limits for images in datasets and messages and for video frames.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import BinaryIO, Literal, NamedTuple

from csl_tracker.pixels import Size

MAX_PIXELS = 40_000_000
"""Maximum pixels of an image or a frame: 8K (8192x4320) fits, and decoding takes less than 1 GB."""
MAX_SIDE = 32_767
"""Maximum side length, px: the limit of OpenCV's warping functions."""

KINDS = "PNG, JPEG, WebP, TIFF, BMP, GIF, PPM or PGM"
"""Supported image formats; others are not decoded."""

_MAX_SCANS = 100
"""Maximum scans of a progressive JPEG: encoders write about 10, and each costs a pass over the whole image."""
_MAX_PIXEL_BITS = 64
"""Four samples of 16 bits."""

_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_BITS, _TIFF_SAMPLES, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 256, 257, 258, 277, 322, 323
_TIFF_NUMBERS = {1: 1, 3: 2, 4: 4, 16: 8}  # field type -> bytes
_PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")


class ImageProblem(NamedTuple):
    """Reason to reject an image file.

    Attributes:
        kind: ``size``: too large; ``decode``: not an image.
        text: A clause for an error message.
    """

    kind: Literal["size", "decode"]
    text: str


class _TooDeepError(Exception):
    """A pixel has more bits than supported; the message is a clause."""


def size_problem(size: Size) -> str | None:
    """Clause that says why a (height, width) is out of range; None if it is accepted."""
    if min(size) > 0 and max(size) <= MAX_SIDE and size[0] * size[1] <= MAX_PIXELS:
        return None
    return (
        f"it has {size[1]}x{size[0]} px, and from 1x1 px up to {MAX_PIXELS // 1_000_000} million px with at most {MAX_SIDE} a"
        " side are read"
    )


def image_problem(stream: BinaryIO) -> ImageProblem | None:
    """Reason to reject an image file by its header; None if there is none. Moves the position of the seekable stream."""
    try:
        size = image_size(stream)
    except (struct.error, ValueError, OverflowError, OSError):
        size = None
    except _TooDeepError as error:
        return ImageProblem("decode", str(error))
    if size is None:
        return ImageProblem("decode", f"its header gives no size as those of {KINDS} files do")
    too_large = size_problem(size)
    if too_large is not None:
        return ImageProblem("size", too_large)
    if _scans(stream) > _MAX_SCANS:
        return ImageProblem("size", f"it is a JPEG of more than {_MAX_SCANS} scans, which takes minutes to decode")
    return None


def image_size(stream: BinaryIO) -> Size | None:
    """(height, width) from the header of a seekable stream; None for an unknown format or a truncated header.

    Raises:
        struct.error, ValueError, OverflowError, OSError: The header is truncated or has invalid offsets.
    """
    stream.seek(0)
    head = stream.read(32)
    for magic, read in _READERS:
        if head.startswith(magic):
            return read(stream, head)
    return None


def _png(stream: BinaryIO, head: bytes) -> Size | None:
    if head[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def _gif(stream: BinaryIO, head: bytes) -> Size | None:
    width, height = struct.unpack("<HH", head[6:10])
    return height, width


def _bmp(stream: BinaryIO, head: bytes) -> Size | None:
    if struct.unpack("<I", head[14:18])[0] == 12:  # OS/2
        width, height = struct.unpack("<HH", head[18:22])
    else:
        width, height = struct.unpack("<ii", head[18:26])
    return abs(height), width  # negative: top-down rows


def _webp(stream: BinaryIO, head: bytes) -> Size | None:
    kind = head[8:16]
    if len(head) < 30:
        return None
    if kind == b"WEBPVP8X":
        return int.from_bytes(head[27:30], "little") + 1, int.from_bytes(head[24:27], "little") + 1
    if kind == b"WEBPVP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return height & 0x3FFF, width & 0x3FFF
    return None


def _pnm(stream: BinaryIO, head: bytes) -> Size | None:
    stream.seek(0)
    found = _PNM.match(stream.read(4096))
    return None if found is None or max(map(len, found.groups())) > 9 else (int(found[2]), int(found[1]))


def _jpeg(stream: BinaryIO, head: bytes) -> Size | None:
    stream.seek(2)
    while True:
        while (byte := stream.read(1)) not in (b"\xff", b""):
            pass
        while byte == b"\xff":  # fill bytes
            byte = stream.read(1)
        if not byte:
            return None
        if byte[0] in _JPEG_ALONE or byte[0] == 0:
            continue
        length = struct.unpack(">H", stream.read(2))[0]
        if byte[0] in _JPEG_FRAMES:
            _, height, width = struct.unpack(">BHH", stream.read(5))
            return height, width
        if byte[0] in (0xD9, 0xDA) or length < 2:  # end of image, or scan data without a frame header
            return None
        stream.seek(length - 2, 1)


def _tiff(stream: BinaryIO, head: bytes) -> Size | None:
    """Size of the first image (BigTIFF included), or of its tiles if these are too large."""
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack(order + "H", head[2:4])[0] == 43
    stream.seek(struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0])
    count = struct.unpack(order + ("Q" if big else "H"), stream.read(8 if big else 2))[0]
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    found = {_TIFF_SAMPLES: 1, _TIFF_BITS: 1}
    for _ in range(min(count, 4096)):
        tag, kind, length, value = entry.unpack(stream.read(entry.size))
        size = _TIFF_NUMBERS.get(kind)
        if size is None or not length:
            continue
        if size * length > len(value):  # stored at an offset, such as the bits of several samples
            at = stream.tell()
            stream.seek(struct.unpack(order + ("Q" if big else "I"), value)[0])
            value = stream.read(size)
            stream.seek(at)
        if len(value) < size:
            return None
        found[tag] = int.from_bytes(value[:size], "little" if order == "<" else "big")
    if _TIFF_WIDTH not in found or _TIFF_HEIGHT not in found:
        return None
    tile = (found.get(_TIFF_TILE_HEIGHT, 1), found.get(_TIFF_TILE_WIDTH, 1))
    bits = found[_TIFF_SAMPLES] * found[_TIFF_BITS]
    if bits > _MAX_PIXEL_BITS:
        raise _TooDeepError(f"it is a TIFF of {bits} bits a pixel, and at most {_MAX_PIXEL_BITS} are read")
    if size_problem(tile) is not None:
        return tile
    return found[_TIFF_HEIGHT], found[_TIFF_WIDTH]


def _scans(stream: BinaryIO) -> int:
    """Number of scans of a JPEG, counted up to the limit; 0 for other formats."""
    stream.seek(0)
    if stream.read(2) != b"\xff\xd8":
        return 0
    count, last = 0, b""
    while count <= _MAX_SCANS and (part := stream.read(1 << 20)):
        count += (last + part).count(b"\xff\xda")
        last = part[-1:]
    return count


_READERS: tuple[tuple[bytes, Callable[[BinaryIO, bytes], Size | None]], ...] = (
    (b"\xff\xd8", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"RIFF", _webp),
    (b"II*\x00", _tiff),
    (b"MM\x00*", _tiff),
    (b"II+\x00", _tiff),
    (b"MM\x00+", _tiff),
    (b"BM", _bmp),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    *((b"P%d" % kind, _pnm) for kind in range(1, 7)),
)
