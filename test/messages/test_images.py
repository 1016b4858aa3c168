import array
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import pytest

from csl_tracker.messages.images import ENCODINGS, UnusableImageError, decode_compressed, fill_image, to_rgb
from csl_tracker.node.cv_bridge import find_cv_bridge


@dataclass
class Message:
    height: int = 0
    width: int = 0
    encoding: str = ""
    step: int = 0
    is_bigendian: int = 0
    data: Any = field(default_factory=lambda: array.array("B"))


def message(pixels: np.ndarray, encoding: str, padding: int = 0, big: bool = False, rows: int | None = None) -> Message:
    raw = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).view(np.uint8).reshape(pixels.shape[0], -1)
    raw = np.pad(raw, ((0, 0), (0, padding)), constant_values=77)
    width = pixels.shape[1]
    return Message(rows or pixels.shape[0], width, encoding, raw.shape[1], int(big), array.array("B", raw.tobytes()))


GOOD = message(np.zeros((4, 6, 3), np.uint8), "rgb8")


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"height": 0}, "size", "6x0"),
        ({"width": 0}, "size", "0x4"),
        ({"encoding": ""}, "encoding", "''"),
        ({"encoding": "jpeg"}, "encoding", "'jpeg'"),
        ({"encoding": "RGB8"}, "encoding", "'RGB8'"),
        ({"data": array.array("B")}, "data", "no data"),
        ({"data": array.array("B", bytes(71))}, "data", "71 bytes instead of 72"),
        ({"data": array.array("B", bytes(73))}, "data", "73 bytes instead of 72"),
        ({"step": 17}, "step", "17 bytes"),
        ({"step": 0}, "step", "0 bytes"),
        ({"step": 19}, "data", "72 bytes instead of 76"),
        ({"encoding": "rgba8"}, "step", "24 bytes"),
        ({"encoding": "yuv422", "width": 5}, "size", "pairs"),
        ({"encoding": "nv12", "height": 3}, "size", "pairs"),
        ({"encoding": "bayer_rggb8", "width": 2}, "size", "mosaic"),
        ({"height": 2**31, "width": 2**31}, "step", "bytes"),
    ],
)
def test_a_broken_message_is_refused_with_a_reason(change, reason, words):
    with pytest.raises(UnusableImageError, match=words) as caught:
        to_rgb(replace(GOOD, **change))
    assert caught.value.reason == reason
    assert str(caught.value).endswith(".")
    assert str(caught.value).count("\n") == 0


RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (6, 8, 3), np.uint8)
RGB16 = RNG.integers(0, 65536, (6, 8, 3), np.uint16)
ALPHA = RNG.integers(0, 256, (6, 8, 1), np.uint8)
ALPHA16 = RNG.integers(0, 65536, (6, 8, 1), np.uint16)


def gray(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[..., :1], 3, axis=2)


def eight(pixels: np.ndarray) -> np.ndarray:
    return np.rint(pixels.astype(np.float64) * 255 / 65535).astype(np.uint8)


# encoding, what the camera sends, what it means in RGB
TABLE = [
    ("rgb8", RGB, RGB),
    ("bgr8", RGB[..., ::-1], RGB),
    ("8UC3", RGB[..., ::-1], RGB),
    ("rgba8", np.concatenate([RGB, ALPHA], 2), RGB),
    ("bgra8", np.concatenate([RGB[..., ::-1], ALPHA], 2), RGB),
    ("8UC4", np.concatenate([RGB[..., ::-1], ALPHA], 2), RGB),
    ("mono8", RGB[..., 0], gray(RGB)),
    ("8UC1", RGB[..., 0], gray(RGB)),
    ("rgb16", RGB16, eight(RGB16)),
    ("bgr16", RGB16[..., ::-1], eight(RGB16)),
    ("16UC3", RGB16[..., ::-1], eight(RGB16)),
    ("rgba16", np.concatenate([RGB16, ALPHA16], 2), eight(RGB16)),
    ("bgra16", np.concatenate([RGB16[..., ::-1], ALPHA16], 2), eight(RGB16)),
    ("16UC4", np.concatenate([RGB16[..., ::-1], ALPHA16], 2), eight(RGB16)),
    ("mono16", RGB16[..., 0], gray(eight(RGB16))),
    ("16UC1", RGB16[..., 0], gray(eight(RGB16))),
]


@pytest.mark.parametrize("padding", [0, 5, 64])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("encoding", "sent", "rgb"), TABLE, ids=[row[0] for row in TABLE])
def test_packed_encodings_are_exact(encoding, sent, rgb, padding, big):
    got = to_rgb(message(np.ascontiguousarray(sent), encoding, padding, big))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, rgb)


COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (10, 20, 30), (200, 90, 40)]


def mosaic_of(color: tuple[int, int, int], pattern: str, depth: int) -> np.ndarray:
    mosaic = np.zeros((6, 8), np.uint8)
    for index, letter in enumerate(pattern):
        mosaic[index // 2 :: 2, index % 2 :: 2] = color["rgb".index(letter)]
    return mosaic if depth == 8 else mosaic.astype(np.uint16) * 257


PATTERNS = ["rggb", "bggr", "gbrg", "grbg"]


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("color", COLORS)
def test_bayer_mosaics_of_one_colour_give_that_colour(pattern, depth, padding, color):
    got = to_rgb(message(mosaic_of(color, pattern, depth), f"bayer_{pattern}{depth}", padding))
    np.testing.assert_array_equal(got, np.broadcast_to(np.array(color, np.uint8), (6, 8, 3)))


@pytest.mark.upstream
def test_the_real_cv_bridge_passes_the_same_tables():
    cv_bridge = find_cv_bridge()
    if cv_bridge is None:
        pytest.skip("no working cv_bridge of ROS 2 here")
    for encoding, sent, rgb in TABLE:
        for padding in (0, 6):
            got = to_rgb(message(np.ascontiguousarray(sent), encoding, padding), cv_bridge)
            np.testing.assert_array_equal(got, rgb, err_msg=f"{encoding}, {padding} bytes of padding")
    for pattern in PATTERNS:
        for color in COLORS:
            got = to_rgb(message(mosaic_of(color, pattern, 8), f"bayer_{pattern}8"), cv_bridge)
            np.testing.assert_array_equal(got, np.broadcast_to(np.array(color, np.uint8), (6, 8, 3)), err_msg=pattern)


def bt601(y: float, u: float, v: float) -> np.ndarray:
    """BT.601 with video range, as in ITU-R BT.601 section 2.5."""
    luma = 255 / 219 * (y - 16)
    red = luma + 255 / 112 * 0.701 * (v - 128)
    green = luma - 255 / 112 * (0.886 * 0.114 / 0.587 * (u - 128) + 0.701 * 0.299 / 0.587 * (v - 128))
    blue = luma + 255 / 112 * 0.886 * (u - 128)
    return np.clip([red, green, blue], 0, 255)


YUV = [(90, 100, 160), (200, 128, 128), (60, 170, 90), (16, 128, 128), (235, 128, 128)]


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("yuv", YUV)
@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv"), ("nv12", "uv"), ("nv21", "vu")],
)
def test_yuv_follows_bt601(encoding, order, yuv, padding):
    values = dict(zip("yuv", yuv, strict=True))
    if encoding.startswith("nv"):
        planes = np.full((6, 8), values["y"], np.uint8)
        planes[4:, 0::2], planes[4:, 1::2] = values[order[0]], values[order[1]]
        sent = message(planes, encoding, padding, rows=4)
    else:
        row = np.array([values[letter] for letter in order], np.uint8).reshape(2, 2)
        sent = message(np.tile(row, (4, 4, 1)), encoding, padding)
    got = to_rgb(sent)
    assert got.shape == (4, 8, 3)
    np.testing.assert_allclose(got.reshape(-1, 3), np.broadcast_to(bt601(*yuv), (32, 3)), atol=1.5)


def test_every_encoding_is_covered_here():
    covered = {row[0] for row in TABLE} | {"yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"}
    covered |= {f"bayer_{pattern}{depth}" for pattern in ("rggb", "bggr", "gbrg", "grbg") for depth in (8, 16)}
    assert covered == set(ENCODINGS)


@pytest.mark.parametrize(
    "make", [bytes, bytearray, lambda raw: array.array("B", raw), lambda raw: np.frombuffer(raw, np.uint8), list]
)
def test_any_kind_of_bytes_is_taken(make):
    np.testing.assert_array_equal(to_rgb(Message(6, 8, "rgb8", 24, 0, make(RGB.tobytes()))), RGB)


def test_rgb_is_not_copied():
    sent = message(RGB, "rgb8")
    got = to_rgb(sent)
    sent.data[0] ^= 255
    assert got[0, 0, 0] == RGB[0, 0, 0] ^ 255


