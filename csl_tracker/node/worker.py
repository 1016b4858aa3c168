"""A worker thread that processes only the newest item. It is independent of ROS."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

_STOP_POLL_S = 0.05


class NewestItemWorker(Generic[T]):
    """Process items one at a time in a worker thread, always the newest.

    A slot holds the next item; a newer item replaces it, and the replaced one is counted as dropped. A slow consumer thus lags
    behind a fast camera by at most one frame.
    """

    def __init__(
        self,
        process: Callable[[T], None],
        on_error: Callable[[T, Exception], None],
        name: str = "worker",
        heartbeat: Callable[[], object] | None = None,
        heartbeat_s: float = 1.0,
        idle: Callable[[], None] | None = None,
        after: Sequence[NewestItemWorker[T]] = (),
    ) -> None:
        """Prepare the thread; :meth:`start` starts it.

        Errors in any of the callbacks do not end the thread.

        Args:
            process: Called in the thread with each item.
            on_error: Called with the item and the exception if ``process`` raised; if it raises itself, that is logged.
            name: Name of the thread.
            heartbeat: Called in the thread periodically between items, as a sign that it can take the next one; its errors are
                logged.
            heartbeat_s: Period of the heartbeat, s.
            idle: Called in the thread after an item if no other one waits; its errors are logged.
            after: Stopped workers that may still process a last item: items and heartbeat wait until they have ended.
        """
        self._idle = idle
        self._heartbeat = heartbeat
        self._heartbeat_s = heartbeat_s
        self._beat_due_s = 0.0
        self._busy_since_s: float | None = None
        self._after = list(after)
        self._process = process
        self._on_error = on_error
        self._condition = threading.Condition()
        self._item: T | None = None
        self._stopping = False
        self._received = 0
        self._processed = 0
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def received(self) -> int:
        """Items submitted so far."""
        return self._received

    @property
    def processed(self) -> int:
        """Items processed so far, including failed ones."""
        return self._processed

    @property
    def dropped(self) -> int:
        """Items replaced by a newer one before they were processed."""
        return self._dropped

    def busy_s(self) -> float:
        """Processing time of the present item so far, s; 0 while idle."""
        since = self._busy_since_s
        return 0.0 if since is None else time.monotonic() - since

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, item: T) -> bool:
        """Queue the newest item without blocking. Ignored after :meth:`stop`.

        Returns:
            Whether it replaced an older item, which was dropped.
        """
        with self._condition:
            if self._stopping:
                return False
            self._received += 1
            replaced = self._item is not None
            self._dropped += replaced
            self._item = item
            self._condition.notify()
            return replaced

    def stop(self, timeout_s: float | None = None) -> bool:
        """Finish the present item, drop the queued one, and join the thread. May be called twice.

        Args:
            timeout_s: How long to wait for the present item, s; None for no limit.

        Returns:
            Whether the thread has ended.
        """
        with self._condition:
            self._stopping = True
            if self._item is not None:
                self._dropped += 1
                self._item = None
            self._condition.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._after:
            if self._after[-1].stop(_STOP_POLL_S):
                self._after.pop()
            elif self._stopping:
                return
        while True:
            self._beat()
            with self._condition:
                if self._item is None and not self._stopping:
                    self._condition.wait(None if self._heartbeat is None else self._heartbeat_s)
                if self._stopping:
                    return
                if self._item is None:
                    continue
                item, self._item = self._item, None
                self._busy_since_s = time.monotonic()
            try:
                self._process(item)
            except Exception as error:
                self._report(item, error)
            finally:
                self._busy_since_s = None
                self._processed += 1
            self._settle()

    def _settle(self) -> None:
        if self._idle is None or self._item is not None or self._stopping:
            return
        try:
            self._idle()
        except Exception:
            logger.exception("The idle work of the thread %r failed.", self._thread.name)

    def _beat(self) -> None:
        now = time.monotonic()
        if self._heartbeat is None or now < self._beat_due_s:
            return
        # Half a period, so that a wait that ends slightly early does not skip a beat.
        self._beat_due_s = now + self._heartbeat_s / 2
        try:
            self._heartbeat()
        except Exception:
            logger.exception("The heartbeat of the thread %r failed.", self._thread.name)

    def _report(self, item: T, error: Exception) -> None:
        """Report an error to the owner; if the report itself fails, log that instead of ending the thread."""
        try:
            self._on_error(item, error)
        except Exception:
            logger.exception("The report of %r in the thread %r failed.", error, self._thread.name)
