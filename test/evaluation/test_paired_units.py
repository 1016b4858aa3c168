from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from csl_tracker.evaluation.paired_units import Units, pair
from csl_tracker.evaluation.quantities import QUANTITIES
from csl_tracker.evaluation.runs import parse_runs

QUANTITY = {quantity.key: quantity for quantity in QUANTITIES}
Make = Callable[..., Any]


@pytest.mark.filterwarnings("error")
def test_means_of_nothing_are_nan_without_a_warning(make_run: Make, sequence: Make, landmark: Make) -> None:
    empty = Units("all", "a", (0, 1), np.array([[0.0, 0.0], [1.0, 3.0]]), np.array([[0.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_array_equal(empty.seed_means(), [math.nan, 2.0])
    part = {"Dataset1": sequence({"center": landmark([None])})}
    found = pair(parse_runs([make_run("csl", part), make_run("l", part)]), "csl", "l", QUANTITY["landmark_error_px"])
    assert found.units == ()
    assert np.isnan([found.mean_a, found.mean_b]).all()
    assert (found.pairs, found.distinct, found.left_out) == (0, 0, 0)


def test_units_of_a_frame_are_added(make_run: Make, sequence: Make, landmark: Make) -> None:
    """Two instruments and two landmarks: three units in frame 4, two in frame 9, and one of a single model."""

    def part(tip: list[float | None], center: list[float]) -> Any:
        return {"Dataset1": sequence({"tip": landmark(tip, frames=[4, 4, 9], slots=[0, 1, 0]), "center": landmark(center)})}

    runs = [make_run("csl", part([1.0, 2.0, 3.0], [9.0])), make_run("l", part([8.0, 5.0, None], [4.0]))]
    runs[0]["sequences"]["Dataset1"]["details"]["landmarks"]["center"]["frame"] = [4]
    runs[1]["sequences"]["Dataset1"]["details"]["landmarks"]["center"]["frame"] = [4]
    found = pair(parse_runs(runs), "csl", "l", QUANTITY["landmark_error_px"])
    (units,) = found.units
    assert (units.fold, units.sequence, units.seeds) == ("all", "Dataset1", (0,))
    assert (units.total.tolist(), units.count.tolist()) == ([[-5.0]], [[3.0]])
    assert (found.mean_a, found.mean_b) == (4.0, pytest.approx(17 / 3))
    assert (found.pairs, found.distinct, found.left_out) == (3, 3, 1)


def test_frames_that_a_seed_lacks_count_nothing(make_run: Make, sequence: Make, landmark: Make) -> None:
    runs = []
    for seed, frames in ((0, [2, 7]), (5, [7, 8])):
        for model, errors in (("csl", [1.0, 2.0]), ("l", [4.0, 8.0])):
            runs.append(make_run(model, {"a": sequence({"tip": landmark(errors, frames=frames)}, dice=None)}, seed))
    (units,) = pair(parse_runs(runs), "csl", "l", QUANTITY["landmark_error_px"]).units
    assert units.seeds == (0, 5)
    assert units.total.tolist() == [[-3.0, -6.0, 0.0], [0.0, -3.0, -6.0]]
    assert units.count.tolist() == [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("key", "mean_a", "pairs"), [("dice", 0.7, 2 * 30), ("landmark_error_px", 9.0, 2 * 50), ("gross_miss_rate_60px", 0.2, 100)]
)
def test_sequences_without_frames_pair_by_their_means(make_run: Make, key: str, mean_a: float, pairs: int) -> None:
    """Two seeds; a landmark or image counts once for each, and once among the distinct ones."""
    report = {
        "landmarks": {},
        "dice": 0.7,
        "segmented_frames": 30,
        "visible": 50,
        "unanswered": 0,
        "landmark_error_px": {"mean": 9.0},
        "threshold_scores_px": {"60": 0.8},
    }
    runs = parse_runs(make_run(model, {"a": report}, seed, figures_only=True) for model in ("csl", "l") for seed in (0, 1))
    found = pair(runs, "csl", "l", QUANTITY[key])
    assert (found.mean_a, found.mean_b) == (pytest.approx(mean_a), pytest.approx(mean_a))
    assert (found.pairs, found.distinct, found.left_out) == (pairs, pairs // 2, 0)
    assert found.units[0].count.tolist() == [[1.0], [1.0]]