@pytest.mark.parametrize("image", [RGB, RGB[..., 0], RGB[:, ::2], RGB[::-1]], ids=["colour", "gray", "columns", "flipped"])
def test_an_image_survives_the_way_there_and_back(image):
    sent = fill_image(Message(), image)
    assert len(sent.data) == sent.step * sent.height
    np.testing.assert_array_equal(to_rgb(sent), image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "data"), (b"no image", "decode"), (cv2.imencode(".png", RGB)[1].tobytes()[:20], "decode")],
)
def test_broken_compressed_data_is_refused(data, reason):
    with pytest.raises(UnusableImageError) as caught:
        decode_compressed(array.array("B", data), "png")
    assert caught.value.reason == reason


@pytest.mark.parametrize(("extension", "tolerance"), [(".png", 0), (".jpg", 12)])
def test_compressed_images_are_decoded_to_rgb(extension, tolerance):
    smooth = cv2.resize(RGB[:2, :2], (64, 48), interpolation=cv2.INTER_LINEAR)
    data = array.array("B", cv2.imencode(extension, smooth[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes())
    assert np.abs(decode_compressed(data).astype(int) - smooth).max() <= tolerance


COLOURS = np.full((48, 64, 3), (180, 60, 40), np.uint8)
COLOURS[16:32, 16:40] = (40, 90, 200)


def mosaic(pattern: str) -> np.ndarray:
    found = np.zeros(COLOURS.shape[:2], np.uint8)
    for index, colour in enumerate(pattern):
        rows, columns = slice(index // 2, None, 2), slice(index % 2, None, 2)
        found[rows, columns] = COLOURS[rows, columns, "rgb".index(colour)]
    return found


@pytest.mark.parametrize(
    ("written", "image_format"),
    [
        (COLOURS[..., ::-1], "jpeg"),
        (COLOURS[..., ::-1], ""),
        (COLOURS[..., ::-1], "rgb8; jpeg compressed bgr8"),
        (COLOURS[..., ::-1], "bgr8; png compressed bgr8"),
        (COLOURS, "rgb8; jpeg compressed rgb8"),
        (COLOURS, "rgb8; png compressed "),
        (np.dstack([COLOURS[..., ::-1], COLOURS[..., :1]]), "bgra8; png compressed bgra8"),
        (COLOURS[..., ::-1].astype(np.uint16) * 257, "rgb16; png compressed bgr16"),
        (COLOURS[..., ::-1].astype(np.uint16) * 257, "bgr16; tiff compressed bgr16"),
        *(
            (mosaic(pattern), f"bayer_{pattern}8; {codec} compressed ")
            for pattern in ("rggb", "bggr", "gbrg", "grbg")
            for codec in ("jpeg", "png")
        ),
        (mosaic("rggb").astype(np.uint16) * 257, "bayer_rggb16; png compressed "),
        (np.dstack([mosaic("gbrg")] * 3), "bayer_gbrg8; png compressed "),
        (COLOURS[..., ::-1], "webp"),
        (COLOURS[..., ::-1], "bmp"),
    ],
)
def test_the_format_says_which_colours_are_which(written, image_format):
    extension = next((name for name in ("png", "tiff", "webp", "bmp") if name in image_format), "jpg")
    data = cv2.imencode(f".{extension}", written, [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_WEBP_QUALITY, 101])[1]
    found = decode_compressed(array.array("B", data.tobytes()), image_format)
    assert found.shape == COLOURS.shape
    for row, column in ((8, 50), (24, 28)):  # in the midst of either colour
        np.testing.assert_allclose(found[row, column], COLOURS[row, column], atol=4)


@pytest.mark.parametrize(
    ("data", "image_format", "reason", "words"),
    [
        (b"any", "16UC1; compressedDepth png", "encoding", "'16UC1; compressedDepth png' .* is that of a depth image"),
        (b"any", "h264", "encoding", "format 'h264' of a compressed image is not known"),
        (b"any", "\x1b[2J" + "x" * 500, "encoding", r"format '\\x1b\[2Jx{76}' of"),
        (cv2.imencode(".png", COLOURS)[1].tobytes(), "bayer_rggb8; png compressed ", "encoding", "mosaic .* in colour"),
        (
            cv2.imencode(".png", COLOURS)[1].tobytes()[:16] + b"\x00\x00\xff\xff" * 2 + bytes(30),
            "png",
            "size",
            "65535x65535 px",
        ),
        (
            cv2.imencode(".tiff", COLOURS[..., 0].astype(np.float32))[1].tobytes(),
            "tiff",
            "decode",
            "cannot be used|not an image",
        ),
    ],
    ids=["depth", "h264", "escapes", "mosaic", "size", "float"],
)
def test_a_compressed_image_that_is_refused_is_named(data, image_format, reason, words):
    with pytest.raises(UnusableImageError, match=words) as caught:
        decode_compressed(data, image_format)
    assert caught.value.reason == reason
