"""Leases, heartbeats and a rate limiter. This module imports no ROS."""

from __future__ import annotations

LEASE_PERIODS = 2.5
"""Lease and deadline in periods of the expected rate: 83 ms at 30 Hz, to detect a dead tracker within 100 ms."""

HEARTBEATS_PER_LEASE = 4
"""Renewals per lease by an idle worker."""

_EARLY = 0.25
"""Fraction of a period by which a frame may be early; cameras jitter."""


def lease_s(expected_rate: float) -> float:
    """Liveliness lease and deadline for a rate in Hz, s."""
    return LEASE_PERIODS / expected_rate


def heartbeat_s(expected_rate: float) -> float:
    """Renewal interval of the lease while no images arrive, s."""
    return lease_s(expected_rate) / HEARTBEATS_PER_LEASE


class RateLimiter:
    """Limits the mean frame rate."""

    def __init__(self) -> None:
        self._due_s = float("-inf")

    def admit(self, now_s: float, limit: float) -> bool:
        """Whether to accept a frame.

        Args:
            now_s: Present monotonic time, s.
            limit: Largest rate, Hz; 0 accepts all frames.
        """
        if limit <= 0:
            self._due_s = float("-inf")
            return True
        period = 1.0 / limit
        if self._due_s > now_s + 2 * period:  # the limit was lower before
            self._due_s = now_s
        if now_s < self._due_s - _EARLY * period:
            return False
        self._due_s = max(self._due_s, now_s - period) + period
        return True
