"""Read MCAP files with bounded memory, with or without an index, complete or truncated.

Messages are stored in chunks, which may be compressed; an index of the chunks is at the end. An interrupted recording has
neither index nor footer; its records are read sequentially as far as possible.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from mcap.opcode import Opcode

from csl_tracker.bags.limits import MAX_WAITING_BYTES
from csl_tracker.bags.mcap_channels import ChannelTable
from csl_tracker.bags.mcap_index import ChunkPlace, read_index
from csl_tracker.bags.mcap_records import (
    CHUNK,
    DAMAGE,
    MAGIC,
    MESSAGE,
    RECORD_HEAD,
    SKIPPED,
    check_record,
    chunk_compression,
    chunk_records,
    read_record,
    split_message,
)
from csl_tracker.bags.storage import StorageFault, StorageFile, StoredMessage

_END = (Opcode.FOOTER, Opcode.DATA_END)


class _TimeQueue:
    """Messages to be delivered in order of time."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, bytes]] = []  # time, arrival number, channel, data
        self._arrived = self._bytes = 0

    def push(self, number: int, time_ns: int, data: bytes) -> None:
        """Add a message of a channel."""
        heapq.heappush(self._heap, (time_ns, self._arrived, number, data))
        self._arrived += 1
        self._bytes += len(data)

    def pop_before(self, time_ns: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield channel, time and data of messages before a time, and of more while too many bytes are queued."""
        while self._heap and (self._heap[0][0] < time_ns or self._bytes > MAX_WAITING_BYTES):
            found_ns, _, number, data = heapq.heappop(self._heap)
            self._bytes -= len(data)
            yield number, found_ns, data


class McapFile(StorageFile):
    """An MCAP file; see :class:`csl_tracker.bags.storage.StorageFile`."""

    def __init__(self, path: Path) -> None:
        """Read the index, or the whole file if there is none.

        Raises:
            StorageFault: Not an MCAP file, or no record is readable.
            OSError: It cannot be opened.
        """
        self.path = path
        self._channels = ChannelTable()
        self._chunks: list[ChunkPlace] = []
        self._file: BinaryIO = path.open("rb")
        try:
            self._size = path.stat().st_size
            if self._file.read(len(MAGIC)) != MAGIC:
                raise StorageFault("it is empty" if not self._size else "its first bytes are not those of an MCAP file")
            counts = self._read_index()
            self.topics = self._channels.topics(self._scan() if counts is None else counts)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, names: Collection[str], start_ns: int | None, stop_ns: int | None) -> Iterator[StoredMessage]:
        """Yield messages in order of time; without an index, in file order."""
        low = -1 if start_ns is None else start_ns
        high = 1 << 64 if stop_ns is None else stop_ns
        wanted = self._channels.numbers(names)
        found = self._sorted_messages(wanted, low, high) if self._chunks else self._walk()
        for number, time_ns, data in found:
            if number in wanted and low <= time_ns < high:
                yield StoredMessage(time_ns, self._channels.topic(number), bytes(data))

    def _read_index(self) -> dict[int, int] | None:
        """Read the index; returns the number of messages by channel, or None without an index."""
        index = read_index(self._file, self._size)
        if index is None:
            return None
        self._channels, self._chunks = index.channels, index.chunks
        self.start_ns, self.end_ns = index.start_ns, index.end_ns
        self.compression, self.metadata = index.compression, index.metadata
        return index.counts

    def _sorted_messages(self, wanted: set[int], low: int, high: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield the messages of the relevant chunks in order of time; overlapping chunks are merged within memory limits."""
        queue = _TimeQueue()
        fault: StorageFault | None = None
        for chunk in sorted(self._chunks, key=lambda item: (item.start_ns, item.offset)):
            if chunk.end_ns < low or chunk.start_ns >= high or not (wanted & chunk.channels or not chunk.channels):
                continue
            yield from queue.pop_before(chunk.start_ns)
            try:
                for number, time_ns, data in self._chunk_messages(chunk):
                    if number in wanted and low <= time_ns < high:
                        queue.push(number, time_ns, bytes(data))  # a view would keep the whole chunk in memory
            except DAMAGE as error:
                fault = StorageFault(f"the chunk at byte {chunk.offset} is broken: {error}")
                break
        yield from queue.pop_before(1 << 64)
        if fault is not None:
            raise fault

    def _chunk_messages(self, chunk: ChunkPlace) -> Iterator[tuple[int, int, memoryview]]:
        """Yield the messages of an indexed chunk in chunk order."""
        self._file.seek(chunk.offset)
        kind, content = read_record(self._file, self._size)
        if kind != CHUNK:
            raise StorageFault(f"there is no chunk at byte {chunk.offset}")
        for inner, record in chunk_records(content, chunk.offset):
            if inner == MESSAGE:
                yield split_message(record)

    def _scan(self) -> dict[int, int]:
        """Read all records to find topics and readable length; returns the number of messages by channel."""
        counts: Counter[int] = Counter()
        times: list[int] = []
        try:
            for number, time_ns, _ in self._walk():
                counts[number] += 1
                times = [min(times[0], time_ns), max(times[1], time_ns)] if times else [time_ns, time_ns]
        except StorageFault as fault:
            self.fault = str(fault)
        if times:
            self.start_ns, self.end_ns = times
        if self.fault and not times:
            raise StorageFault(self.fault)
        if not self.fault:
            self.notes = ("it has no index and is always read from its beginning ('mcap recover' creates one)",)
        return counts

    def _walk(self) -> Iterator[tuple[int, int, memoryview]]:
        """Yield all messages in file order, and collect channels.

        Raises:
            StorageFault: After the last readable record of a truncated or corrupt file.
        """
        self._file.seek(len(MAGIC))
        at = len(MAGIC)
        try:
            while (record := self._next_record(at)) is not None:
                kind, content, whole = record
                for inner, part in self._split_chunk(content, at, whole) if kind == CHUNK else ((kind, content),):
                    if inner == MESSAGE:
                        yield split_message(part)
                    else:
                        self._channels.add(inner, part)
                if not whole:
                    raise StorageFault("the file ends inside a chunk")
                at = self._file.tell()
        except DAMAGE as error:
            raise StorageFault(f"{error} (byte {at} of {self._size})") from error

    def _next_record(self, at: int) -> tuple[int, bytes, bool] | None:
        """Read the next record; returns kind, content and whether it is complete, or None after the last one."""
        head = self._file.read(RECORD_HEAD.size)
        if not head:
            raise StorageFault("the file ends without a footer")
        if len(head) < RECORD_HEAD.size:
            raise StorageFault("the file ends inside a record")
        kind, size = RECORD_HEAD.unpack(head)
        whole = at + RECORD_HEAD.size + size <= self._size
        if not whole and kind != CHUNK:
            raise StorageFault("the file ends inside a record")
        if kind in _END:
            return None
        if kind in SKIPPED:
            self._file.seek(size, 1)
            return kind, b"", True
        check_record(kind, size, at)
        return kind, self._file.read(size if whole else self._size - at), whole

    def _split_chunk(self, content: bytes, at: int, whole: bool) -> Iterator[tuple[int, memoryview]]:
        """Yield the records of a chunk, and store its compression."""
        self.compression = chunk_compression(content) or self.compression
        return chunk_records(content, at, whole)
