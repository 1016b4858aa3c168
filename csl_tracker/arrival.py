"""Frame order by timestamp: detects late frames and time jumps backwards."""

from __future__ import annotations

from enum import Enum

from csl_tracker.identity import LATE_S

PATIENCE = 5
"""This many consecutive late frames mean that the clock was set back slightly."""


class Arrival(Enum):
    """Classification of a frame's timestamp."""

    NEXT = "next"
    LATE = "late"
    BACK = "back"


class ArrivalOrder:
    """Distinguishes late frames from time jumps backwards.

    Attributes:
        newest_ns: Newest timestamp since the last jump backwards, ns; 0 before the first frame.
    """

    def __init__(self) -> None:
        self.newest_ns = 0
        self._late_in_a_row = 0

    def classify(self, stamp_ns: int) -> Arrival:
        """Classify the next frame.

        Args:
            stamp_ns: Timestamp, ns; 0 means no timestamp and is never late.

        Returns:
            NEXT: track the frame. LATE: drop it. BACK: track it with new identities.
        """
        behind_ns = self.newest_ns - stamp_ns
        if stamp_ns == 0 or behind_ns <= 0:
            self.newest_ns = max(stamp_ns, self.newest_ns)
            self._late_in_a_row = 0
            return Arrival.NEXT
        self._late_in_a_row += 1
        if behind_ns <= round(LATE_S * 1e9) and self._late_in_a_row < PATIENCE:
            return Arrival.LATE
        self.newest_ns, self._late_in_a_row = stamp_ns, 0
        return Arrival.BACK
