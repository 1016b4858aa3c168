"""The records of an MCAP file: their kinds, their heads and their fields (https://mcap.dev/spec)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from csl_tracker.bags.limits import MAX_CHUNK_BYTES, MAX_NAME_BYTES, MAX_RECORD_BYTES, decompress
from csl_tracker.bags.storage import StorageFault
from csl_tracker.text import excerpt

MAGIC = b"\x89MCAP0\r\n"

HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, CHUNK_INDEX, STATISTICS = 1, 2, 3, 4, 5, 6, 8, 11
MESSAGE_INDEX, ATTACHMENT, ATTACHMENT_INDEX, METADATA, METADATA_INDEX, DATA_END = 7, 9, 10, 12, 13, 15
SKIPPED = (MESSAGE_INDEX, ATTACHMENT, ATTACHMENT_INDEX)
"""Records that may be large and say nothing of use here."""
FOOTER_BYTES = 9 + 20 + len(MAGIC)
MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publication time
CHUNK_HEAD = struct.Struct("<QQQI")  # first time, last time, size, CRC of the uncompressed content
RECORD_HEAD = struct.Struct("<BQ")
INDEX_ENTRY = struct.Struct("<HQ")  # channel, place of its index or number of its messages


class Fields:
    """Takes the fields of a record, one after the other."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def __len__(self) -> int:
        return len(self._data) - self._at

    def number(self, size: int) -> int:
        """A number of so many bytes."""
        return int.from_bytes(self.take(size), "little")

    def text(self) -> str:
        """A text."""
        return bytes(self.take(self.number(4))).decode("utf-8")

    def name(self) -> str:
        """A text that is short."""
        size = self.number(4)
        if size > MAX_NAME_BYTES:
            raise StorageFault(f"a name in it has {size} bytes, and {MAX_NAME_BYTES} are the limit")
        return bytes(self.take(size)).decode("utf-8")

    def take(self, size: int) -> memoryview:
        """So many bytes."""
        if size > len(self):
            raise StorageFault(f"a record of {len(self._data)} bytes is too short for its fields")
        self._at += size
        return self._data[self._at - size : self._at]

    def texts(self) -> dict[str, str]:
        """A map of texts."""
        inside = Fields(self.take(self.number(4)))
        found = {}
        while len(inside):
            key = inside.text()
            found[key] = inside.text()
        return found


@dataclass(frozen=True)
class Channel:
    """A topic, as one of its publishers recorded it."""

    topic: str
    schema: int
    serialization: str
    qos: str


@dataclass(frozen=True)
class Schema:
    """The definition of a type."""

    name: str
    encoding: str
    text: str


@dataclass(frozen=True)
class ChunkIndex:
    """Where a chunk lies, its times (ns), and the channels of its messages."""

    start_ns: int
    end_ns: int
    offset: int
    length: int
    channels: frozenset[int]


def split_message(record: memoryview) -> tuple[int, int, memoryview]:
    """Channel, time (ns) and bytes of a message record."""
    number, _, time_ns, _ = MESSAGE_HEAD.unpack_from(record)
    return number, time_ns, record[MESSAGE_HEAD.size :]


def check_record(kind: int, size: int, at: int) -> None:
    """A record that is read into memory is no larger than such records are; one of kind 0 cannot be."""
    limit = MAX_CHUNK_BYTES + MAX_RECORD_BYTES if kind in (CHUNK, MESSAGE) else MAX_RECORD_BYTES
    if size > limit:
        raise StorageFault(f"the record at byte {at} has {size} bytes, and {limit} are the limit")
    if kind == 0:
        raise StorageFault(f"at byte {at} stands no record")


def unpack_chunk(compression: str, data: memoryview, size: int, whole: bool) -> bytes | memoryview:
    """The records of a chunk; of one that was cut off, what there is."""
    if not compression:
        return data
    if compression in ("zstd", "lz4"):
        return decompress(compression, data, size, whole)
    raise StorageFault(
        f"its chunks are compressed with '{excerpt(compression, 20)}', which is not known here (zstd and lz4 are)"
    )
