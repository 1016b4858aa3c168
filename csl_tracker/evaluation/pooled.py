"""Metrics over the sequences of one seed, by table key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from csl_tracker import metrics
from csl_tracker.evaluation.runs import LandmarkErrors, SequenceResult
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


def overlap(parts: Sequence[SequenceResult], key: str) -> float | None:
    """Mean of ``dice``, ``precision`` or ``recall`` over the segmented images of several sequences."""
    values = np.concatenate([np.empty(0), *(part.overlaps[key] for part in parts)])
    return float(values.mean()) if len(values) else None


def false_positive_rate(reports: Iterable[Mapping[str, Any]]) -> float | None:
    """Mean rate over several reports, weighted by their numbers of absent landmarks."""
    pairs = [(report["absent"], report["false_positive_rate"]) for report in reports if report.get("absent")]
    absent = sum(count for count, _ in pairs)
    return sum(count * rate for count, rate in pairs) / absent if absent else None


def class_overlap(parts: Sequence[SequenceResult], name: str, key: str) -> float | None:
    """Mean over the segmented images of several sequences, from the means of the sequences."""
    found = [(part.report.get("classes", {}).get(name, {}).get(key), len(part.segmented)) for part in parts]
    known = [(value, count) for value, count in found if value is not None and count]
    return sum(value * count for value, count in known) / sum(count for _, count in known) if known else None
