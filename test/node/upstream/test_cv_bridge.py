"""The project's own conversions against the real ``cv_bridge``."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv_bridge", reason="cv_bridge cannot be imported: source a ROS 2")
pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2")

from sensor_msgs.msg import Image

from csl_tracker.messages.images import CV_BRIDGE_ENCODINGS, fill_image, to_rgb
from csl_tracker.node.cv_bridge import find_cv_bridge

pytestmark = pytest.mark.upstream

RNG = np.random.default_rng(3)
HEIGHT, WIDTH = 24, 32
CHANNELS = {"rgba": 4, "bgra": 4, "rgb": 3, "bgr": 3, "yuv422": 2}


@pytest.fixture(scope="module")
def bridge():
    found = find_cv_bridge()
    if found is None:
        pytest.skip("cv_bridge is importable, but not ROS 2's or not working (often: built against NumPy 1)")
    return found


def message(encoding: str, padding: int) -> Image:
    channels = next((count for prefix, count in CHANNELS.items() if encoding.startswith(prefix)), 1)
    depth = 2 if encoding.endswith("16") else 1
    step = WIDTH * channels * depth + padding
    data = RNG.integers(0, 256, HEIGHT * step, np.uint8).tobytes()
    return Image(height=HEIGHT, width=WIDTH, encoding=encoding, step=step, data=data)


@pytest.mark.parametrize("encoding", sorted(CV_BRIDGE_ENCODINGS))
@pytest.mark.parametrize("padding", [0, 24, 7])
def test_both_convert_alike(bridge, encoding: str, padding: int) -> None:
    image = message(encoding, padding)
    theirs, ours = to_rgb(image, bridge), to_rgb(image)
    # One of 255: a release of OpenCV rounds 16 bits and YUV in its own way.
    difference = np.abs(theirs.astype(int) - ours.astype(int))
    assert theirs.shape == (HEIGHT, WIDTH, 3)
    assert difference.max() <= 1, np.unravel_index(difference.argmax(), difference.shape)


@pytest.mark.parametrize(("shape", "encoding"), [((HEIGHT, WIDTH, 3), "rgb8"), ((HEIGHT, WIDTH), "mono8")])
def test_an_image_that_is_published_here_is_read_by_cv_bridge(bridge, shape: tuple[int, ...], encoding: str) -> None:
    picture = RNG.integers(0, 256, shape, np.uint8)
    assert np.array_equal(bridge.imgmsg_to_cv2(fill_image(Image(), picture), desired_encoding=encoding), picture)


@pytest.mark.parametrize(("shape", "encoding"), [((HEIGHT, WIDTH, 3), "bgr8"), ((HEIGHT, WIDTH), "mono8")])
def test_an_image_of_cv_bridge_is_read_here(bridge, shape: tuple[int, ...], encoding: str) -> None:
    picture = RNG.integers(0, 256, shape, np.uint8)
    expected = picture[..., ::-1] if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    assert np.array_equal(to_rgb(bridge.cv2_to_imgmsg(picture, encoding=encoding)), expected)
