"""Corrupted frames: repeatable, consistent in picture, masks and landmarks, and frozen."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic import render_frame


@pytest.fixture(scope="module")
def sample() -> Sample:
    return render_frame(7, (288, 360), 0.0)


def blob(x: float, y: float, size: tuple[int, int] = (120, 160)) -> Sample:
    """A bright blob on black, with a landmark at its centre and one outside, and its label map."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 4.0**2))
    image = np.repeat(np.rint(255 * spot)[..., None], 3, axis=2).astype(np.uint8)
    landmarks = np.array([[[x, y], [1.0, 1.0]]])
    labels = (spot > 0.5).astype(np.uint8)
    return Sample(image, labels, landmarks, np.ones((1, 2), bool), "s", 3, 0, instances=labels.copy())


def centroid(weights: np.ndarray) -> tuple[float, float]:
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]]
    total = float(weights.sum())
    return float((columns * weights).sum() / total), float((rows * weights).sum() / total)


def test_unknown_kinds_and_severities() -> None:
    with pytest.raises(KeyError):
        corrupt(blob(80, 60), "fog", 1)
    for severity in (0, 6):
        with pytest.raises(ValueError, match="a severity is one of"):
            corrupt(blob(80, 60), "grey", severity)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_is_repeatable_and_leaves_its_input_alone(kind: str, sample: Sample) -> None:
    assert sample.label_map is not None
    before = (sample.image.copy(), sample.label_map.copy(), sample.landmarks.copy())
    differences = []
    for severity in SEVERITIES:
        one, other = (corrupt(sample, kind, severity) for _ in range(2))
        np.testing.assert_array_equal(one.image, other.image)
        assert (one.image.dtype, one.image.shape) == (np.uint8, sample.image.shape)
        assert one.label_map is not None
        assert set(np.unique(one.label_map)) <= {*np.unique(sample.label_map)}
        differences.append(float(np.abs(one.image.astype(float) - sample.image).mean()))
    for now, then in zip((sample.image, sample.label_map, sample.landmarks), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert differences[0] > 0.1
    assert differences[4] > differences[2] > differences[0]


@pytest.mark.parametrize("kind", sorted(set(CORRUPTIONS) - {"zoom", "boxed"}))
def test_labels_stay_where_the_picture_stays(kind: str, sample: Sample) -> None:
    found = corrupt(sample, kind, 3)
    np.testing.assert_array_equal(found.label_map, sample.label_map)
    np.testing.assert_array_equal(found.landmarks, sample.landmarks)


@pytest.mark.parametrize("kind", ["zoom", "boxed"])
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", [(120, 160), (121, 163)])
def test_landmarks_and_masks_move_with_the_picture(kind: str, severity: int, size: tuple[int, int]) -> None:
    found = corrupt(blob(84.3, 57.8, size), kind, severity)
    expected = found.landmarks[0, 0]
    np.testing.assert_allclose(centroid(found.image[..., 0].astype(float)), expected, atol=0.12)
    assert found.label_map is not None
    np.testing.assert_allclose(centroid((found.label_map == 1).astype(float)), expected, atol=0.5)
    np.testing.assert_array_equal(found.label_map, found.instances)
    if kind == "zoom":
        assert np.isnan(found.landmarks[0, 1]).all()  # left the picture: known to be absent
        assert found.labelled.all()


def test_what_is_on_the_lens_stays_and_what_is_in_the_scene_moves(sample: Sample) -> None:
    later, elsewhere = replace(sample, frame=sample.frame + 1), replace(sample, sequence="other")
    for kind, stays in (
        ("blood", True),
        ("lens_dirt", True),
        ("text", True),
        ("boxed", True),
        ("smoke", False),
        ("noise", False),
    ):
        here = corrupt(sample, kind, 3).image
        assert np.array_equal(here, corrupt(later, kind, 3).image) is stays, kind
        assert not np.array_equal(here, corrupt(elsewhere, kind, 3).image), kind


def test_severity_3_is_what_labs_meet(sample: Sample) -> None:
    grey = corrupt(sample, "grey", 3).image
    assert np.ptp(grey, axis=2).max() == 0
    np.testing.assert_allclose(grey[..., 0], cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY), atol=1)
    flat = replace(sample, image=np.full((576, 720, 3), 100, np.uint8), label_map=None)
    assert corrupt(flat, "dark", 3).image.max() == 40
    assert corrupt(flat, "bright", 3).image.min() == 160
    assert float(corrupt(flat, "noise", 3).image.astype(float).std()) == pytest.approx(20, rel=0.01)
    columns = np.tile(np.arange(720, dtype=np.uint8) // 4, (576, 1))
    ramp = replace(flat, image=np.repeat(columns[..., None], 3, axis=2))
    moved = corrupt(ramp, "interlace", 3).image
    np.testing.assert_array_equal(moved[1, 6:, 0], columns[0, :-6])
    np.testing.assert_array_equal(moved[0, :, 0], columns[0])
    step = flat.image.copy()
    step[:, 360:] = 200
    edge = corrupt(replace(flat, image=step), "blur", 3).image[288, :, 0].astype(float)
    spread = np.diff(edge)
    places = np.arange(719) + 0.5
    middle = float((places * spread).sum() / spread.sum())
    assert float(np.sqrt(((places - middle) ** 2 * spread).sum() / spread.sum())) == pytest.approx(3.0, abs=0.1)
    assert {kind: CORRUPTIONS[kind].levels[2] for kind in ("zoom", "jpeg")} == {"zoom": 1.6, "jpeg": 10}


def test_red_stays_red_in_jpeg_and_a_cast_is_blue(sample: Sample) -> None:
    red = replace(sample, image=np.full((64, 64, 3), (200, 30, 30), np.uint8), label_map=None)
    found = corrupt(red, "jpeg", 1).image.reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(found, (200, 30, 30), atol=6)
    cast = corrupt(red, "colour_cast", 5).image[0, 0].astype(int)
    assert cast[0] < 100
    assert cast[2] > 45


def test_the_levels_are_frozen() -> None:
    """A changed level makes published figures incomparable: give it another name instead."""
    text = repr([(kind, corruption.levels) for kind, corruption in CORRUPTIONS.items()])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "f6bc8d514df0ccb2"
