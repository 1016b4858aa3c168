"""MCAP files, read with bounded memory, with or without an index, whole or cut off.

The format is the MCAP specification (https://mcap.dev/spec): records of one byte of kind, eight of length and a content; the
messages lie in chunks, which may be compressed, and an index of the chunks stands at the end. A recording that was killed has
neither index nor footer; its records are read one after the other as far as they go.
"""

from __future__ import annotations

import heapq
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import lz4.frame  # type: ignore[import-untyped]

from csl_tracker.bags.storage import StorageFault, StorageFile, StoredMessage, StoredTopic

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"

_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _CHUNK_INDEX, _STATISTICS = 1, 2, 3, 4, 5, 6, 8, 11
_METADATA, _METADATA_INDEX, _DATA_END = 12, 13, 15
_FOOTER_BYTES = 9 + 20 + len(MAGIC)
_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publication time
_CHUNK_HEAD = struct.Struct("<QQQI")  # first time, last time, size, CRC of the uncompressed content
_RECORD_HEAD = struct.Struct("<BQ")

_NOTES = b"rosbag2"
"""Name of the metadata record in which rosbag2 repeats ``metadata.yaml``."""

_ERRORS = (StorageFault, struct.error, UnicodeDecodeError, RuntimeError, zstd.ZstdError, EOFError)
"""What broken bytes lead to; lz4 raises a bare RuntimeError."""


