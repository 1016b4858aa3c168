"""Peaks found on a device against those that the CPU finds, on every kind of heatmap that could tell them apart."""

from itertools import chain

import numpy as np
import pytest
import torch

from csl_tracker.engines.base import ForegroundOfScores
from csl_tracker.engines.device_peaks import PeakFinder, SupportReader, read_peaks
from csl_tracker.grouping import Grouper
from csl_tracker.heatmaps import HeatmapSpec, decode, encode
from csl_tracker.instruments import ENDOVIS, InstrumentSet

LANDMARKS = ENDOVIS.num_landmarks


def noise(rng, h, w, spec):
    return rng.normal(size=(LANDMARKS, h, w))


def plateaus(rng, h, w, spec):
    return np.round(2 * rng.normal(size=(LANDMARKS, h, w))) / 2


def nowhere_positive(rng, h, w, spec):
    return -np.abs(rng.normal(size=(LANDMARKS, h, w)))


def gaussians(rng, h, w, spec):
    """Some lie beyond the border."""
    points = torch.from_numpy(rng.uniform(-5, (w + 5, h + 5), size=(3, LANDMARKS, 2)))
    return encode(points, (h, w), spec).numpy() + 0.02 * spec.peak * rng.normal(size=(LANDMARKS, h, w))


def saturated_flat_and_not_finite(rng, h, w, spec):
    maps = np.clip(rng.normal(size=(LANDMARKS, h, w)), 0, 1)
    maps[0] = 0
    maps[1, 2, 3], maps[2, 4, 4], maps[3, 1, 1] = np.nan, np.inf, -np.inf
    return maps


def half_precision(rng, h, w, spec):
    return rng.normal(size=(LANDMARKS, h, w)).astype(np.float16)


def as_points(groups):
    return [[None if peak is None else (round(peak.x, 6), round(peak.y, 6)) for peak in group] for group in groups]


@pytest.mark.parametrize("draw", [noise, plateaus, nowhere_positive, gaussians, saturated_flat_and_not_finite, half_precision])
@pytest.mark.parametrize("spec", [HeatmapSpec(1.0), HeatmapSpec(3.5), HeatmapSpec.paper(7.0)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_device_finds_what_the_cpu_finds(draw, spec, count):
    rng = np.random.default_rng(count)
    finder, read_support = PeakFinder(spec, ENDOVIS, count), SupportReader(ENDOVIS, count)
    grouper = Grouper(ENDOVIS, count, threshold=0.3)
    for h, w in ((9, 40), (61, 83)):
        maps = draw(rng, h, w, spec).astype(np.float32)
        scores = 3 * rng.normal(size=(3, h, w)).astype(np.float32)
        table, support = finder(torch.from_numpy(maps), torch.from_numpy(scores))
        found, expected = read_peaks(table.numpy(), spec), decode(maps, spec, count)
        assert [len(peaks) for peaks in found] == [len(peaks) for peaks in expected]
        for one, other in zip(chain(*found), chain(*expected), strict=True):
            assert (one.x, one.y) == pytest.approx((other.x, other.y), abs=1e-6)
            assert one.confidence == pytest.approx(other.confidence, abs=1e-6)
            np.testing.assert_allclose(one.covariance, other.covariance, atol=1e-5)
        groups = grouper.group(found, read_support(support.numpy(), (h, w)))
        assert as_points(groups) == as_points(grouper.group(expected, ForegroundOfScores(scores)))


def test_support_says_nothing_of_landmarks_that_no_skeleton_joins():
    apart = InstrumentSet(("a", "b", "c"), ("background", "tool"), skeleton=(("a", "b"),))
    finder = PeakFinder(HeatmapSpec(1.0), apart, 2)
    scores = torch.zeros(2, 20, 20)
    scores[1] = 3.0
    _, support = finder(torch.rand(3, 20, 20), scores)
    values = SupportReader(apart, 2)(support.numpy(), (20, 20)).values
    joined = np.isfinite(values)
    assert joined[0, :, 1, :].all()
    assert joined.sum() == 4, "each pair once, none within a landmark, none with c"
    np.testing.assert_allclose(values[joined], 1 / (1 + np.exp(-3.0)), rtol=1e-6)


def test_the_largest_score_saturates():
    finder = PeakFinder(HeatmapSpec(1.0), ENDOVIS, 1)
    scores = torch.zeros(3, 20, 20)
    scores[1] = 1e4
    _, support = finder(torch.rand(LANDMARKS, 20, 20), scores)
    assert support.tolist() == [1.0] * len(support)
