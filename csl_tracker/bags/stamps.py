"""Header stamps that mean the same image though they differ a little: the one home of the tolerance.

A stamp that went through ``float`` seconds, milliseconds or another clock's unit comes back rounded, by 1 ms at most. Frames
lie farther apart than that by an order of magnitude.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

TOLERANCENS = 1_000_000
"""Two stamps that are so far apart, or less, can be those of one image."""


class StampIndex:
    """Finds the stamp that another one means.

    Attributes:
        tolerance_ns: :data:`TOLERANCENS`, or a quarter of the median distance of the stamps where that is less.
    """

    def __init__(self, stamps: Iterable[int], step_ns: int | None = None) -> None:
        """Sort the stamps.

        Args:
            stamps: In any order, ns.
            step_ns: How far frames lie apart; None takes the median distance of the stamps.
        """
        self._stamps = sorted(set(stamps))
        step = 4 * TOLERANCENS if step_ns is None else step_ns
        if step_ns is None and len(self._stamps) > 1:
            step = int(np.median(np.diff(self._stamps)))
        self.tolerance_ns = min(TOLERANCENS, step // 4)

    def nearest(self, stamp: int) -> int | None:
        """The nearest stamp, however far; None where there is none at all."""
        place = bisect_left(self._stamps, stamp)
        return min(self._stamps[max(place - 1, 0) : place + 1], key=lambda other: abs(other - stamp), default=None)

    def match(self, stamp: int) -> int:
        """The nearest stamp within the tolerance; without one, the stamp itself."""
        found = self.nearest(stamp)
        return found if found is not None and abs(found - stamp) <= self.tolerance_ns else stamp
