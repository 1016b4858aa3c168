import numpy as np
import pytest

from csl_tracker.datasets.rendered import srgb


@pytest.mark.parametrize(("linear", "coded"), [(-1, 0), (0, 0), (0.001, 0.01292), (0.2140, 0.5), (1, 1), (3, 1)])
def test_the_curve_has_its_published_values(linear, coded):
    assert srgb.encode(linear) == pytest.approx(coded, abs=1e-3)


def test_decoding_undoes_encoding():
    values = np.arange(256) / 255
    np.testing.assert_allclose(255 * srgb.encode(srgb.decode(values)), 255 * values, atol=0.05)
