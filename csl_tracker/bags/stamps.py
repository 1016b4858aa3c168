"""Match stamps of the same image that differ slightly by rounding.

A stamp that was converted to ``float`` seconds, milliseconds or another unit is off by at most 1 ms. Frame intervals are an
order of magnitude larger.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

TOLERANCE_NS = 1_000_000
"""Largest difference of two stamps of the same image."""


class StampIndex:
    """Finds the closest stamp.

    Attributes:
        tolerance_ns: :data:`TOLERANCE_NS`, or a quarter of the frame interval if that is less.
    """

    def __init__(self, stamps: Iterable[int], step_ns: int | None = None) -> None:
        """Sort the stamps.

        Args:
            stamps: In any order, ns.
            step_ns: Frame interval, ns; None for the median difference of the stamps.
        """
        self._stamps = sorted(set(stamps))
        step = 4 * TOLERANCE_NS if step_ns is None else step_ns
        if step_ns is None and len(self._stamps) > 1:
            step = int(np.median(np.diff(self._stamps)))
        self.tolerance_ns = min(TOLERANCE_NS, step // 4)

    def nearest(self, stamp: int) -> int | None:
        """The nearest stamp at any distance; None if there are no stamps."""
        place = bisect_left(self._stamps, stamp)
        return min(self._stamps[max(place - 1, 0) : place + 1], key=lambda other: abs(other - stamp), default=None)

    def match(self, stamp: int) -> int:
        """The nearest stamp within the tolerance, or else the given stamp."""
        found = self.nearest(stamp)
        return found if found is not None and abs(found - stamp) <= self.tolerance_ns else stamp
