"""Calibration of confidences: do they match the fraction of correct predictions?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from csl_tracker.metrics import THRESHOLD_PX

BINS = 10
"""Number of equal-width bins of the reliability diagram."""


def calibration(confidence: Sequence[float], correct: Sequence[bool]) -> dict[str, Any]:
    """Reliability of confidences (Guo et al., ICML 2017).

    Args:
        confidence: 0..1 per prediction.
        correct: Whether the error is below 20 px.

    Returns:
        ``ece``: the sum over the bins of ``n_b / n * |fraction correct in b - mean confidence in b|``; ``bins``: ``from``,
        ``to``, ``count``, ``confidence`` (mean), ``correct`` (fraction).
    """
    values, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    chosen = np.minimum((values * BINS).astype(int), BINS - 1)
    bins: list[dict[str, float | int | None]] = []
    error = 0.0
    for index in range(BINS):
        part = chosen == index
        count = int(part.sum())
        mean = float(values[part].mean()) if count else None
        share = float(right[part].mean()) if count else None
        if mean is not None and share is not None:
            error += count / len(values) * abs(share - mean)
        bins.append({"from": index / BINS, "to": (index + 1) / BINS, "count": count, "confidence": mean, "correct": share})
    return {"ece": error if len(values) else None, "within_px": THRESHOLD_PX, "count": len(values), "bins": bins}
