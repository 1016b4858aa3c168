from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from csl_tracker.evaluation.bootstrap import RESAMPLES
from csl_tracker.evaluation.intervals import CONFIDENCE, Interval
from csl_tracker.evaluation.quantities import QUANTITIES
from csl_tracker.evaluation.runs import parse_runs
from csl_tracker.evaluation.statistics import Comparison, adjust, compare, verdict

QUANTITY = {quantity.key: quantity for quantity in QUANTITIES}
Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("difference", "p", "larger_is_better", "expected"),
    [
        (0.1, 0.01, True, "A better"),
        (0.1, 0.05, False, "B better"),
        (-0.2, 0.01, True, "B better"),
        (-0.2, 0.01, False, "A better"),
        (-0.1, 0.051, True, "not separable"),
        (0.1, 1.0 - CONFIDENCE, True, "A better"),
        (0.1, math.nextafter(1.0 - CONFIDENCE, 1.0), True, "not separable"),
        (0.1, None, True, "not separable"),
        (0.1, float("nan"), True, "not separable"),
        (0.0, 0.0, True, "not separable"),
    ],
)
def test_verdict(difference: float, p: float | None, larger_is_better: bool, expected: str) -> None:
    assert verdict(difference, p, larger_is_better) == expected


def test_nothing_in_common_is_not_measured(make_run: Make, sequence: Make, landmark: Make) -> None:
    part = {"Dataset1": sequence({"center": landmark([1.0])}, dice=None)}
    runs = parse_runs([make_run("csl", part), make_run("l", part), make_run("sl", part, seed=1)])
    without_masks = compare(runs, "csl", "l", QUANTITY["dice"])
    expected = Comparison("csl", "l", QUANTITY["dice"], None, None, None, (), None, "not measured", 0, 0, 0, 0, 0)
    assert without_masks == expected
    assert compare(runs, "csl", "sl", QUANTITY["landmark_error_px"]).verdict == "not measured"
    assert compare(runs, "csl", "unet", QUANTITY["landmark_error_px"]).verdict == "not measured"


def test_only_units_of_both_count_and_the_others_are_named(make_run: Make, sequence: Make, landmark: Make) -> None:
    first = {"Dataset1": sequence({"center": landmark([10.0, None, 30.0, 70.0], frames=[0, 1, 2, 3])}, dice=None)}
    second = {"Dataset1": sequence({"center": landmark([20.0, 5.0, 70.0], frames=[0, 1, 2])}, dice=None)}
    runs = parse_runs([make_run("csl", first), make_run("sl", second), make_run("csl", first, seed=1)])
    error = compare(runs, "csl", "sl", QUANTITY["landmark_error_px"])
    assert (error.mean_a, error.mean_b, error.units, error.left_out) == (20.0, 45.0, 2, 2)
    assert error.difference == Interval(-25.0)
    assert (error.sequences, error.seeds, error.verdict) == (1, 1, "not separable")
    within = compare(runs, "csl", "sl", QUANTITY["threshold_score_20px"])
    assert (within.mean_a, within.mean_b, within.units, within.left_out) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
        3,
        1,
    ), "20 px is not below 20 px, and no guess is not below it either"
    gross = compare(runs, "csl", "sl", QUANTITY["gross_miss_rate_60px"])
    assert (gross.mean_a, gross.mean_b) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_units_of_one_model_alone_are_named(make_run: Make, sequence: Make, landmark: Make) -> None:
    parts = [{"Dataset1": sequence({"center": landmark(errors)}, dice=None)} for errors in ([1.0, None], [None, None])]
    runs = parse_runs([make_run("csl", parts[0]), make_run("sl", parts[1])])
    found = compare(runs, "csl", "sl", QUANTITY["landmark_error_px"])
    assert (found.verdict, found.left_out) == ("not measured", 1)


@pytest.mark.parametrize("errors", [[], [None], [None, None, None]])
def test_nothing_finite_is_not_measured(make_run: Make, sequence: Make, landmark: Make, errors: list[float | None]) -> None:
    part = {"Dataset1": sequence({"center": landmark(errors)}, dice=None)}
    runs = parse_runs([make_run("csl", part), make_run("sl", part)])
    for only_frames in (False, True):
        found = compare(runs, "csl", "sl", QUANTITY["landmark_error_px"], these_frames_only=only_frames)
        assert (found.verdict, found.mean_a, found.by_sequence, found.units) == ("not measured", None, (), 0)


def test_one_frame_is_not_separable(make_run: Make, sequence: Make, landmark: Make) -> None:
    parts = ({"Dataset1": sequence({"center": landmark([error])}, dice=None)} for error in (1.0, 9.0))
    runs = parse_runs(make_run(model, part) for model, part in zip(("csl", "sl"), parts, strict=True))
    for only_frames in (False, True):
        found = compare(runs, "csl", "sl", QUANTITY["landmark_error_px"], these_frames_only=only_frames)
        assert (found.verdict, found.difference, found.adjusted_p) == ("not separable", Interval(-8.0), None)
    assert found.by_sequence == (("Dataset1", -8.0),)


def test_frames_of_two_recordings_are_refused(make_run: Make, sequence: Make, landmark: Make) -> None:
    parts = {name: sequence({"center": landmark([1.0, 2.0])}) for name in ("Dataset1", "Dataset2")}
    runs = parse_runs([make_run("csl", parts), make_run("sl", parts)])
    with pytest.raises(ValueError, match="unpack"):
        compare(runs, "csl", "sl", QUANTITY["dice"], these_frames_only=True)


