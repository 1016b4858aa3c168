"""Durations in short, and which latencies can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PLAUSIBLE_LATENCY_S = 60.0
"""An image that seems older than this, or not yet taken, was stamped by another clock (a bag's, a simulation's)."""


def plausible(latency_s: float) -> bool:
    """Whether the two clocks behind a latency can be the same one."""
    return 0 <= latency_s < PLAUSIBLE_LATENCY_S


@dataclass(frozen=True)
class Durations:
    """Percentiles and maximum of some durations, ms."""

    p50: float
    p95: float
    max: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Durations | None:
        """Summarise durations in s; None without any."""
        if not seconds:
            return None
        p50, p95 = np.percentile(np.asarray(seconds), [50, 95])
        return cls(float(p50) * 1e3, float(p95) * 1e3, max(seconds) * 1e3)

    def __str__(self) -> str:
        return f"p50 {self.p50:.1f}, p95 {self.p95:.1f}, max {self.max:.1f} ms"
