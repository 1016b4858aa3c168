"""Quantities that paired comparisons use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.evaluation.pooled import GROSS_PX
from csl_tracker.evaluation.runs import SequenceResult
from csl_tracker.metrics import THRESHOLD_PX

Measure = Callable[[SequenceResult], Mapping[tuple[int, ...], float]]


@dataclass(frozen=True)
class Quantity:
    """A quantity to compare.

    Attributes:
        key: Name in tables.
        unit: ``px``, or empty for a fraction.
        larger_is_better: Whether larger means are better.
        measure: Returns the values of a sequence by unit; the first element of a unit is the frame number.
        mean: Returns the mean of a sequence whose frames are not known; None without one, or where models answer differently.
        counted: Key of the number of units in the report of such a sequence.
    """

    key: str
    unit: str
    larger_is_better: bool
    measure: Measure
    mean: Callable[[Mapping[str, Any]], float | None] = lambda report: None
    counted: str = "visible"

    def values(self, part: SequenceResult) -> Mapping[tuple[int, ...], float]:
        """The values of a sequence by unit; its mean is the only unit if its frames are not known."""
        if part.raw:
            return self.measure(part)
        mean = self.mean(part.report)
        return {} if mean is None else {(0,): mean}

    def count(self, part: SequenceResult, units: int) -> int:
        """Number of landmarks or images behind a number of units of a sequence."""
        return units if part.raw or not units else int(part.report[self.counted])


def _dice(part: SequenceResult) -> Mapping[tuple[int, ...], float]:
    values = part.overlaps["dice"]
    return {(int(frame),): float(value) for frame, value in zip(part.segmented, values, strict=True)}


def _errors(part: SequenceResult, value: Callable[[FloatArray], npt.NDArray[np.generic]]) -> dict[tuple[int, ...], float]:
    return {
        (int(frame), int(slot), index): float(number)
        for index, errors in enumerate(part.landmarks.values())
        for frame, slot, number in zip(errors.frame, errors.slot, value(errors.error), strict=True)
    }


def _mean_error(report: Mapping[str, Any]) -> float | None:
    return None if report["unanswered"] else report["landmark_error_px"]["mean"]  # the errors of both models must pair


def _mean_gross(report: Mapping[str, Any]) -> float | None:
    share = report["threshold_scores_px"].get(f"{GROSS_PX:g}")
    return None if share is None else 1.0 - share


QUANTITIES: tuple[Quantity, ...] = (
    Quantity("dice", "", True, _dice, lambda report: report["dice"], "segmented_frames"),
    Quantity("landmark_error_px", "px", False, lambda part: _errors(part, lambda error: error), _mean_error),
    Quantity(
        "threshold_score_20px",
        "",
        True,
        lambda part: _errors(part, lambda error: error < THRESHOLD_PX),
        lambda report: report["threshold_score_20px"],
    ),
    Quantity("gross_miss_rate_60px", "", False, lambda part: _errors(part, lambda error: ~(error < GROSS_PX)), _mean_gross),
)
"""Compared quantities. Errors need predictions of both models; rates count a missing prediction as an infinite error."""
