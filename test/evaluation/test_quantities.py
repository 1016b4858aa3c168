from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from csl_tracker.evaluation.quantities import QUANTITIES
from csl_tracker.evaluation.runs import SequenceResult, parse_run

QUANTITY = {quantity.key: quantity for quantity in QUANTITIES}
Make = Callable[..., Any]
FIGURES = {
    "landmarks": {},
    "dice": 0.75,
    "segmented_frames": 8,
    "visible": 20,
    "unanswered": 0,
    "landmark_error_px": {"mean": 12.5},
    "threshold_score_20px": 0.4,
    "threshold_scores_px": {"20": 0.4, "60": 0.9},
}


def without_frames(make_run: Make, **changed: Any) -> SequenceResult:
    """A sequence of which only the figures are known."""
    return parse_run(make_run("csl", {"Dataset1": {**FIGURES, **changed}}, figures_only=True)).sequences["Dataset1"]


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("dice", {"dice": None}),
        ("landmark_error_px", {"unanswered": 1}),  # which models answer differs, so their means do not pair
        ("landmark_error_px", {"landmark_error_px": {"mean": None}}),
        ("threshold_score_20px", {"threshold_score_20px": None}),
        ("gross_miss_rate_60px", {"threshold_scores_px": {"20": 0.4}}),
        ("gross_miss_rate_60px", {"threshold_scores_px": {"60": None}}),
    ],
)
def test_a_figure_that_is_missing_has_no_value(make_run: Make, key: str, changed: dict[str, Any]) -> None:
    part = without_frames(make_run, **changed)
    assert QUANTITY[key].values(part) == {}
    assert QUANTITY[key].count(part, 0) == 0


@pytest.mark.parametrize(
    ("key", "value", "count"),
    [
        ("dice", 0.75, 8),
        ("landmark_error_px", 12.5, 20),
        ("threshold_score_20px", 0.4, 20),
        ("gross_miss_rate_60px", 0.1, 20),
    ],
)
def test_without_frames_the_mean_is_the_only_unit(make_run: Make, key: str, value: float, count: int) -> None:
    part = without_frames(make_run)
    assert QUANTITY[key].values(part) == {(0,): pytest.approx(value)}
    assert QUANTITY[key].count(part, 1) == count


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("dice", {(0,): 0.9, (1,): 0.8}),
        ("landmark_error_px", {(3, 0, 0): 60.0, (3, 1, 0): math.nan, (5, 0, 1): 20.0, (6, 0, 1): 19.9}),
        ("threshold_score_20px", {(3, 0, 0): 0.0, (3, 1, 0): 0.0, (5, 0, 1): 0.0, (6, 0, 1): 1.0}),
        ("gross_miss_rate_60px", {(3, 0, 0): 1.0, (3, 1, 0): 1.0, (5, 0, 1): 0.0, (6, 0, 1): 0.0}),
    ],
)
def test_values_by_frame_slot_and_landmark(
    make_run: Make, sequence: Make, landmark: Make, key: str, values: dict[tuple[int, ...], float]
) -> None:
    landmarks = {"tip": landmark([60.0, None], frames=[3, 3], slots=[0, 1]), "center": landmark([20.0, 19.9], frames=[5, 6])}
    part = parse_run(make_run("csl", {"Dataset1": sequence(landmarks)})).sequences["Dataset1"]
    assert QUANTITY[key].values(part) == pytest.approx(values, nan_ok=True)
    assert QUANTITY[key].count(part, 7) == 7
