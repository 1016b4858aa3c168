"""Two pieces of work at once, for what OpenCV and NumPy do on one core."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Pair:
    """A second thread that takes half of the work. OpenCV and NumPy let others run while they are at work on arrays."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._alone = cores < 2

    def run(self, one: Callable[[], object], other: Callable[[], object]) -> None:
        """Do both, and return when both are done; an error of either is raised."""
        if self._alone:
            one()
            other()
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "csl_tracker half")
        waiting = self._threads.submit(one)
        try:
            other()
        finally:
            waiting.result()
