from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn import metrics as sklearn_metrics

from csl_tracker import metrics
from csl_tracker.instruments import IGNORE_LABEL

NAN = math.nan


@pytest.mark.parametrize(
    "function", [metrics.threshold_score, lambda e, _: metrics.kbb_score(e, np.full(np.shape(e), NAN), 0.1)]
)
def test_shares_of_nothing_are_none(function) -> None:
    assert function([], 20) is None


def test_curves_of_nothing_are_none() -> None:
    assert metrics.threshold_curve([], [5, 10]) == metrics.survival([], [5, 10]) == [None, None]
    assert metrics.kbb_curve([3.0], [NAN], [0.1, 0.2]) == [None, None], "a single landmark spans no box"


def test_summary_of_nothing_is_none() -> None:
    assert metrics.summary([NAN, NAN]) == {"mean": None, "median": None, "p90": None, "p95": None, "max": None}


def test_errors_against_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50, 2))
    np.testing.assert_allclose(metrics.landmark_errors(a, b), np.diag(cdist(a, b)))
    assert np.isnan(metrics.landmark_errors([[NAN, NAN]], [[1.0, 2.0]])).all()


@pytest.mark.parametrize("shape", [(2,), (3, 2), (4, 3, 2), (5, 4, 3, 2)])
def test_errors_of_any_shape_are_distances_of_points(shape: tuple[int, ...]) -> None:
    predicted, truth = np.random.default_rng(4).normal(size=(2, *shape))
    errors = metrics.landmark_errors(predicted, truth)
    expected = [math.dist(a, b) for a, b in zip(predicted.reshape(-1, 2), truth.reshape(-1, 2), strict=True)]
    assert errors.shape == shape[:-1]
    assert errors.ravel() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicted", "truth", "error"),
    [
        (np.array([1, 2], np.uint8), np.array([4, 6], np.uint8), 5.0),  # unsigned differences would wrap
        (np.array([16777216.0, 0.0]), np.array([16777217, 0], np.int32), 1.0),
        (np.array([0.1, 0.0], np.float16), np.array([0.0, 0.0], np.float16), float(np.float16(0.1))),
        (np.array([60000.0, 0.0], np.float16), np.array([-60000.0, 0.0], np.float16), 120000.0),  # beyond float16
    ],
)
def test_errors_are_computed_in_double_precision(predicted: np.ndarray, truth: np.ndarray, error: float) -> None:
    for a, b in ((predicted, truth), (truth, predicted), (predicted.tolist(), truth), (truth, predicted.tolist())):
        found = metrics.landmark_errors(a, b)
        assert (found.dtype, float(found)) == (np.float64, error)


def test_thresholds_are_compared_in_double_precision() -> None:
    """In float16, 10.001 and 0.1 * 100.01 are 10."""
    error = np.array([10.0], np.float16)
    assert metrics.threshold_score(error, 10.001) == metrics.threshold_curve(error, [10.001])[0] == 1.0
    assert metrics.kbb_score(error, [100.01], 0.1) == metrics.kbb_curve(error, [100.01], [0.1])[0] == 1.0
    assert metrics.kbb_score([10.0], np.array([100.0], np.float16), 0.10001) == 1.0


@pytest.mark.parametrize(("error", "score"), [(15.0, 0.0), (math.nextafter(15.0, 0.0), 1.0), (NAN, 0.0)])
def test_an_error_at_the_factor_of_the_side_is_not_below_it(error: float, score: float) -> None:
    assert metrics.kbb_score([error], [100.0], 0.15) == metrics.kbb_curve([error], [100.0], [0.15])[0] == score


def test_threshold_score_is_the_empirical_distribution() -> None:
    errors = np.random.default_rng(1).gamma(2, 8, size=200)
    thresholds = [0.0, 5.0, 20.0, 1000.0]
    expected = stats.ecdf(errors).cdf.evaluate(thresholds)
    np.testing.assert_allclose(np.array(metrics.threshold_curve(errors, thresholds), float), expected)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_kbb_curve_is_the_empirical_distribution_of_error_over_side(missing: float) -> None:
    rng = np.random.default_rng(5)
    errors, sides = rng.gamma(2, 8, 300), rng.uniform(50, 200, 300)
    errors[rng.random(300) < missing] = 1e12  # what is not there is below nothing
    expected = stats.ecdf(errors / sides).cdf.evaluate([0.0, 0.05, 0.15, 0.5])
    errors[errors == 1e12] = NAN
    np.testing.assert_allclose(np.array(metrics.kbb_curve(errors, sides, [0.0, 0.05, 0.15, 0.5]), float), expected)


def test_survival_is_what_the_threshold_score_leaves() -> None:
    errors = np.random.default_rng(6).gamma(2, 30, 100)
    errors[::10] = NAN
    expected = stats.ecdf(np.nan_to_num(errors, nan=1e12)).sf.evaluate([1.0, 20.0, 60.0, 1e6])
    np.testing.assert_allclose(np.array(metrics.survival(errors, [1.0, 20.0, 60.0, 1e6]), float), expected)
    assert metrics.survival([60.0], [60.0]) == [1.0], "an error at the limit is not below it"


