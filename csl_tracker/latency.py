"""Summary statistics and plausibility check of latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PLAUSIBLE_LATENCY_S = 60.0
"""Latencies beyond this, or negative, mean that another clock set the timestamp (bag playback, simulation)."""


def plausible(latency_s: float) -> bool:
    """Whether both timestamps of a latency can come from the same clock."""
    return 0 <= latency_s < PLAUSIBLE_LATENCY_S


@dataclass(frozen=True)
class Durations:
    """Percentiles and maximum of durations, ms."""

    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Durations | None:
        """Summarise durations in s; None if empty."""
        if not seconds:
            return None
        p50, p95 = np.percentile(np.asarray(seconds), [50, 95])
        return cls(float(p50) * 1e3, float(p95) * 1e3, max(seconds) * 1e3)

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f}, p95 {self.p95:.1f}, max {self.max:.1f} ms"
