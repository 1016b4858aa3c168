"""A thread that always works on the newest item and forgets the older ones. It knows nothing of ROS."""

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
    """Process items one at a time in a thread of its own, the newest first and only.

    An item that arrives while another one is being processed waits in a slot for one; if a newer one arrives before it
    was taken, it is dropped and counted. So a slow consumer never falls behind a fast camera by more than one frame.
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

        Args:
            process: Called with each item, in the thread.
            on_error: Called with the item and the exception when ``process`` raised one; the thread goes on, also
                when this call itself raises, which is logged.
            name: Name of the thread.
            heartbeat: Called in the thread again and again between items, and never while it is at work on one: that it
                comes shows that the thread is able to take the next item. When it raises that is logged.
            heartbeat_s: How often, s.
            idle: Called in the thread after an item when no other one waits. When it raises that is logged.
            after: Stopped workers that may be at work on a last item still: the first item waits for their end, and so does the
                heartbeat.
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
        """Items that were processed, or failed in it, so far."""
        return self._processed

    @property
    def dropped(self) -> int:
        """Items that a newer one replaced before they were taken."""
        return self._dropped

    def busy_s(self) -> float:
        """How long the thread has been at work on its present item, s; 0 while it waits."""
        since = self._busy_since_s
        return 0.0 if since is None else time.monotonic() - since

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, item: T) -> bool:
        """Hand over the newest item; never blocks for longer than a swap of the slot. Ignored after :meth:`stop`.

        Returns:
            Whether it took the place of an older item, which was dropped.
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
        """Let the item at work finish, drop the waiting one, and join the thread. May be called twice.

        Args:
            timeout_s: How long to wait for the item at work, s; None waits for as long as it takes.

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
        # Half of the period, so that a wait that ends a little early does not cost a beat.
        self._beat_due_s = now + self._heartbeat_s / 2
        try:
            self._heartbeat()
        except Exception:
            logger.exception("The heartbeat of the thread %r failed.", self._thread.name)

    def _report(self, item: T, error: Exception) -> None:
        """Tell the owner of an error; an owner that fails over it must not end the thread, which nobody would notice."""
        try:
            self._on_error(item, error)
        except Exception:
            logger.exception("The report of %r in the thread %r failed.", error, self._thread.name)
