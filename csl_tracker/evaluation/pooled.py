"""Metrics over the sequences of one seed, by table key: pooled over all visible landmarks, or all segmented images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from csl_tracker import metrics
from csl_tracker.evaluation.runs import LandmarkErrors, SequenceResult, pool
from csl_tracker.metrics import KBB_ALPHA, THRESHOLD_PX

GROSS_PX = 60.0
"""Threshold of a gross miss."""


def landmark_metrics(errors: LandmarkErrors) -> dict[str, float | None]:
    """Metrics of pooled errors."""
    summary = metrics.summary(errors.error)
    near = metrics.threshold_score(errors.error, THRESHOLD_PX)
    gross = metrics.survival(errors.error, [GROSS_PX])[0]
    return {
        **{f"error_px_{key}": summary[key] for key in ("mean", "median", "p90", "p95")},
        "threshold_score_20px": near,
        "kbb_0.15": metrics.kbb_score(errors.error, errors.box, KBB_ALPHA),
        "gross_miss_rate_60px": gross,
        "miss_rate": float(np.mean(errors.missed)) if len(errors.missed) else None,
    }


def localisation(parts: Sequence[SequenceResult], landmark: str | None = None) -> dict[str, float | None]:
    """Metrics of a landmark, or of all, pooled over sequences.

    Without the values of single frames, percentiles of several sequences and the KBB score are unknown: None.
    """
    if all(part.raw for part in parts):
        return landmark_metrics(
            pool(errors for part in parts for name, errors in part.landmarks.items() if landmark in (None, name))
        )
    known = [part for part in parts if part.visible(landmark)]
    reports = [part.report if landmark is None else part.report["landmarks"][landmark] for part in known]
    answered = [report["visible"] - report["unanswered"] for report in reports]
    visible = [report["visible"] for report in reports]
    near = _weighted([report["threshold_scores_px"][f"{GROSS_PX:g}"] for report in reports], visible)
    percentiles = reports[0]["landmark_error_px"] if len(reports) == 1 else {}
    return {
        "error_px_mean": _weighted([report["landmark_error_px"]["mean"] for report in reports], answered),
        **{f"error_px_{key}": percentiles.get(key) for key in ("median", "p90", "p95")},
        "threshold_score_20px": _weighted([report["threshold_score_20px"] for report in reports], visible),
        "kbb_0.15": reports[0]["kbb_0.15"] if len(reports) == 1 else None,
        "gross_miss_rate_60px": None if near is None else 1.0 - near,
        "miss_rate": _weighted([report["miss_rate"] for report in reports], visible),
    }


def overlap(parts: Sequence[SequenceResult], key: str) -> float | None:
    """Mean of ``dice``, ``precision`` or ``recall`` over the segmented images of several sequences."""
    if not all(part.raw for part in parts):
        return _weighted([part.report[key] for part in parts], [part.images() for part in parts])
    values = np.concatenate([np.empty(0), *(part.overlaps[key] for part in parts)])
    return float(values.mean()) if len(values) else None


def mean_over_sequences(values: Iterable[float | None]) -> float | None:
    """Mean of the known values of sequences, each of which counts once."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def false_positive_rate(reports: Iterable[Mapping[str, Any]]) -> float | None:
    """Mean rate over several reports, weighted by their numbers of absent landmarks."""
    pairs = [(report["absent"], report["false_positive_rate"]) for report in reports if report.get("absent")]
    absent = sum(count for count, _ in pairs)
    return sum(count * rate for count, rate in pairs) / absent if absent else None


def class_overlap(parts: Sequence[SequenceResult], name: str, key: str) -> float | None:
    """Mean over the segmented images of several sequences, from the means of the sequences."""
    found = [part.report.get("classes", {}).get(name, {}).get(key) for part in parts]
    return _weighted(found, [part.images() for part in parts])


def _weighted(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Weighted mean of the known values; None without any."""
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None and weight]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else None