def test_error_at_the_threshold_and_no_guess_are_not_below_it() -> None:
    assert metrics.threshold_score([20.0, 19.999, NAN, 3.0], 20) == 0.5


@pytest.mark.parametrize(
    ("points", "side"),
    [
        ([[0, 0], [30, 40], [10, 5]], 40.0),
        ([[0, 0], [50, 40], [NAN, NAN]], 50.0),
        ([[0, 1000], [30, 1040], [10, 1005]], 40.0),  # not the range of all coordinates
        ([[1000, 0], [1050, 40]], 50.0),
        ([[0, 0], [30, 40], [NAN, 500], [500, NAN]], 40.0),  # half a point is none
        (np.array([[250, 3], [5, 4]], np.uint8), 245.0),
        (np.array([[-60000, 3], [60000, 4]], np.float16), 120000.0),  # beyond float16
        ([[3, 4], [NAN, NAN]], None),
        ([[3, 4]], None),
        ([[NAN, NAN]], None),
    ],
)
def test_bounding_box_side(points: list[list[float]], side: float | None) -> None:
    assert metrics.bounding_box_side(points) == side


def test_kbb_against_a_plain_loop() -> None:
    rng = np.random.default_rng(2)
    errors, sides = rng.gamma(2, 8, 100), rng.uniform(50, 200, 100)
    sides[::7], errors[::9] = NAN, NAN
    for alpha in (0.05, 0.15, 0.3):
        hits = [bool(e < alpha * s) for e, s in zip(errors, sides, strict=True) if not math.isnan(s)]
        assert metrics.kbb_score(errors, sides, alpha) == pytest.approx(sum(hits) / len(hits))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("label", [None, 1, 2])
def test_overlap_against_scikit_learn(share: float, label: int | None) -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, (40, 50)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < share, truth, rng.integers(0, 3, truth.shape)).astype(np.uint8)
    truth[5:9] = IGNORE_LABEL
    valid = truth != IGNORE_LABEL
    if label is None:
        result, a, b = metrics.tool_overlap(predicted, truth), truth[valid] > 0, predicted[valid] > 0
    else:
        result, a, b = metrics.class_overlap(predicted, truth, label), truth[valid] == label, predicted[valid] == label
    assert result.dice == pytest.approx(sklearn_metrics.f1_score(a, b))
    assert result.precision == pytest.approx(sklearn_metrics.precision_score(a, b))
    assert result.recall == pytest.approx(sklearn_metrics.recall_score(a, b))
    assert result.dice / (2 - result.dice) == pytest.approx(sklearn_metrics.jaccard_score(a, b))


@pytest.mark.parametrize(("predicted", "truth"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_masks_of_one_value_against_scikit_learn(predicted: int, truth: int) -> None:
    """Where a share has no denominator scikit-learn takes what ``zero_division`` says; DICE has one unless both are empty."""
    a, b = np.full(12, truth, np.uint8), np.full(12, predicted, np.uint8)
    result = metrics.class_overlap(b.reshape(3, 4), a.reshape(3, 4), 1)
    precision, recall = (f(a, b, zero_division=1.0) for f in (sklearn_metrics.precision_score, sklearn_metrics.recall_score))
    assert (result.precision, result.recall) == (precision, recall)
    assert result.dice == sklearn_metrics.f1_score(a, b, zero_division=1.0)


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (0, 0, (1.0, 1.0, 1.0)),
        (0, 1, (0.0, 1.0, 0.0)),
        (1, 0, (0.0, 0.0, 1.0)),
        (1, 2, (1.0, 1.0, 1.0)),  # any class is the tool
        (1, IGNORE_LABEL, (1.0, 1.0, 1.0)),
        (IGNORE_LABEL, 0, (1.0, 1.0, 1.0)),
    ],
)
def test_empty_masks(predicted: int, truth: int, expected: tuple[float, float, float]) -> None:
    result = metrics.tool_overlap(np.full((4, 4), predicted, np.uint8), np.full((4, 4), truth, np.uint8))
    assert (result.dice, result.precision, result.recall) == expected


@pytest.mark.parametrize("shift", [0, 1, 2, 4])
def test_masks_of_one_area_overlap_by_what_they_share(shift: int) -> None:
    truth = np.zeros((3, 8), np.uint8)
    truth[1, :4] = 1
    share = (4 - shift) / 4
    assert metrics.class_overlap(np.roll(truth, shift, axis=1), truth, 1) == metrics.Overlap(share, share, share)


def test_summary_leaves_out_what_is_not_there() -> None:
    result = metrics.summary([4.0, NAN, 1.0, 2.0, 3.0])
    p90, p95 = (pytest.approx(stats.scoreatpercentile([1, 2, 3, 4], q)) for q in (90, 95))
    assert result == {"mean": 2.5, "median": 2.5, "p90": p90, "p95": p95, "max": 4.0}


def test_summary_is_computed_in_double_precision() -> None:
    result = metrics.summary(np.array([1.0, 2048.0], np.float16))
    assert (result["mean"], result["median"]) == (1024.5, 1024.5), "1024 or 1025 in float16"
