"""Reading ahead: the next items of a stream are made in a thread while the present one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_S = 0.1


class ReadAhead(Generic[T]):
    """Iterates over a stream that runs in a thread of its own, a few items ahead. A context manager, which ends the thread."""

    def __init__(self, stream: Iterable[T], depth: int = 4) -> None:
        """Start the thread.

        Args:
            stream: What to iterate over; it is used in the thread alone.
            depth: So many items are ready and in memory at most, beside the one in the making.
        """
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
        """Yield the items, and raise what the stream raised where it raised it."""
        while True:
            is_item, content = self._queue.get()
            if is_item:
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
                stream.close()  # with the files that it has open

    def _put(self, entry: tuple[bool, T | BaseException | None]) -> bool:
        while not self._stopping.is_set():
            with suppress(queue.Full):
                self._queue.put(entry, timeout=_POLL_S)
                return True
        return False
