"""The order of frames by their stamps: late ones, and time that went back."""

from __future__ import annotations

from enum import Enum

from csl_tracker.identity import LATE_S

PATIENCE = 5
"""So many frames behind the newest stamp, and none before it in between, are a clock that was set back by a little."""


class Arrival(Enum):
    """How a frame's stamp stands to those before it."""

    NEXT = "next"
    LATE = "late"
    BACK = "back"


class ArrivalOrder:
    """Tells late frames from time that went back, by their stamps.

    Attributes:
        newest_ns: The newest stamp since time last went back, ns; 0 before the first one.
    """

    def __init__(self) -> None:
        self.newest_ns = 0
        self._late_in_a_row = 0

    def classify(self, stamp_ns: int) -> Arrival:
        """Look at the next frame's stamp.

        Args:
            stamp_ns: Its stamp, ns; 0 is none, and never late.

        Returns:
            NEXT for a frame to be tracked, LATE for one to be left out, BACK for one to be tracked with new identities.
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
