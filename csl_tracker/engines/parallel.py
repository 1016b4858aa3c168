"""Runs two functions in parallel, for single-threaded OpenCV and NumPy operations."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Pair:
    """A second worker thread for half of the work. OpenCV and NumPy release the GIL during array operations."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._alone = cores < 2

    def run(self, one: Callable[[], object], other: Callable[[], object]) -> None:
        """Run both functions, wait for both, and raise the error of either."""
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
