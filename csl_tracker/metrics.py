"""Figures of localisation and segmentation, as pure functions of arrays.

Landmark errors follow Laina et al. (MICCAI 2017), section 3, and Sznitman et al. (MICCAI 2012): the Euclidean distance in px of
the source image, the threshold score (share of landmarks below t px), and the KBB score (keypoint bounding box: share of
landmarks below alpha times the longer side of the box around the true landmarks of the instrument). Segmentation figures are
binary, tool against background, per image; a figure of a sequence is the mean over its images. Every share is a fraction of 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, LabelMap
from csl_tracker.instruments import IGNORE_LABEL

THRESHOLD_PX = 20.0
"""Error from which a landmark is missed, px: the Threshold Score of the paper's Table 1."""
KBB_ALPHA = 0.15
"""The same as a share of the box around the true landmarks."""


def landmark_errors(predicted: npt.ArrayLike, truth: npt.ArrayLike) -> FloatArray:
    """Euclidean distances.

    Args:
        predicted: (..., 2), (x, y) px.
        truth: (..., 2), (x, y) px.

    Returns:
        float64 (...), px; NaN where either point is NaN.
    """
    return np.asarray(np.linalg.norm(np.asarray(predicted, np.float64) - np.asarray(truth, np.float64), axis=-1), np.float64)


def threshold_score(errors: npt.ArrayLike, threshold_px: float) -> float | None:
    """Share of errors below a threshold; an error of NaN (there was no guess) is not below it.

    Args:
        errors: Any shape, px, one for every visible truth.
        threshold_px: The threshold t; the error has to be below it, not equal.

    Returns:
        0..1; None without any error.
    """
    values = np.asarray(errors, np.float64)
    return float(np.mean(values < threshold_px)) if values.size else None


def threshold_curve(errors: npt.ArrayLike, thresholds_px: Iterable[float]) -> list[float | None]:
    """The threshold score at each of the thresholds."""
    values = np.asarray(errors, np.float64)
    return [threshold_score(values, threshold) for threshold in thresholds_px]


def bounding_box_side(points: npt.ArrayLike) -> float | None:
    """Longer side of the axis-parallel box around the landmarks of one instrument.

    Args:
        points: (landmarks, 2), px; NaN where not visible.

    Returns:
        px; None where fewer than two landmarks are visible, which span no box.
    """
    values = np.asarray(points, np.float64)
    values = values[np.isfinite(values).all(axis=-1)]
    return float(np.ptp(values, axis=0).max()) if len(values) > 1 else None


def kbb_score(errors: npt.ArrayLike, sides: npt.ArrayLike, alpha: float) -> float | None:
    """Share of errors below ``alpha`` times the longer side of the true landmarks' bounding box.

    Args:
        errors: (n,), px; NaN (there was no guess) is not below.
        sides: (n,), px, :func:`bounding_box_side` of the instrument of each error; NaN where it has no box.
        alpha: The factor, such as 0.15.

    Returns:
        0..1, over the errors whose instrument has a box; None where there is none.
    """
    error, side = np.asarray(errors, np.float64), np.asarray(sides, np.float64)
    boxed = np.isfinite(side)
    return float(np.mean(error[boxed] < alpha * side[boxed])) if boxed.any() else None


def kbb_curve(errors: npt.ArrayLike, sides: npt.ArrayLike, alphas: Iterable[float]) -> list[float | None]:
    """The KBB score at each of the factors."""
    error, side = np.asarray(errors, np.float64), np.asarray(sides, np.float64)
    return [kbb_score(error, side, alpha) for alpha in alphas]


def survival(errors: npt.ArrayLike, at_px: Iterable[float]) -> list[float | None]:
    """Share of errors that are not below each of some distances: the tail that a robot feels.

    Args:
        errors: Any shape, px; NaN (there was no guess) is beyond every distance.
        at_px: The distances, px.

    Returns:
        0..1 each, one minus :func:`threshold_score`; None without any error.
    """
    return [None if score is None else 1.0 - score for score in threshold_curve(errors, at_px)]


@dataclass(frozen=True)
class Overlap:
    """Agreement of two binary masks of one image.

    Where a mask is empty these conventions hold: both empty means full agreement, all three are 1; an empty prediction has
    precision 1 (nothing of what it says is wrong) and recall 0; an empty truth has recall 1 and precision 0; DICE is 0 in both.

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
        valid: bool, the same shape; pixels outside are not counted.
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
    """Tool (any class but the background) against background, pixels with ``IGNORE_LABEL`` in the truth left out.

    Args:
        predicted: uint8 (H, W) label map.
        truth: uint8 (H, W) label map.
    """
    return overlap((predicted > 0) & (predicted != IGNORE_LABEL), truth > 0, truth != IGNORE_LABEL)


def class_overlap(predicted: LabelMap, truth: LabelMap, label: int) -> Overlap:
    """One class against all others, pixels with ``IGNORE_LABEL`` in the truth left out.

    Args:
        predicted: uint8 (H, W) label map.
        truth: uint8 (H, W) label map.
        label: The class.
    """
    return overlap(predicted == label, truth == label, truth != IGNORE_LABEL)


def summary(values: npt.ArrayLike) -> dict[str, float | None]:
    """Mean, median, 90th and 95th percentile (linear interpolation) and maximum.

    Args:
        values: Any shape; NaN is left out.

    Returns:
        ``mean``, ``median``, ``p90``, ``p95``, ``max``; None without any value.
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
