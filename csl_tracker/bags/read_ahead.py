"""Read a stream ahead in a thread while the caller processes the current item."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_S = 0.1
_MAX_READY_BYTES = 64 << 20
"""Size of the queued items above which the thread pauses: about ten frames in full HD."""


class ReadAhead(Generic[T]):
    """Iterates over a stream that runs a few items ahead in its own thread. A context manager that ends the thread."""

    def __init__(self, stream: Iterable[T], depth: int = 4, size: Callable[[T], int] | None = None) -> None:
        """Start the thread.

        Args:
            stream: The items; used only in the thread.
            depth: Largest number of queued items, not counting the one being made.
            size: Returns the bytes of an item; fewer large items are queued.
        """
        self._size = size
        self._ready_bytes = 0
        self._room = threading.Condition()
        self._queue: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(stream,), name="read ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        """Yield the items; an error of the stream is raised at its position."""
        while True:
            is_item, content = self._queue.get()
            if is_item:
                self._count(content, -1)
                yield content  # type: ignore[misc]
            elif isinstance(content, BaseException):
                raise content
            else:
                return

    def _run(self, stream: Iterable[T]) -> None:
        try:
            for item in stream:
                if not self._put((True, item)):
                    return
        except BaseException as error:
            self._put((False, error))
        else:
            self._put((False, None))
        finally:
            if isinstance(stream, Generator):
                stream.close()  # also closes its files

    def _put(self, entry: tuple[bool, T | BaseException | None]) -> bool:
        with self._room:
            while self._ready_bytes > _MAX_READY_BYTES and not self._stopping.is_set():
                self._room.wait(_POLL_S)
        if entry[0]:
            self._count(entry[1], 1)
        while not self._stopping.is_set():
            with suppress(queue.Full):
                self._queue.put(entry, timeout=_POLL_S)
                return True
        return False

    def _count(self, item: object, sign: int) -> None:
        if self._size is not None:
            with self._room:
                self._ready_bytes += sign * self._size(item)  # type: ignore[arg-type]
                self._room.notify_all()
