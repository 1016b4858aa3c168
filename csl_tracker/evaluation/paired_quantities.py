"""Quantities for the paired comparison of two evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from csl_tracker.evaluation.quantities import QUANTITIES, Quantity
from csl_tracker.evaluation.runs import SequenceResult
from csl_tracker.metrics import KBB_ALPHA


def _missed(part: SequenceResult) -> dict[tuple[int, ...], float]:
    return {
        (int(frame), int(slot), index): float(value)
        for index, marks in enumerate(part.landmarks.values())
        for frame, slot, value in zip(marks.frame, marks.slot, marks.missed, strict=True)
    }


def _within_box(part: SequenceResult) -> dict[tuple[int, ...], float]:
    """Like ``csl_tracker.metrics.kbb_score``: instruments without a box are ignored, a missing prediction is not below."""
    return {
        (int(frame), int(slot), index): float(error < KBB_ALPHA * side)
        for index, marks in enumerate(part.landmarks.values())
        for frame, slot, error, side in zip(marks.frame, marks.slot, marks.error, marks.box, strict=True)
        if math.isfinite(side)
    }


def _per_frame(part: SequenceResult, key: str) -> dict[tuple[int, ...], float]:
    details = part.report["details"]
    values = details.get(key) or ()
    return {
        (int(stamp),): float(value)
        for stamp, value in zip(details.get("stamp_ns", ()), values, strict=False)
        if value is not None
    }


PAIRED: tuple[Quantity, ...] = (
    *QUANTITIES,
    Quantity(f"kbb_{KBB_ALPHA:g}", "", True, _within_box),
    Quantity("miss_rate", "", False, _missed),
    Quantity("answered", "", True, lambda part: _per_frame(part, "answered")),
    Quantity("latency_ms", "ms", False, lambda part: _per_frame(part, "latency_ms")),
)
"""Quantities with a confidence interval; a quantity that is missing in either file is omitted."""

BY_LANDMARK = ("landmark_error_px", "threshold_score_20px", f"kbb_{KBB_ALPHA:g}", "miss_rate")
"""Quantities that are also compared per landmark, as ``QUANTITY LANDMARK``."""


def by_landmark(landmarks: Sequence[str]) -> list[Quantity]:
    """The quantities per landmark; empty for a single landmark."""

    def of(quantity: Quantity, landmark: str) -> Quantity:
        return replace(
            quantity,
            key=f"{quantity.key} {landmark}",
            measure=lambda part: quantity.measure(replace(part, landmarks={landmark: part.landmarks[landmark]})),
        )

    chosen = [quantity for quantity in PAIRED if quantity.key in BY_LANDMARK]
    return [of(quantity, landmark) for landmark in landmarks for quantity in chosen] if len(landmarks) > 1 else []
