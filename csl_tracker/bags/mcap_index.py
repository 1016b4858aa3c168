"""The index at the end of an MCAP file: its chunks, channels and counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import BinaryIO

from mcap import records
from mcap.opcode import Opcode

from csl_tracker.bags.limits import MAX_INDEXED_CHANNELS, MAX_SUMMARY_RECORDS
from csl_tracker.bags.mcap_channels import ChannelTable
from csl_tracker.bags.mcap_records import DAMAGE, MAGIC, RECORD_HEAD, parse, read_record
from csl_tracker.bags.storage import StorageFault
from csl_tracker.text import excerpt

_FOOTER_BYTES = 20
_NOTES = "rosbag2"
"""Name of rosbag2's metadata record with a copy of ``metadata.yaml``."""


@dataclass(frozen=True)
class ChunkPlace:
    """Position, times (ns) and channels of a chunk; needs a quarter of the memory of mcap's own class."""

    start_ns: int
    end_ns: int
    offset: int
    length: int
    channels: frozenset[int]


@dataclass
class McapIndex:
    """The content of the index.

    Attributes:
        channels: Channels and schemas.
        counts: Number of messages by channel; None if missing.
        chunks: Chunks in index order.
        start_ns: Time of the first message, ns; None without messages.
        end_ns: Time of the last message, ns; None without messages.
        compression: Compression of the chunks, or empty.
        metadata: rosbag2's metadata, or empty.
    """

    channels: ChannelTable = field(default_factory=ChannelTable)
    counts: dict[int, int] | None = None
    chunks: list[ChunkPlace] = field(default_factory=list)
    start_ns: int | None = None
    end_ns: int | None = None
    compression: str = ""
    metadata: str = ""


def read_index(file: BinaryIO, file_size: int) -> McapIndex | None:
    """Read the index of a properly closed file; None if it is missing or unusable."""
    try:
        start = _index_start(file, file_size)
        if start is None:
            return None
        index = _IndexReader(file, file_size).read(start)
    except DAMAGE:
        return None
    if index.counts is None or len(index.channels) < len(index.counts):
        return None
    return index if index.chunks or not sum(index.counts.values()) else None


def _index_start(file: BinaryIO, file_size: int) -> int | None:
    tail = RECORD_HEAD.size + _FOOTER_BYTES + len(MAGIC)
    if file_size < len(MAGIC) + tail:
        return None
    file.seek(-tail, 2)
    footer = file.read(tail)
    if not footer.endswith(MAGIC) or not footer.startswith(RECORD_HEAD.pack(Opcode.FOOTER, _FOOTER_BYTES)):
        return None
    return (
        parse(records.Footer, footer[RECORD_HEAD.size : -len(MAGIC)]).summary_start or None
    )  # 0 where the writer made no index


class _IndexReader:
    """Reads the records of an index."""

    def __init__(self, file: BinaryIO, file_size: int) -> None:
        self._file, self._file_size = file, file_size
        self._index = McapIndex()
        self._channel_sets: dict[frozenset[int], frozenset[int]] = {}
        self._indexed_channels = 0
        self._metadata_at: int | None = None

    def read(self, start: int) -> McapIndex:
        """Read all records from a position on."""
        self._file.seek(start)
        for _ in range(MAX_SUMMARY_RECORDS):
            kind, content = read_record(self._file, self._file_size)
            if kind == Opcode.FOOTER:
                break
            self._add(kind, content)
        else:
            raise StorageFault(f"its index has more than {MAX_SUMMARY_RECORDS} records")
        self._check_chunks(start)
        if self._metadata_at is not None:
            self._read_metadata(self._metadata_at)
        return self._index

    def _add(self, kind: int, content: bytes) -> None:
        if kind == Opcode.CHUNK_INDEX:
            self._add_chunk(parse(records.ChunkIndex, content))
        elif kind == Opcode.STATISTICS:
            self._add_statistics(parse(records.Statistics, content))
        elif kind == Opcode.METADATA_INDEX:
            place = parse(records.MetadataIndex, content)
            self._metadata_at = place.offset if place.name == _NOTES else self._metadata_at
        else:
            self._index.channels.add(kind, content)

    def _add_chunk(self, chunk: records.ChunkIndex) -> None:
        channels = frozenset(chunk.message_index_offsets)
        if channels not in self._channel_sets:  # most chunks have the same topics and share one set
            self._channel_sets[channels] = channels
            self._indexed_channels += len(channels)
            if self._indexed_channels > MAX_INDEXED_CHANNELS:
                raise StorageFault("its index of chunks names too many groups of channels")
        self._index.compression = excerpt(chunk.compression, 20) or self._index.compression
        self._index.chunks.append(
            ChunkPlace(
                chunk.message_start_time,
                chunk.message_end_time,
                chunk.chunk_start_offset,
                chunk.chunk_length,
                self._channel_sets[channels],
            )
        )

    def _add_statistics(self, statistics: records.Statistics) -> None:
        if sum(statistics.channel_message_counts.values()) == statistics.message_count:
            self._index.counts = statistics.channel_message_counts
        if statistics.message_count:
            self._index.start_ns, self._index.end_ns = statistics.message_start_time, statistics.message_end_time

    def _read_metadata(self, at: int) -> None:
        self._file.seek(at)
        kind, content = read_record(self._file, self._file_size)
        if kind == Opcode.METADATA:
            found = parse(records.Metadata, content)
            self._index.metadata = found.metadata.get("serialized_metadata", "") if found.name == _NOTES else ""

    def _check_chunks(self, end: int) -> None:
        """Check that chunks do not overlap and precede the index; a repeated chunk would be read again and again."""
        at = len(MAGIC)
        for chunk in sorted(self._index.chunks, key=lambda item: item.offset):
            if chunk.offset < at or chunk.length < RECORD_HEAD.size or chunk.offset + chunk.length > end:
                raise StorageFault(f"its index names a chunk at the impossible byte {chunk.offset}")
            at = chunk.offset + chunk.length
