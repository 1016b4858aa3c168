"""Times of a node that follows a camera: leases and a limit of the rate. This module imports no ROS."""

from __future__ import annotations

LEASE_PERIODS = 2.5
"""Lease and deadline, in periods of the expected rate: 83 ms at 30 Hz, so that a dead tracker is noticed within 100 ms."""

HEARTBEATS_PER_LEASE = 4
"""How often an idle worker renews its lease."""

_EARLY = 0.25
"""A frame that comes this share of a period too early still passes: cameras are not that regular."""


def lease_s(expected_rate: float) -> float:
    """Liveliness lease and deadline for a rate in Hz, s."""
    return LEASE_PERIODS / expected_rate


def heartbeat_s(expected_rate: float) -> float:
    """How often the lease for a rate in Hz is renewed while no image comes, s."""
    return lease_s(expected_rate) / HEARTBEATS_PER_LEASE


class RateLimiter:
    """Lets frames pass at a mean rate of no more than so many per second."""

    def __init__(self) -> None:
        self._due_s = float("-inf")

    def admit(self, now_s: float, limit: float) -> bool:
        """Whether the frame that came now passes.

        Args:
            now_s: Time on a clock that only goes forward, s.
            limit: Hz; 0 lets all pass.
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