@pytest.mark.parametrize(("names", "only_frames"), [(("Dataset1",), True), (tuple("abcdef"), False)])
def test_the_number_of_resamples_is_that_of_the_interval(
    make_run: Make, sequence: Make, landmark: Make, names: tuple[str, ...], only_frames: bool
) -> None:
    runs = experiment(make_run, sequence, landmark, names)
    quantity = QUANTITY["landmark_error_px"]
    few, more, again = (compare(runs, "csl", "sl", quantity, resamples, only_frames) for resamples in (20, 40, 20))
    assert few == again
    assert few.difference != more.difference
    assert compare(runs, "csl", "sl", quantity, these_frames_only=only_frames) == compare(
        runs, "csl", "sl", quantity, RESAMPLES, only_frames
    )


def experiment(make_run: Make, sequence: Make, landmark: Make, names: tuple[str, ...]) -> list[Any]:
    rng = np.random.default_rng(6)
    runs = []
    for fold in names:
        for seed in (0, 1):
            hard = rng.gamma(2.0, 4.0, 60)
            for model, more in (("csl", 0.0), ("sl", 6.0)):
                errors = landmark([float(x) for x in hard + more + rng.normal(scale=0.5, size=60)])
                dice = (0.9 - more / 100 + rng.normal(scale=0.01, size=60)).tolist()
                runs.append(make_run(model, {fold: sequence({"center": errors}, dice=dice)}, seed, fold))
    return parse_runs(runs)


def test_two_models_in_three_folds_with_a_clear_difference(make_run: Make, sequence: Make, landmark: Make) -> None:
    runs = experiment(make_run, sequence, landmark, ("Dataset1", "Dataset2", "Dataset3"))
    error = compare(runs, "csl", "sl", QUANTITY["landmark_error_px"])
    assert error.difference is not None
    assert error.mean_a is not None
    assert error.mean_b is not None
    assert error.difference.estimate == pytest.approx(-6.0, abs=0.3)
    assert error.difference.estimate == pytest.approx(error.mean_a - error.mean_b)
    differences = [difference for _, difference in error.by_sequence]
    expected = stats.ttest_1samp(differences, 0.0)
    assert (error.difference.low, error.difference.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert error.difference.p == error.adjusted_p == pytest.approx(expected.pvalue)
    assert (error.verdict, error.sequences, error.seeds) == ("A better", 3, 2)
    assert (error.units, error.distinct) == (360, 180)
    assert compare(runs, "sl", "csl", QUANTITY["dice"]).verdict == "B better"
    same = compare(runs, "csl", "csl", QUANTITY["dice"])
    assert (same.verdict, same.difference) == ("not separable", Interval(0.0, 0.0, 0.0, 1.0))


@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("key", ["dice", "landmark_error_px", "threshold_score_20px"])
def test_swapped_models_have_the_mirrored_result_exactly(
    make_run: Make, sequence: Make, landmark: Make, count: int, key: str
) -> None:
    """Also where one of the models lacks sequences, and lists the others in another order."""
    rng = np.random.default_rng(count)
    made = []
    for model, names in (("csl", range(count)), ("sl", range(count + 1, -1, -1))):
        parts = {}
        for name in names:
            errors = [float(x) for x in rng.gamma(2.0, 9.0, 40)]
            parts[f"Dataset{name}"] = sequence({"center": landmark(errors)}, dice=rng.uniform(size=40).tolist())
        made += [make_run(model, parts, seed) for seed in (0, 1)]
    runs = parse_runs(made)
    ours, theirs = (compare(runs, *models, QUANTITY[key]) for models in (("csl", "sl"), ("sl", "csl")))
    assert ours.difference is not None
    assert ours.left_out == 2 * 2 * 40, "two seeds of two sequences of 40 frames"
    assert theirs == mirrored(ours)


def mirrored(found: Comparison) -> Comparison:
    """The result of the swapped models."""
    assert found.difference is not None
    low, high = found.difference.low, found.difference.high
    difference = Interval(
        -found.difference.estimate, None if high is None else -high, None if low is None else -low, found.difference.p
    )
    swapped = {"A better": "B better", "B better": "A better"}
    return Comparison(
        a=found.b,
        b=found.a,
        quantity=found.quantity,
        mean_a=found.mean_b,
        mean_b=found.mean_a,
        difference=difference,
        by_sequence=tuple((name, -value) for name, value in found.by_sequence),
        adjusted_p=found.adjusted_p,
        verdict=swapped.get(found.verdict, found.verdict),
        sequences=found.sequences,
        seeds=found.seeds,
        units=found.units,
        distinct=found.distinct,
        left_out=found.left_out,
    )


def test_a_family_is_adjusted(make_run: Make, sequence: Make, landmark: Make) -> None:
    """A difference that is clear alone is not so among 10 comparisons; those without units do not count."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(3):
        dice = rng.uniform(0.6, 0.9, 50)
        for model, more in (("csl", 0.05 + 0.008 * index), ("sl", 0.0)):
            part = sequence({"center": landmark([1.0])}, dice=(dice + more).tolist())
            made.append(make_run(model, {f"Dataset{index}": part}, fold=f"Dataset{index}"))
    runs = parse_runs(made)
    found, nothing, same = (compare(runs, "csl", other, QUANTITY["dice"]) for other in ("sl", "unet", "csl"))
    assert found.difference is not None
    assert found.difference.p is not None
    assert 0.005 < found.difference.p < 0.025
    assert (found.verdict, adjust([found, nothing])[0].verdict) == ("A better", "A better")
    of_many = adjust([found, nothing, *[same] * 9])
    assert of_many[0].adjusted_p == pytest.approx(10 * found.difference.p)
    assert of_many[0].verdict == "not separable"
    assert of_many[1] == nothing
    assert adjust([]) == []
