from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from csl_tracker.evaluation.runs import parse_runs
from csl_tracker.evaluation.statistics import (
    QUANTITIES,
    Interval,
    Units,
    block_length,
    compare,
    paired_bootstrap,
    verdict,
)

QUANTITY = {quantity.key: quantity for quantity in QUANTITIES}
Make = Callable[..., Any]


def units(values: np.ndarray, name: str = "a", fold: str = "all") -> Units:
    return Units(fold, name, tuple(range(len(values))), values, np.ones_like(values))


@pytest.mark.parametrize(
    ("low", "high", "larger_is_better", "expected"),
    [
        (0.1, 0.2, True, "A better"),
        (0.1, 0.2, False, "B better"),
        (-0.2, -0.1, True, "B better"),
        (-0.2, -0.1, False, "A better"),
        (-0.1, 0.2, True, "not separable"),
        (0.0, 0.2, True, "not separable"),
        (0.0, 0.0, True, "not separable"),
    ],
)
def test_verdict(low: float, high: float, larger_is_better: bool, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high), larger_is_better) == expected


@pytest.mark.parametrize(("frames", "expected"), [(1, 1), (4, 1), (50, 10), (51, 11), (375, 25)])
def test_block_length(frames: int, expected: int) -> None:
    assert block_length(frames) == expected


def test_independent_frames_of_one_video_against_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=80)
    ours = paired_bootstrap([units(values[None])], block=1, resamples=9000)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=9000, rng=1).confidence_interval
    assert ours.estimate == pytest.approx(values.mean())
    np.testing.assert_allclose([ours.low, ours.high], theirs, atol=0.03 * values.std())


def test_sequences_of_one_frame_have_the_interval_of_students_t() -> None:
    """Many independent sequences of a symmetric quantity: the case in which the t interval is exact."""
    values = np.random.default_rng(1).normal(size=24)
    ours = paired_bootstrap([units(np.full((1, 1), value), str(index)) for index, value in enumerate(values)], resamples=20_000)
    exact = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    np.testing.assert_allclose([ours.low, ours.high], exact, atol=0.06 * values.std())


def test_frames_that_move_together_widen_the_interval() -> None:
    slow = np.repeat(np.random.default_rng(2).normal(size=15), 25)[None]
    together, apart = (paired_bootstrap([units(slow)], block=block) for block in (25, 1))
    assert together.high - together.low > 3 * (apart.high - apart.low)


def test_three_sequences_that_disagree_separate_nothing_and_three_that_agree_do() -> None:
    def interval(means: list[float]) -> Interval:
        noise = np.random.default_rng(3).normal(scale=0.01, size=(3, 3, 40))
        return paired_bootstrap([units(mean + noise[i], str(i), str(i)) for i, mean in enumerate(means)])

    apart, alike = interval([0.5, 0.4, -0.02]), interval([0.5, 0.4, 0.1])
    assert apart.low < 0 < apart.high
    assert alike.low > 0