class _Fields:
    """Takes the fields of a record, one after the other."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def __len__(self) -> int:
        return len(self._data) - self._at

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        return bytes(self.take(self.number(4))).decode("utf-8")

    def take(self, size: int) -> memoryview:
        if size > len(self):
            raise StorageFault(f"a record of {len(self._data)} bytes is too short for its fields")
        self._at += size
        return self._data[self._at - size : self._at]

    def texts(self) -> dict[str, str]:
        """A map of texts."""
        inside = _Fields(self.take(self.number(4)))
        found = {}
        while len(inside):
            key = inside.text()
            found[key] = inside.text()
        return found


@dataclass(frozen=True)
class _Channel:
    topic: str
    schema: int
    serialization: str
    qos: str


@dataclass(frozen=True)
class _Schema:
    name: str
    encoding: str
    text: str


@dataclass(frozen=True)
class _ChunkIndex:
    start_ns: int
    end_ns: int
    offset: int
    channels: frozenset[int]


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
        self._channels: dict[int, _Channel] = {}
        self._schemas: dict[int, _Schema] = {}
        self._counts: Counter[int] = Counter()
        self._chunks: list[_ChunkIndex] = []
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
                yield StoredMessage(time_ns, self._channels[number].topic, bytes(data))

    # --- with an index

    def _read_summary(self) -> bool:
        """Read what stands at the end of a file that was closed in order; whether there is such an index."""
        if self._size < len(MAGIC) + _FOOTER_BYTES:
            return False
        self._file.seek(-_FOOTER_BYTES, 2)
        footer = self._file.read(_FOOTER_BYTES)
        if footer[-len(MAGIC) :] != MAGIC or footer[:9] != _RECORD_HEAD.pack(_FOOTER, 20):
            return False
        start = int.from_bytes(footer[9:17], "little")
        if not len(MAGIC) <= start < self._size:  # 0 where the writer made none
            return False
        self._file.seek(start)
        counted = False
        notes_at = None
        try:
            while True:
                kind, content = self._record()
                if kind == _FOOTER:
                    break
                if kind == _CHUNK_INDEX:
                    self._take_chunk_index(_Fields(content))
                elif kind == _STATISTICS:
                    counted = self._take_statistics(_Fields(content))
                elif kind == _METADATA_INDEX and bytes(content[16:]).endswith(_NOTES):
                    notes_at = int.from_bytes(content[:8], "little")
                else:
                    self._learn(kind, content)
            if notes_at is not None:
                self._file.seek(notes_at)
                kind, content = self._record()
                fields = _Fields(content)
                if kind == _METADATA and fields.text() == _NOTES.decode():
                    self.metadata = fields.texts().get("serialized_metadata", "")
        except _ERRORS:
            counted = False
        if counted and (self._chunks or not sum(self._counts.values())) and len(self._channels) >= len(self._counts):
            return True
        self._channels.clear()
        self._counts.clear()
        self._chunks.clear()
        self.start_ns = self.end_ns = None
        return False

    def _take_chunk_index(self, fields: _Fields) -> None:
        start_ns, end_ns, offset, _ = (fields.number(8) for _ in range(4))
        indices = _Fields(fields.take(fields.number(4)))
        channels = set()
        while len(indices):
            channels.add(indices.number(2))
            indices.number(8)
        fields.number(8)
        self.compression = fields.text() or self.compression
        self._chunks.append(_ChunkIndex(start_ns, end_ns, offset, frozenset(channels)))

    def _take_statistics(self, fields: _Fields) -> bool:
        total = fields.number(8)
        for size in (2, 4, 4, 4, 4):
            fields.number(size)
        first, last = fields.number(8), fields.number(8)
        counts = _Fields(fields.take(fields.number(4)))
        while len(counts):
            number = counts.number(2)
            self._counts[number] = counts.number(8)
        if total:
            self.start_ns, self.end_ns = first, last
        return sum(self._counts.values()) == total

    def _indexed(self, wanted: set[int], low: int, high: int) -> Iterator[tuple[int, int, memoryview]]:
        """Messages of the chunks in question, in the order of time even where chunks overlap."""
        waiting: list[tuple[int, int, int, memoryview]] = []  # time, order of arrival, channel, data
        arrived = 0
        for chunk in sorted(self._chunks, key=lambda item: (item.start_ns, item.offset)):
            if chunk.end_ns < low or chunk.start_ns >= high or not (wanted & chunk.channels or not chunk.channels):
                continue
            while waiting and waiting[0][0] < chunk.start_ns:
                time_ns, _, number, data = heapq.heappop(waiting)
                yield number, time_ns, data
            fault: StorageFault | None = None
            try:
                self._file.seek(chunk.offset)
                kind, content = self._record()
                if kind != _CHUNK:
                    raise StorageFault(f"at byte {chunk.offset} stands no chunk")
                for inner, record in self._inside(content, chunk.offset):
                    if inner == _MESSAGE:
                        number, time_ns, data = _split(record)
                        if number in wanted:
                            heapq.heappush(waiting, (time_ns, arrived, number, data))
                            arrived += 1
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

    def _in_file_order(self, wanted: set[int]) -> Iterator[tuple[int, int, memoryview]]:
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
                head = self._file.read(_RECORD_HEAD.size)
                if not head:
                    raise StorageFault("the file ends without a footer")
                if len(head) < _RECORD_HEAD.size:
                    raise StorageFault("the file ends inside a record")
                kind, size = _RECORD_HEAD.unpack(head)
                whole = at + _RECORD_HEAD.size + size <= self._size
                if not whole and kind != _CHUNK:
                    raise StorageFault("the file ends inside a record")
                if kind in (_FOOTER, _DATA_END):
                    return
                content = self._file.read(size if whole else self._size - at)
                if kind == _CHUNK:
                    for inner, record in self._inside(content, at, whole):
                        if inner == _MESSAGE:
                            yield _split(record)
                        else:
                            self._learn(inner, record)
                    if not whole:
                        raise StorageFault("the file ends inside a chunk")
                elif kind == _MESSAGE:
                    yield _split(memoryview(content))
                else:
                    self._learn(kind, content)
            except _ERRORS as error:
                raise StorageFault(f"{error} (byte {at} of {self._size})") from error

    # --- records

    def _record(self) -> tuple[int, bytes]:
        at = self._file.tell()
        head = self._file.read(_RECORD_HEAD.size)
        if len(head) < _RECORD_HEAD.size:
            raise StorageFault(f"the file ends inside the record at byte {at}")
        kind, size = _RECORD_HEAD.unpack(head)
        if at + _RECORD_HEAD.size + size > self._size:
            raise StorageFault(f"the file ends inside the record at byte {at}")
        return kind, self._file.read(size)

    def _inside(self, content: bytes, at: int, whole: bool = True) -> Iterator[tuple[int, memoryview]]:
        """The records of a chunk; of one that was cut off, those that are complete."""
        if len(content) < _CHUNK_HEAD.size + 12:
            raise StorageFault("the file ends inside a chunk")
        _, _, size, checksum = _CHUNK_HEAD.unpack_from(content)
        fields = _Fields(memoryview(content)[_CHUNK_HEAD.size :])
        compression = fields.text()
        stored = fields.number(8)
        self.compression = compression or self.compression
        data = memoryview(_decompress(compression, fields.take(stored if whole else len(fields)), whole))
        if whole and len(data) != size:
            raise StorageFault(f"the chunk at byte {at} has {len(data)} bytes rather than {size}")
        if whole and checksum and zlib.crc32(data) != checksum:
            raise StorageFault(f"the chunk at byte {at} does not have the checksum that is written beside it")
        place = 0
        while place < len(data):
            if place + _RECORD_HEAD.size > len(data):
                break
            kind, length = _RECORD_HEAD.unpack_from(data, place)
            place += _RECORD_HEAD.size
            if place + length > len(data):
                break
            yield kind, data[place : place + length]
            place += length
        if whole and place != len(data):
            raise StorageFault(f"the chunk at byte {at} ends inside a record")

    def _learn(self, kind: int, content: bytes | memoryview) -> None:
        """Take over a schema or a channel; other records say nothing of use here."""
        fields = _Fields(content)
        if kind == _SCHEMA:
            number = fields.number(2)
            name, encoding = fields.text(), fields.text()
            self._schemas[number] = _Schema(name, encoding, fields.text())
        elif kind == _CHANNEL:
            number, schema = fields.number(2), fields.number(2)
            topic, serialization = fields.text(), fields.text()
            self._channels[number] = _Channel(topic, schema, serialization, fields.texts().get("offered_qos_profiles", ""))

    def _add_topic(self, channel: _Channel, count: int) -> None:
        """Several channels of one topic, as a merged file has them, are one topic."""
        schema = self._schemas.get(channel.schema, _Schema("", "", ""))
        known = self.topics.get(channel.topic)
        if known is not None:
            self.topics[channel.topic] = replace(known, count=known.count + count)
            return
        self.topics[channel.topic] = StoredTopic(
            channel.topic, schema.name, channel.serialization, count, schema.text, schema.encoding, channel.qos
        )


def _split(record: memoryview) -> tuple[int, int, memoryview]:
    """Channel, time (ns) and bytes of a message record."""
    number, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(record)
    return number, time_ns, record[_MESSAGE_HEAD.size :]


def _decompress(compression: str, data: memoryview, whole: bool) -> bytes | memoryview:
    if not compression:
        return data
    if compression == "zstd":
        return zstd.decompress(data) if whole else zstd.ZstdDecompressor().decompress(data)
    if compression == "lz4":
        return bytes(lz4.frame.decompress(data) if whole else lz4.frame.LZ4FrameDecompressor().decompress(data))
    raise StorageFault(f"its chunks are compressed with {compression!r}, which is not known here (zstd and lz4 are)")
