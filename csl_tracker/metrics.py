"""Localisation and segmentation metrics, as pure functions of arrays.

Landmark errors follow Laina et al. (MICCAI 2017), section 3, and Sznitman et al. (MICCAI 2012): the Euclidean distance in
source-image px, the threshold score (fraction of landmarks below t px), and the KBB score (keypoint bounding box: fraction of
landmarks below alpha times the longer side of the box around the instrument's true landmarks). Segmentation metrics are binary
(tool, background) per image; the value of a sequence is the mean over its images. Scores are in 0..1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, LabelMap
from csl_tracker.instruments import IGNORE_LABEL

THRESHOLD_PX = 20.0
"""Threshold of the Threshold Score in the paper's Table 1, px; larger errors are misses."""
KBB_ALPHA = 0.15
"""Threshold of the KBB score, as a fraction of the longer side of the landmarks' bounding box."""


def landmark_errors(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Euclidean distances.

    Args:
        predicted: (..., 2), (x, y) px.
        truth: (..., 2), (x, y) px.

    Returns:
        float64 (...), px; NaN if either point is NaN.
    """
    return np.asarray(np.linalg.norm(np.asarray(predicted, np.float64) - np.asarray(truth, np.float64), axis=-1), np.float64)


def threshold_score(errors: npt.ArrayLike, threshold_px: float) -> float | None:
    """Fraction of errors strictly below a threshold; NaN (no prediction) is not below.

    Args:
        errors: Any shape, px, one per visible ground-truth landmark.
        threshold_px: The threshold t.

    Returns:
        0..1; None if there are no errors.
    """
    values = np.asarray(errors, np.float64)
    return float(np.mean(values < threshold_px)) if values.size else None


def threshold_curve(errors: npt.ArrayLike, thresholds_px: Iterable[float]) -> list[float | None]:
    """The threshold score at each threshold."""
    values = np.asarray(errors, np.float64)
    return [threshold_score(values, threshold) for threshold in thresholds_px]


def bounding_box_side(points: npt.ArrayLike) -> float | None:
    """Longer side of the axis-aligned box around the landmarks of one instrument.

    Args:
        points: (landmarks, 2), px; NaN if not visible.

    Returns:
        px; None if fewer than two landmarks are visible.
    """
    values = np.asarray(points, np.float64)
    values = values[np.isfinite(values).all(axis=-1)]
    return float(np.ptp(values, axis=0).max()) if len(values) > 1 else None


def kbb_score(errors: npt.ArrayLike, sides: npt.ArrayLike, alpha: float) -> float | None:
    """Fraction of errors below ``alpha`` times the longer side of the true landmarks' bounding box.

    Args:
        errors: (n,), px; NaN (no prediction) is not below.
        sides: (n,), px, :func:`bounding_box_side` of the instrument of each error; NaN without a box.
        alpha: The factor, such as 0.15.

    Returns:
        0..1, over the errors whose instrument has a box; None without any.
    """
    error, side = np.asarray(errors, np.float64), np.asarray(sides, np.float64)
    boxed = np.isfinite(side)
    return float(np.mean(error[boxed] < alpha * side[boxed])) if boxed.any() else None


def kbb_curve(errors: npt.ArrayLike, sides: npt.ArrayLike, alphas: Iterable[float]) -> list[float | None]:
    """The KBB score at each factor."""
    error, side = np.asarray(errors, np.float64), np.asarray(sides, np.float64)
    return [kbb_score(error, side, alpha) for alpha in alphas]


def survival(errors: npt.ArrayLike, at_px: Iterable[float]) -> list[float | None]:
    """Fraction of errors at or above each distance: the tail of the error distribution.

    Args:
        errors: Any shape, px; NaN (no prediction) is beyond every distance.
        at_px: The distances, px.

    Returns:
        1 - :func:`threshold_score` for each distance; None if there are no errors.
    """
    return [None if score is None else 1.0 - score for score in threshold_curve(errors, at_px)]


@dataclass(frozen=True)
class Overlap:
    """Overlap of two binary masks of one image.

    Conventions for empty masks: both empty: all 1. Empty prediction: precision 1, recall 0, DICE 0. Empty truth: precision 0,
    recall 1, DICE 0.

    Attributes:
        dice: ``2 |A & B| / (|A| + |B|)`` (Dice 1945), equal to the F1 score.
        precision: ``|A & B| / |A|`` with the prediction A.
        recall: ``|A & B| / |B|`` with the truth B.
    """

    dice: float
    precision: float
    recall: float


def overlap(
    predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], valid: npt.NDArray[np.bool_] | None = None
) -> Overlap:
    """Compare two binary masks.

    Args:
        predicted: bool, any shape.
        truth: bool, the same shape.
        valid: bool, the same shape; other pixels are ignored.
    """
    if valid is not None:
        predicted, truth = predicted & valid, truth & valid
    both, a, b = (int(np.count_nonzero(mask)) for mask in (predicted & truth, predicted, truth))
    return Overlap(
        dice=2 * both / (a + b) if a + b else 1.0,
        precision=both / a if a else 1.0,
        recall=both / b if b else 1.0,
    )


def tool_overlap(predicted: LabelMap, truth: LabelMap) -> Overlap:
    """Tool (any class but the background) against background; ``IGNORE_LABEL`` pixels of the truth are ignored."""
    return overlap((predicted > 0) & (predicted != IGNORE_LABEL), truth > 0, truth != IGNORE_LABEL)


def class_overlap(predicted: LabelMap, truth: LabelMap, label: int) -> Overlap:
    """One class against all others; ``IGNORE_LABEL`` pixels of the truth are ignored."""
    return overlap(predicted == label, truth == label, truth != IGNORE_LABEL)


def summary(values: npt.ArrayLike) -> dict[str, float | None]:
    """Mean, median, 90th and 95th percentile (linear interpolation) and maximum.

    Args:
        values: Any shape; NaN is ignored.

    Returns:
        ``mean``, ``median``, ``p90``, ``p95``, ``max``; each None if there are no values.
    """
    numbers = np.asarray(values, np.float64).ravel()
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return {"mean": None, "median": None, "p90": None, "p95": None, "max": None}
    return {
        "mean": float(numbers.mean()),
        "median": float(np.median(numbers)),
        "p90": float(np.percentile(numbers, 90)),
        "p95": float(np.percentile(numbers, 95)),
        "max": float(numbers.max()),
    }
