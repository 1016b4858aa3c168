"""MCAP files, read with bounded memory, with or without an index, whole or cut off.

The format is the MCAP specification (https://mcap.dev/spec): records of one byte of kind, eight of length and a content; the
messages lie in chunks, which may be compressed, and an index of the chunks stands at the end. A recording that was killed has
neither index nor footer; its records are read one after the other as far as they go.
"""

from __future__ import annotations

import heapq
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from csl_tracker.bags.limits import (
    MAX_CHUNK_BYTES,
    MAX_DEFINITION_BYTES,
    MAX_NAME_BYTES,
    MAX_SUMMARY_RECORDS,
    MAX_TOPICS,
    MAX_WAITING_BYTES,
    LimitError,
)
from csl_tracker.bags.mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_HEAD,
    CHUNK_INDEX,
    DATA_END,
    FOOTER,
    FOOTER_BYTES,
    INDEX_ENTRY,
    MAGIC,
    MESSAGE,
    METADATA,
    METADATA_INDEX,
    RECORD_HEAD,
    SCHEMA,
    SKIPPED,
    STATISTICS,
    Channel,
    ChunkIndex,
    Fields,
    Schema,
    check_record,
    split_message,
    unpack_chunk,
)
from csl_tracker.bags.storage import StorageFault, StorageFile, StoredMessage, StoredTopic
from csl_tracker.text import excerpt

_NOTES = b"rosbag2"
"""Name of the metadata record in which rosbag2 repeats ``metadata.yaml``."""

_ERRORS = (StorageFault, LimitError, struct.error, UnicodeDecodeError)
"""What broken bytes lead to."""


