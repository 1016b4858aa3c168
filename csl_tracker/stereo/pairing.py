"""Pair items of two stamped streams that belong to the same moment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

SIDES = ("left", "right")
_DEPTH = 20
"""Largest number of queued items per side."""


@dataclass(frozen=True)
class Pair(Generic[T]):
    """Two items of the same moment.

    Attributes:
        left: From the left stream.
        right: From the right stream.
        skew_ns: Right stamp minus left stamp.
    """

    left: T
    right: T
    skew_ns: int


class StampPairer(Generic[T]):
    """Pairs each item with the item of the other stream with the nearest stamp within a tolerance.

    A pair is returned as soon as both items have arrived, so the tolerance must be less than half the image period. Items older
    than a pair are never paired. If a stamp jumps back by more than ``restart_ns``, a bag was restarted, and both streams are
    cleared.

    Attributes:
        dropped: Unused items by reason: ``unpaired`` (no partner arrived), ``duplicate``, ``late`` (older than a returned
            pair), ``restarted``.

    Args:
        tolerance_ns: Largest difference of stamps; 0 requires equal stamps.
        restart_ns: See above.
    """

    def __init__(self, tolerance_ns: int = 0, restart_ns: int = 1_000_000_000) -> None:
        if tolerance_ns < 0:
            raise ValueError(f"the tolerance is {tolerance_ns} ns, but must be 0 or more")
        self.tolerance_ns = tolerance_ns
        self.restart_ns = restart_ns
        self.dropped: Counter[str] = Counter()
        self._waiting: dict[str, dict[int, T]] = {side: {} for side in SIDES}
        self._newest: dict[str, int | None] = dict.fromkeys(SIDES)
        self._paired: dict[str, int | None] = dict.fromkeys(SIDES)

    def add(self, side: str, stamp_ns: int, item: T) -> Pair[T] | None:
        """Add an item of a side; return the pair that it completes, if any."""
        newest, paired = self._newest[side], self._paired[side]
        if newest is not None and stamp_ns < newest - self.restart_ns:
            self.restart()
            newest = paired = None
        if newest is None or stamp_ns > newest:
            self._newest[side] = stamp_ns
        waiting = self._waiting[side]
        if stamp_ns in waiting or stamp_ns == paired:
            self.dropped["duplicate"] += 1
            return None
        if paired is not None and stamp_ns < paired:
            self.dropped["late"] += 1
            return None
        other = SIDES[1 - SIDES.index(side)]
        partner = min(self._waiting[other], key=lambda stamp: abs(stamp - stamp_ns), default=None)
        if partner is None or abs(partner - stamp_ns) > self.tolerance_ns:
            waiting[stamp_ns] = item
            if len(waiting) > _DEPTH:
                del waiting[min(waiting)]
                self.dropped["unpaired"] += 1
            return None
        found = self._waiting[other].pop(partner)
        self._paired[side], self._paired[other] = stamp_ns, partner
        for each, limit in ((side, stamp_ns), (other, partner)):
            for stamp in [stamp for stamp in self._waiting[each] if stamp < limit]:
                del self._waiting[each][stamp]
                self.dropped["unpaired"] += 1
        if side == "left":
            return Pair(item, found, partner - stamp_ns)
        return Pair(found, item, stamp_ns - partner)

    def restart(self) -> None:
        """Clear both streams, but keep the counts."""
        self.dropped["restarted"] += 1
        for side in SIDES:
            self.dropped["unpaired"] += len(self._waiting[side])
            self._waiting[side].clear()
            self._newest[side] = self._paired[side] = None
