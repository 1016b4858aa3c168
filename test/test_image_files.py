from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from csl_tracker.errors import DatasetError
from csl_tracker.image_files import MAX_PIXELS, MAX_SIDE, image_problem, image_size, size_problem
from csl_tracker.video import read_image

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


def encoded(extension: str, image: np.ndarray = IMAGE, *options: int) -> bytes:
    return bytes(cv2.imencode(extension, image, options)[1])


def png(width: int, height: int) -> bytes:
    """A valid file of one grey that a few hundred bytes a megapixel are enough for."""
    line = zlib.compressobj(9)
    rows = b"".join(line.compress(bytes(1 + width)) for _ in range(height)) + line.flush()
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def tiff(order: str = "<", big: bool = False, **changes: int) -> bytes:
    """A header alone, with numbers that are not in place where they are too long for it."""
    tags = {256: 64, 257: 48, 258: 8, 277: 3, **{int(key[1:]): value for key, value in changes.items()}}
    entry = struct.Struct(order + ("HHQQ" if big else "HHII"))
    kind = 16 if big else 4
    body = b"".join(entry.pack(tag, kind, 1, value) for tag, value in sorted(tags.items()))
    magic = b"II" if order == "<" else b"MM"
    if big:
        return magic + struct.pack(order + "HHHQ", 43, 8, 0, 16) + struct.pack(order + "Q", len(tags)) + body
    return magic + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", len(tags)) + body


@pytest.mark.parametrize(
    "data",
    [
        encoded(".png"),
        encoded(".jpg"),
        encoded(".jpg", IMAGE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        encoded(".webp", IMAGE, cv2.IMWRITE_WEBP_QUALITY, 50),
        encoded(".webp", IMAGE, cv2.IMWRITE_WEBP_QUALITY, 101),
        encoded(".webp", np.dstack([IMAGE, IMAGE[..., 0]]), cv2.IMWRITE_WEBP_QUALITY, 50),
        encoded(".tif"),
        encoded(".tif", IMAGE.astype(np.uint16)),
        encoded(".bmp"),
        encoded(".ppm"),
        encoded(".pgm", IMAGE[..., 0]),
        b"P6\n# a comment\n64 # another\n48\n255\n",
        b"GIF89a" + struct.pack("<HH", 64, 48) + bytes(20),
        b"BM" + bytes(12) + struct.pack("<IHH", 12, 64, 48) + bytes(20),
        b"BM" + bytes(12) + struct.pack("<Iii", 40, 64, -48) + bytes(20),
        b"\xff\xd8\xff\xff\xe1\x00\x04ab" + b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 48, 64) + bytes(12),
        tiff(">"),
        tiff("<", big=True),
        tiff(">", big=True),
    ],
    ids=lambda data: repr(data[:4]),
)
def test_the_size_is_read_from_the_header(data: bytes) -> None:
    assert image_size(io.BytesIO(data)) == (48, 64)
    assert image_problem(io.BytesIO(data)) is None


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "decode"),
        (b"no image at all", "decode"),
        (encoded(".png")[:20], "decode"),
        (encoded(".jpg")[:20], "decode"),
        (encoded(".webp")[:20], "decode"),
        (tiff()[:20], "decode"),
        (b"II*\x00\xff\xff\xff\xff", "decode"),
        (b"P6\n64\n", "decode"),
        (b"P6\n" + b"9" * 5000 + b" 48\n", "decode"),
        (b"\xff\xd8\xff\xda" + bytes(100), "decode"),
        (b"RIFF\x00\x00\x00\x00AVI LIST" + bytes(40), "decode"),
        (b"\x76\x2f\x31\x01" + bytes(100), "decode"),  # OpenEXR
        (png(60_000, 10), "size"),
        (encoded(".png")[:16] + struct.pack(">II", 50_000, 50_000) + bytes(20), "size"),
        (b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", 0, 64) + bytes(20), "size"),
        (b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", 60_000, 60_000) + bytes(20), "size"),
        (b"BM" + bytes(12) + struct.pack("<Iii", 40, -64, 48) + bytes(20), "size"),
        (tiff(t256=100_000, t257=100_000), "size"),
        (tiff(t322=30_000, t323=30_000), "size"),
        (tiff(t277=200), "decode"),
        (encoded(".jpg")[:-2] + b"\xff\xda\x00\x02" * 200 + b"\xff\xd9", "size"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value[:4]),
)
def test_what_is_not_decoded(tmp_path: Path, data: bytes, kind: str) -> None:
    problem = image_problem(io.BytesIO(data))
    assert problem is not None
    assert problem.kind == kind
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DatasetError, match=r"The image .*a\.png cannot be read: .*; replace or remove it\.$"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(("kind", "bits"), [(np.float32, 96), (np.float64, 192)])
def test_a_tiff_of_too_many_bits_is_named_as_one(kind: type, bits: int) -> None:
    content = cv2.imencode(".tiff", np.zeros((48, 64, 3), kind))[1].tobytes()
    problem = image_problem(io.BytesIO(content))
    assert problem == ("decode", f"it is a TIFF of {bits} bits a pixel, and at most 64 are read")


@pytest.mark.parametrize(
    ("size", "fine"),
    [
        ((4320, 8192), True),
        ((1, MAX_SIDE), True),
        ((0, 5), False),
        ((1, MAX_SIDE + 1), False),
        ((MAX_PIXELS // 5000 + 1, 5000), False),
    ],
)
def test_the_limits(size: tuple[int, int], fine: bool) -> None:
    assert (size_problem(size) is None) == fine


def test_a_small_file_of_many_pixels_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(30_000, 3_000))
    start = time.process_time()
    with pytest.raises(DatasetError, match="30000x3000 px, and from 1x1 px up to 40 million px"):
        read_image(tmp_path / "a.png")
    assert time.process_time() - start < 0.5
