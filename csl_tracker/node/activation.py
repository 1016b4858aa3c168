"""One activation of the tracker, from ``activate`` to ``deactivate``. This module imports no ROS."""

from __future__ import annotations

import threading
from collections.abc import Callable

from csl_tracker.arrival import ArrivalOrder
from csl_tracker.node.diagnostics import FrameStatistics
from csl_tracker.node.timing import RateLimiter
from csl_tracker.tracker import Tracker


class Activation:
    """What belongs to one activation, and ends with it: a frame of an ended one is never published.

    Args:
        generation: Number of the activation, from 1.
        tracker: What tracks.
        now_s: Present time on a clock that only goes forward, s.

    Attributes:
        statistics: What became of its frames.
        limiter: Of the rate of its frames.
        order: Of its frames' stamps.
        reset_wanted: Identities are to be forgotten before the next frame.
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
        """Whether it is over."""
        return self._ended

    def end(self) -> None:
        """End it. When this returns nothing of it is being published, and nothing will be."""
        with self._lock:
            self._ended = True

    def publish(self, work: Callable[[], None]) -> bool:
        """Publish something, or do nothing when the activation is over.

        Returns:
            Whether it was published.
        """
        with self._lock:
            if not self._ended:
                work()
            return not self._ended
