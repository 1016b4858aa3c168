"""One activation of the tracker, from ``activate`` to ``deactivate``. This module imports no ROS."""

from __future__ import annotations

import threading
from collections.abc import Callable

from csl_tracker.arrival import ArrivalOrder
from csl_tracker.node.diagnostics import FrameStatistics
from csl_tracker.node.timing import RateLimiter
from csl_tracker.tracker import Tracker


class Activation:
    """State of one activation; frames of an ended activation are never published.

    Args:
        generation: Number of the activation, from 1.
        tracker: The tracker.
        now_s: Present monotonic time, s.

    Attributes:
        statistics: Frame counters.
        limiter: Rate limiter.
        order: Checks the order of the frames' stamps.
        reset_wanted: Whether to reset identities before the next frame.
    """

    def __init__(self, generation: int, tracker: Tracker, now_s: float) -> None:
        self.generation = generation
        self.tracker = tracker
        self.statistics = FrameStatistics(now_s)
        self.limiter = RateLimiter()
        self.order = ArrivalOrder()
        self.reset_wanted = threading.Event()
        self.reset_wanted.set()
        self._lock = threading.Lock()
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether :meth:`end` was called."""
        return self._ended

    def end(self) -> None:
        """End the activation; when this returns, nothing more is published."""
        with self._lock:
            self._ended = True

    def publish(self, work: Callable[[], None]) -> bool:
        """Call ``work`` unless the activation has ended.

        Returns:
            Whether it was called.
        """
        with self._lock:
            if not self._ended:
                work()
            return not self._ended
