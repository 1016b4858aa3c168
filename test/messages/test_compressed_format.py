import pytest

from csl_tracker.messages.compressed_format import CompressedFormat, UnknownFormatError, parse_format

BGR, RGB = CompressedFormat("bgr"), CompressedFormat("rgb")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # a codec alone, or nothing
        ("", BGR),
        ("jpeg", BGR),
        ("jpg", BGR),
        ("JPEG", BGR),
        (".png", BGR),
        ("image/jpeg", BGR),
        ("webp", BGR),
        ("tiff", BGR),
        ("bmp", BGR),
        # as compressed_image_transport writes them
        ("rgb8; jpeg compressed bgr8", BGR),
        ("bgr8; jpeg compressed bgr8", BGR),
        ("rgb16; png compressed bgr16", BGR),
        ("bgra8; tiff compressed bgr8", BGR),
        ("rgb8; jpeg compressed rgb8", RGB),
        ("rgb8; jpeg compressed ", RGB),
        ("bgr8; png compressed ", RGB),
        ("mono8; jpeg compressed ", BGR),
        ("mono8; jpeg compressed mono8", BGR),
        ("mono16; png compressed ", BGR),
        ("16UC1; png compressed ", BGR),
        ("yuv422; jpeg compressed bgr8", BGR),
        ("yuv422_yuy2; jpeg compressed mono8", BGR),
        ("bayer_rggb8; jpeg compressed ", CompressedFormat(mosaic="bayer_rggb8")),
        ("bayer_gbrg16; png compressed ", CompressedFormat(mosaic="bayer_gbrg16")),
        ("bayer_grbg8; png compressed bayer_grbg8", CompressedFormat(mosaic="bayer_grbg8")),
        ("bayer_rggb8; jpeg compressed bgr8", BGR),
        ("bayer_rggb8; jpeg compressed mono8", BGR),
        ("bayer_bggr8", CompressedFormat(mosaic="bayer_bggr8")),
        ("bgr8;jpeg compressed bgr8 ", BGR),
    ],
)
def test_what_is_known(text, expected):
    assert parse_format(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("16UC1; compressedDepth", "depth image"),
        ("32FC1; compressedDepth png", "depth image"),
        ("16UC1; compressedDepth rvl", "depth image"),
        ("h264", "is not known; publish one of jpeg, png"),
        ("hevc", "is not known"),
        ("rgb8; h264", "is not known"),
        ("yuv422; jpeg compressed ", "is not known"),
        ("yuyv", "is not known"),
        ("rgb8; jpeg compressed lab8", "is not known"),
        ("bayer_rggb12; jpeg compressed ", "is not known"),
        ("32FC1; tiff compressed ", "is not known"),
        ("rgb8; jpeg shrunk bgr8", "is not known"),
        ("rgb8; jpeg compressed bgr8 twice", "is not known"),
        ("\x1b[31mred", "is not known"),
    ],
)
def test_what_is_refused(text, words):
    with pytest.raises(UnknownFormatError, match=words):
        parse_format(text)