@pytest.mark.parametrize(
    ("sequences", "seeds", "nested"), [(8, 3, False), (8, 1, False), (3, 3, True)], ids=["synthetic", "one seed", "loso"]
)
def test_coverage_by_simulation(sequences: int, seeds: int, nested: bool) -> None:
    """Sequences, seeds and slow frames vary; the truth is zero, and is to lie inside about 95 times of 100."""
    rng = np.random.default_rng(4)
    trials, frames = 120, 40
    inside = 0
    for trial in range(trials):
        # What is common to all trainings cannot be seen with one seed.
        of_seed = rng.normal(scale=0.5 if seeds > 1 else 0.0, size=(sequences if nested else 1, seeds))
        parts = []
        for index in range(sequences):
            slow = np.repeat(rng.normal(size=frames // 8), 8)
            values = rng.normal() + of_seed[index if nested else 0][:, None] + slow + rng.normal(size=(seeds, frames))
            parts.append(units(values, str(index), str(index) if nested else "all"))
        interval = paired_bootstrap(parts, resamples=400, seed=trial)
        inside += interval.low <= 0 <= interval.high
    assert inside / trials >= 0.89


def test_same_units_same_interval() -> None:
    values = [units(np.random.default_rng(5).normal(size=(2, 30)), name) for name in "abc"]
    assert paired_bootstrap(values) == paired_bootstrap(values)
    assert paired_bootstrap(values) != paired_bootstrap(values, seed=1)


def test_nothing_in_common_is_not_measured(make_run: Make, sequence: Make, landmark: Make) -> None:
    part = {"Dataset1": sequence({"center": landmark([1.0])}, dice=None)}
    runs = parse_runs([make_run("csl", part), make_run("l", part), make_run("sl", part, seed=1)])
    without_masks = compare(runs, "csl", "l", QUANTITY["dice"])
    assert (without_masks.verdict, without_masks.difference, without_masks.units) == ("not measured", None, 0)
    assert compare(runs, "csl", "sl", QUANTITY["landmark_error_px"]).verdict == "not measured"
    assert compare(runs, "csl", "unet", QUANTITY["landmark_error_px"]).verdict == "not measured"


def test_only_units_of_both_count_and_the_others_are_named(make_run: Make, sequence: Make, landmark: Make) -> None:
    first = {"Dataset1": sequence({"center": landmark([10.0, None, 30.0, 70.0], frames=[0, 1, 2, 3])}, dice=None)}
    second = {"Dataset1": sequence({"center": landmark([20.0, 5.0, 70.0], frames=[0, 1, 2])}, dice=None)}
    runs = parse_runs([make_run("csl", first), make_run("sl", second), make_run("csl", first, seed=1)])
    error = compare(runs, "csl", "sl", QUANTITY["landmark_error_px"])
    assert (error.mean_a, error.mean_b, error.units, error.left_out) == (20.0, 45.0, 2, 2)
    assert error.difference is not None
    assert error.difference.estimate == -25.0
    assert (error.sequences, error.seeds) == (1, 1)
    within = compare(runs, "csl", "sl", QUANTITY["threshold_score_20px"])
    assert (within.mean_a, within.mean_b, within.units, within.left_out) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
        3,
        1,
    ), "20 px is not below 20 px, and no guess is not below it either"
    gross = compare(runs, "csl", "sl", QUANTITY["gross_miss_rate_60px"])
    assert (gross.mean_a, gross.mean_b) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_two_models_in_two_folds_with_a_clear_difference(make_run: Make, sequence: Make, landmark: Make) -> None:
    rng = np.random.default_rng(6)
    runs = []
    for fold in ("Dataset1", "Dataset2", "Dataset3"):
        for seed in (0, 1):
            hard = rng.gamma(2.0, 4.0, 60)
            for model, more in (("csl", 0.0), ("sl", 6.0)):
                errors = landmark([float(x) for x in hard + more + rng.normal(scale=0.5, size=60)])
                dice = (0.9 - more / 100 + rng.normal(scale=0.01, size=60)).tolist()
                runs.append(make_run(model, {fold: sequence({"center": errors}, dice=dice)}, seed, fold))
    parsed = parse_runs(runs)
    error = compare(parsed, "csl", "sl", QUANTITY["landmark_error_px"])
    assert error.difference is not None
    assert error.difference.estimate == pytest.approx(-6.0, abs=0.3)
    assert error.difference.low < error.difference.estimate < error.difference.high < 0
    assert (error.verdict, error.sequences, error.seeds, error.units) == ("A better", 3, 2, 360)
    assert compare(parsed, "sl", "csl", QUANTITY["dice"]).verdict == "B better"
    same = compare(parsed, "csl", "csl", QUANTITY["dice"])
    assert (same.verdict, same.difference) == ("not separable", Interval(0.0, 0.0, 0.0))
