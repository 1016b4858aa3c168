import numpy as np
import pytest

from csl_tracker.datasets.blending import blend_color, color_row, three_channels


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 96)])
def test_the_bits_are_those_of_broadcasting(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    image = (300 * rng.random((*size, 3))).astype(np.float32)
    alpha = rng.random(size).astype(np.float32)
    color = (255 * rng.random(3)).astype(np.float32)
    picture = (255 * rng.random((*size, 3))).astype(np.float32)
    np.testing.assert_array_equal(image * three_channels(alpha), image * alpha[..., None])
    np.testing.assert_array_equal(image * color_row(color, size[1]), image * color)
    for tint in (color, picture):
        laid = image.copy()
        blend_color(laid, alpha, tint)
        np.testing.assert_array_equal(laid, image + alpha[..., None] * (tint - image))
        assert laid.dtype == np.float32
