"""Style augmentation: colours and low frequencies of another picture, structure of the own one."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.rendered.effects_style import mix_amplitudes, mix_channels, random_style, transfer_color
from csl_tracker.datasets.synthetic import render_frame

SIZE = (256, 320)
OTHER = np.random.default_rng(0).integers(0, 120, (90, 70, 3)).astype(np.uint8) + np.array([10, 120, 30], np.uint8)


def lab(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return render_frame(2, SIZE).image


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_mixed_amplitudes_move_the_mean_colour_by_the_strength(image: np.ndarray, strength: float) -> None:
    mixed = mix_amplitudes(image, OTHER, 0.02, strength)
    own, wanted = image.mean(axis=(0, 1)), OTHER.mean(axis=(0, 1))
    np.testing.assert_allclose(mixed.mean(axis=(0, 1)), own + strength * (wanted - own), atol=7.0)


def test_mixed_amplitudes_keep_edges(image: np.ndarray) -> None:
    mixed = mix_amplitudes(image, OTHER, 0.03, 1.0)
    edges = [cv2.Laplacian(one.astype(np.float32), cv2.CV_32F)[8:-8, 8:-8].ravel() for one in (image, mixed)]
    assert np.corrcoef(*edges)[0, 1] > 0.9


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_transferred_colours_have_the_statistics_of_the_other_picture(image: np.ndarray, strength: float) -> None:
    moved = lab(transfer_color(image, OTHER, strength)).mean(axis=(0, 1))
    own, wanted = (lab(one).mean(axis=(0, 1)) for one in (image, OTHER))
    np.testing.assert_allclose(moved, own + strength * (wanted - own), atol=6.0)


def test_a_random_matrix_of_no_strength_is_the_identity(image: np.ndarray) -> None:
    np.testing.assert_array_equal(mix_channels(np.random.default_rng(0), image, 0.0), image)
    assert np.abs(mix_channels(np.random.default_rng(0), image, 1.0).astype(float) - image).mean() > 3


def test_a_random_style_changes_the_image_alone() -> None:
    sample = render_frame(3, SIZE)
    drawn: list[int] = []

    def pool(rng: np.random.Generator) -> np.ndarray:
        drawn.append(int(rng.integers(10)))
        return OTHER

    for seed in range(12):
        styled = random_style(np.random.default_rng(seed), sample, pool)
        assert (styled.image != sample.image).any()
        assert (styled.image.shape, styled.image.dtype) == (sample.image.shape, np.uint8)
        again = random_style(np.random.default_rng(seed), sample, pool)
        np.testing.assert_array_equal(styled.image, again.image)
        assert replace(styled, image=sample.image) is not None
        assert styled.label_map is sample.label_map
        assert styled.landmarks is sample.landmarks
    assert 5 < len(drawn) < 24, "some methods need no other picture"
