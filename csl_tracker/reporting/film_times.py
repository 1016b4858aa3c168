"""When the overlay video of a report shows each frame: at its own time, with long pauses shortened."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST_PAUSE_NS = 1_000_000_000
"""Longest time between two frames of the video, ns; a recording may pause for hours."""
_SMALL_NS = 2_000_000
"""A time inside the last frame, whatever duration the container gives it, ns."""


class FilmTimes:
    """Assigns ascending video times to frames.

    Args:
        period_ns: Usual time between two frames, ns; used where a stamp does not ascend.
    """

    def __init__(self, period_ns: int) -> None:
        self._period = min(max(1_000_000, period_ns), LONGEST_PAUSE_NS)
        self._times: list[int] = []
        self._stamp = 0

    def add(self, stamp_ns: int) -> int:
        """Add the next frame, and return its time in the video, ns from 0."""
        if self._times:
            step = stamp_ns - self._stamp
            self._times.append(self._times[-1] + (min(step, LONGEST_PAUSE_NS) if step > 0 else self._period))
        else:
            self._times.append(0)
        self._stamp = stamp_ns
        return self._times[-1]

    @property
    def starts_ns(self) -> Sequence[int]:
        """Start of each frame, ns, ascending."""
        return self._times


def inside(times_ns: Sequence[int]) -> list[float]:
    """The middle of each frame, s: a time to seek to, at which rounding shows no neighbour.

    Args:
        times_ns: Start of each frame, ascending, ns.
    """
    ends = [*times_ns[1:], times_ns[-1] + 2 * _SMALL_NS] if times_ns else []
    return [(start + end) / 2e9 for start, end in zip(times_ns, ends, strict=True)]