class McapFile(StorageFile):
    """An MCAP file; see :class:`csl_tracker.bags.storage.StorageFile`."""

    def __init__(self, path: Path) -> None:
        """Read the index, or the whole file where it has none.

        Raises:
            StorageFault: The file is no MCAP file, or holds not one readable record.
            OSError: It cannot be opened.
        """
        self.path = path
        self.topics = {}
        self._channels: dict[int, Channel] = {}
        self._schemas: dict[int, Schema] = {}
        self._counts: Counter[int] = Counter()
        self._chunks: list[ChunkIndex] = []
        self._sets: dict[frozenset[int], frozenset[int]] = {}
        self._file: BinaryIO = path.open("rb")
        try:
            self._size = path.stat().st_size
            if self._file.read(len(MAGIC)) != MAGIC:
                raise StorageFault("it is empty" if not self._size else "its first bytes are not those of an MCAP file")
            if not self._read_summary():
                self._scan()
            for number, channel in self._channels.items():
                self._add_topic(channel, self._counts[number])
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def messages(self, names: Collection[str], start_ns: int | None, stop_ns: int | None) -> Iterator[StoredMessage]:
        """Yield messages in the order of time; without an index, in the order of the file."""
        low = -1 if start_ns is None else start_ns
        high = 1 << 64 if stop_ns is None else stop_ns
        wanted = {number for number, channel in self._channels.items() if channel.topic in names}
        found = self._indexed(wanted, low, high) if self._chunks else self._in_file_order(wanted)
        for number, time_ns, data in found:
            if low <= time_ns < high:
                yield StoredMessage(time_ns, self._channels[number].topic, data if isinstance(data, bytes) else bytes(data))

    # --- with an index

    def _read_summary(self) -> bool:
        """Read what stands at the end of a file that was closed in order; whether there is such an index."""
        if self._size < len(MAGIC) + FOOTER_BYTES:
            return False
        self._file.seek(-FOOTER_BYTES, 2)
        footer = self._file.read(FOOTER_BYTES)
        if footer[-len(MAGIC) :] != MAGIC or footer[:9] != RECORD_HEAD.pack(FOOTER, 20):
            return False
        start = int.from_bytes(footer[9:17], "little")
        if not len(MAGIC) <= start < self._size:  # 0 where the writer made none
            return False
        self._file.seek(start)
        counted = False
        notes_at = None
        try:
            for number in range(MAX_SUMMARY_RECORDS + 1):
                if number == MAX_SUMMARY_RECORDS:
                    raise StorageFault(f"its index has more than {MAX_SUMMARY_RECORDS} records")
                kind, content = self._record()
                if kind == FOOTER:
                    break
                if kind == CHUNK_INDEX:
                    self._take_chunk_index(Fields(content))
                elif kind == STATISTICS:
                    counted = self._take_statistics(Fields(content))
                elif kind == METADATA_INDEX and bytes(content[16:]).endswith(_NOTES):
                    notes_at = int.from_bytes(content[:8], "little")
                else:
                    self._learn(kind, content)
            if notes_at is not None:
                self._file.seek(notes_at)
                kind, content = self._record()
                fields = Fields(content)
                if kind == METADATA and fields.text() == _NOTES.decode():
                    self.metadata = fields.texts().get("serialized_metadata", "")
            self._check_chunks(start)
        except _ERRORS:
            counted = False
        if counted and (self._chunks or not sum(self._counts.values())) and len(self._channels) >= len(self._counts):
            return True
        self._channels.clear()
        self._schemas.clear()
        self._counts.clear()
        self._chunks.clear()
        self.start_ns = self.end_ns = None
        return False

    def _take_chunk_index(self, fields: Fields) -> None:
        start_ns, end_ns, offset, length = (fields.number(8) for _ in range(4))
        channels = frozenset(number for number, _ in INDEX_ENTRY.iter_unpack(fields.take(fields.number(4))))
        fields.number(8)
        self.compression = excerpt(fields.text(), 20) or self.compression
        # Most chunks have messages of the same topics: one set serves them all.
        self._chunks.append(ChunkIndex(start_ns, end_ns, offset, length, self._sets.setdefault(channels, channels)))
        if len(self._sets) > MAX_TOPICS * 64:
            raise StorageFault("its index of chunks names too many groups of channels")

    def _check_chunks(self, end: int) -> None:
        """Every chunk is somewhere else, before the index: one that is named twice would be read without end."""
        at = len(MAGIC)
        for chunk in sorted(self._chunks, key=lambda item: item.offset):
            if chunk.offset < at or chunk.length < RECORD_HEAD.size or chunk.offset + chunk.length > end:
                raise StorageFault(f"its index names a chunk at byte {chunk.offset}, where none can be")
            at = chunk.offset + chunk.length

    def _take_statistics(self, fields: Fields) -> bool:
        total = fields.number(8)
        for size in (2, 4, 4, 4, 4):
            fields.number(size)
        first, last = fields.number(8), fields.number(8)
        for number, count in INDEX_ENTRY.iter_unpack(fields.take(fields.number(4))):
            self._counts[number] = count
        if total:
            self.start_ns, self.end_ns = first, last
        return sum(self._counts.values()) == total

    def _indexed(self, wanted: set[int], low: int, high: int) -> Iterator[tuple[int, int, bytes]]:
        """Messages of the chunks in question, in the order of time even where chunks overlap, as far as memory goes."""
        waiting: list[tuple[int, int, int, bytes]] = []  # time, order of arrival, channel, data
        arrived = size = 0
        for chunk in sorted(self._chunks, key=lambda item: (item.start_ns, item.offset)):
            if chunk.end_ns < low or chunk.start_ns >= high or not (wanted & chunk.channels or not chunk.channels):
                continue
            while waiting and (waiting[0][0] < chunk.start_ns or size > MAX_WAITING_BYTES):
                time_ns, _, number, data = heapq.heappop(waiting)
                size -= len(data)
                yield number, time_ns, data
            fault: StorageFault | None = None
            try:
                self._file.seek(chunk.offset)
                kind, content = self._record()
                if kind != CHUNK:
                    raise StorageFault(f"at byte {chunk.offset} stands no chunk")
                for inner, record in self._inside(content, chunk.offset):
                    if inner == MESSAGE:
                        number, time_ns, part = split_message(record)
                        if number in wanted and low <= time_ns < high:
                            heapq.heappush(waiting, (time_ns, arrived, number, bytes(part)))  # a view would keep the chunk
                            arrived += 1
                            size += len(part)
            except _ERRORS as error:
                fault = StorageFault(f"the chunk at byte {chunk.offset} is broken: {error}")
            if fault is not None:
                for time_ns, _, number, data in sorted(waiting):
                    yield number, time_ns, data
                raise fault
        while waiting:
            time_ns, _, number, data = heapq.heappop(waiting)
            yield number, time_ns, data

    # --- without one

    def _scan(self) -> None:
        """Walk through all records, to know the topics and how far the file can be read."""
        times: list[int] = []
        try:
            for number, time_ns, _ in self._walk():
                self._counts[number] += 1
                times = [min(times[0], time_ns), max(times[1], time_ns)] if times else [time_ns, time_ns]
        except StorageFault as fault:
            self.fault = str(fault)
        if times:
            self.start_ns, self.end_ns = times
        if self.fault and not times:
            raise StorageFault(self.fault)
        if not self.fault:
            self.notes = ("it has no index, so that it is read from its beginning each time ('mcap recover' makes one)",)

    def _in_file_order(self, wanted: set[int]) -> Iterator[tuple[int, int, bytes | memoryview]]:
        for message in self._walk():
            if message[0] in wanted:
                yield message

    def _walk(self) -> Iterator[tuple[int, int, memoryview]]:
        """All messages in the order of the file.

        Raises:
            StorageFault: At the end of what is readable, where the file ends early or is broken.
        """
        self._file.seek(len(MAGIC))
        while True:
            at = self._file.tell()
            try:
                head = self._file.read(RECORD_HEAD.size)
                if not head:
                    raise StorageFault("the file ends without a footer")
                if len(head) < RECORD_HEAD.size:
                    raise StorageFault("the file ends inside a record")
                kind, size = RECORD_HEAD.unpack(head)
                whole = at + RECORD_HEAD.size + size <= self._size
                if not whole and kind != CHUNK:
                    raise StorageFault("the file ends inside a record")
                if kind in (FOOTER, DATA_END):
                    return
                if kind in SKIPPED:
                    self._file.seek(size, 1)
                    continue
                check_record(kind, size, at)
                content = self._file.read(size if whole else self._size - at)
                if kind == CHUNK:
                    for inner, record in self._inside(content, at, whole):
                        if inner == MESSAGE:
                            yield split_message(record)
                        else:
                            self._learn(inner, record)
                    if not whole:
                        raise StorageFault("the file ends inside a chunk")
                elif kind == MESSAGE:
                    yield split_message(memoryview(content))
                else:
                    self._learn(kind, content)
            except _ERRORS as error:
                raise StorageFault(f"{error} (byte {at} of {self._size})") from error

    # --- records

    def _record(self) -> tuple[int, bytes]:
        at = self._file.tell()
        head = self._file.read(RECORD_HEAD.size)
        if len(head) < RECORD_HEAD.size:
            raise StorageFault(f"the file ends inside the record at byte {at}")
        kind, size = RECORD_HEAD.unpack(head)
        if at + RECORD_HEAD.size + size > self._size:
            raise StorageFault(f"the file ends inside the record at byte {at}")
        if kind in SKIPPED:
            self._file.seek(size, 1)
            return kind, b""
        check_record(kind, size, at)
        return kind, self._file.read(size)

    def _inside(self, content: bytes, at: int, whole: bool = True) -> Iterator[tuple[int, memoryview]]:
        """The records of a chunk; of one that was cut off, those that are complete."""
        if len(content) < CHUNK_HEAD.size + 12:
            raise StorageFault("the file ends inside a chunk")
        _, _, size, checksum = CHUNK_HEAD.unpack_from(content)
        fields = Fields(memoryview(content)[CHUNK_HEAD.size :])
        compression = fields.text()
        stored = fields.number(8)
        self.compression = excerpt(compression, 20) or self.compression
        if size > MAX_CHUNK_BYTES:
            raise StorageFault(f"the chunk at byte {at} has {size} bytes, and {MAX_CHUNK_BYTES} are the limit")
        data = memoryview(unpack_chunk(compression, fields.take(stored if whole else len(fields)), size, whole))
        if whole and len(data) != size:
            raise StorageFault(f"the chunk at byte {at} has {len(data)} bytes rather than {size}")
        if whole and checksum and zlib.crc32(data) != checksum:
            raise StorageFault(f"the chunk at byte {at} does not have the checksum that is written beside it")
        place = 0
        while place < len(data):
            if place + RECORD_HEAD.size > len(data):
                break
            kind, length = RECORD_HEAD.unpack_from(data, place)
            place += RECORD_HEAD.size
            if place + length > len(data):
                break
            yield kind, data[place : place + length]
            place += length
        if whole and place != len(data):
            raise StorageFault(f"the chunk at byte {at} ends inside a record")

    def _learn(self, kind: int, content: bytes | memoryview) -> None:
        """Take over a schema or a channel; other records say nothing of use here."""
        fields = Fields(content)
        if kind == SCHEMA:
            number = fields.number(2)
            name, encoding = fields.name(), fields.name()
            if len(fields) > MAX_DEFINITION_BYTES:  # of no type that is read here; its messages can still be copied
                self._schemas[number] = Schema(name, "", "")
            else:
                self._schemas[number] = Schema(name, encoding, fields.text())
        elif kind == CHANNEL:
            number, schema = fields.number(2), fields.number(2)
            topic, serialization = fields.name(), fields.name()
            qos = fields.texts().get("offered_qos_profiles", "")
            self._channels[number] = Channel(topic, schema, serialization, qos if len(qos) < MAX_NAME_BYTES * 16 else "")
        if len(self._channels) > MAX_TOPICS or len(self._schemas) > MAX_TOPICS:
            raise StorageFault(f"it has more than {MAX_TOPICS} channels")

    def _add_topic(self, channel: Channel, count: int) -> None:
        """Several channels of one topic, as a merged file has them, are one topic."""
        schema = self._schemas.get(channel.schema, Schema("", "", ""))
        known = self.topics.get(channel.topic)
        if known is not None:
            self.topics[channel.topic] = replace(known, count=known.count + count)
            return
        package, _, name = schema.name.partition("/")
        if channel.serialization == "cdr" and name and "/" not in name:  # as some writers name types of ROS 2
            schema = replace(schema, name=f"{package}/msg/{name}")
        self.topics[channel.topic] = StoredTopic(
            channel.topic, schema.name, channel.serialization, count, schema.text, schema.encoding, channel.qos
        )
