import math
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.errors import ConfigError, ImageError
from csl_tracker.instruments import ENDOVIS
from csl_tracker.tracker import Tracker


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((10, 0, 3), np.uint8),
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
    ],
)
def test_bad_images_are_refused_and_the_tracker_lives_on(random_weights: Path, image: np.ndarray) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch")
    with pytest.raises(ImageError, match=r"uint8 \(H, W, 3\)"):
        tracker.track(image)
    assert tracker.track(np.zeros((64, 64, 3), np.uint8)).size == (64, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_instruments": 0}, "max_instruments is 0"),
        ({"max_instruments": 99}, "max_instruments is 99"),
        ({"confidence_threshold": 1.5}, "confidence_threshold is 1.5"),
        ({"confidence_threshold": math.nan}, "confidence_threshold is nan"),
    ],
)
def test_numbers_out_of_range_are_refused(random_weights: Path, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tracker.from_weights(random_weights, "cpu", "torch", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(576, 720), (1, 1), (3, 500), (1080, 1920)])
@pytest.mark.parametrize("count", [1, 2])
def test_every_result_is_complete(random_weights: Path, size: tuple[int, int], count: int) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch", max_instruments=count, always_report=True)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    result = tracker.track(image)
    assert result.size == size
    assert result.label_map is not None
    assert result.label_map.shape == size
    assert result.label_map.max() < ENDOVIS.num_classes
    assert len(result.instruments) <= count
    assert result.processing_time_s > 0
    for instrument in result.instruments:
        assert sum(item.visible for item in instrument.landmarks) != 1, "one sure landmark alone is no instrument"
        assert tuple(item.name for item in instrument.landmarks) == ENDOVIS.landmarks
        assert 0 <= instrument.confidence <= 1
        left, top, width, height = instrument.roi
        assert 0 <= left <= left + width <= size[1]
        assert 0 <= top <= top + height <= size[0]
        for item in instrument.landmarks:
            assert 0 <= item.confidence <= 1
            assert not item.visible or item.confidence >= tracker.confidence_threshold
            if math.isfinite(item.x):
                assert -size[1] <= item.x <= 2 * size[1]
                np.testing.assert_allclose(item.covariance, item.covariance.T)
                assert (np.linalg.eigvalsh(item.covariance) > 0).all()


def test_the_same_image_gives_the_same_result(random_weights: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    results = []
    for _ in range(2):
        tracker = Tracker.from_weights(random_weights, "cpu", "torch", always_report=True)
        results.append([tracker.track(image, stamp_s=k * 0.04) for k in range(3)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.label_map, b.label_map)
        for one, other in zip(a.instruments, b.instruments, strict=True):
            assert (one.track_id, one.slot) == (other.track_id, other.slot)
            assert [(p.x, p.y, p.confidence) for p in one.landmarks] == [(p.x, p.y, p.confidence) for p in other.landmarks]


def test_no_label_map_unless_asked_for(random_weights: Path) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch")
    assert tracker.track(np.zeros((64, 64, 3), np.uint8), segmentation=False).label_map is None


def test_non_contiguous_images_are_taken(random_weights: Path) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch", always_report=True)
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    first = tracker.track(image[..., ::-1].copy())
    again = tracker.track(image[..., ::-1])
    np.testing.assert_array_equal(first.label_map, again.label_map)
