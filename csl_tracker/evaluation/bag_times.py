"""Timing of recorded poses: latency, processing time and publishing intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.evaluation.recorded_bag import Frame, RecordedBag


class Times:
    """Collects the times of frames.

    Attributes:
        latency_ms: Per frame, from publication of the image to reception of its poses; NaN if unknown.
    """

    def __init__(self, bag: RecordedBag) -> None:
        self._bag = bag
        self.latency_ms: list[float] = []
        self._recorder_ms: list[float] = []
        self._processing_ms: list[float] = []

    def add(self, frame: Frame) -> None:
        """Add a frame."""
        answer, image_ns = frame.answer, self._bag.image_recorded.get(frame.stamp_ns)
        latency = delay = math.nan
        if answer is not None and not self._bag.offline:
            if self._bag.replayed:
                latency = (answer.received_ns - answer.published_ns) / 1e6
            if image_ns is not None:
                delay = (answer.received_ns - image_ns) / 1e6
        self.latency_ms.append(latency)
        self._recorder_ms.append(delay)
        if answer is not None and answer.result.processing_time_s > 0:
            self._processing_ms.append(answer.result.processing_time_s * 1e3)

    def report(self) -> dict[str, Any]:
        """Latency (or the reason why it is not available), recorder delay and processing time."""
        latency = [value for value in self.latency_ms if math.isfinite(value)]
        delay = [value for value in self._recorder_ms if math.isfinite(value)]
        reason = self._not_applicable(latency)
        return {
            "latency_ms": percentiles(latency if reason is None else []),
            "latency_not_applicable": reason,
            "recorder_delay_ms": percentiles(delay if min(delay, default=0.0) >= 0 else []),
            "processing_ms": percentiles(self._processing_ms),
        }

    def _not_applicable(self, latency: Sequence[float]) -> str | None:
        if self._bag.offline:
            return "the poses were recorded at the stamps of their images, which contain no processing time"
        if not self._bag.replayed:
            return (
                "the stamps are not known to be the times of the images' publication on the recorder's clock"
                " (replay with stamps of now to measure it)"
            )
        if min(latency, default=0.0) < 0:
            return "poses were received before their images were published: the two clocks do not agree"
        return None if latency else "no image was answered"


def intervals(bag: RecordedBag) -> dict[str, float | int | str | None]:
    """Intervals between receptions: median, standard deviation, 95th percentile of the deviation from the median, max."""
    values: FloatArray = np.diff(np.array(bag.reception_ns, np.int64)).astype(np.float64) / 1e6
    if bag.offline or not values.size:
        reason = "the poses were recorded at the stamps of their images" if bag.offline else "there is one pose array"
        return {"median": None, "sd": None, "p95_off_median": None, "max": None, "not_applicable": reason}
    median = float(np.median(values))
    return {
        "median": median,
        "sd": float(values.std()),
        "p95_off_median": float(np.percentile(np.abs(values - median), 95)),
        "max": float(values.max()),
        "not_applicable": None,
    }


def percentiles(values: Sequence[float]) -> dict[str, float | int | None]:
    """``p50``, ``p90``, ``p95``, ``p99`` (linear interpolation), ``max``, ``mean`` and ``count``; None if empty."""
    found: dict[str, float | int | None] = {
        f"p{q}": float(np.percentile(values, q)) if len(values) else None for q in (50, 90, 95, 99)
    }
    found["max"] = float(max(values)) if len(values) else None
    found["mean"] = float(np.mean(values)) if len(values) else None
    found["count"] = len(values)
    return found
