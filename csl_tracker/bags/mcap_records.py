"""Read the records of an MCAP file within limits; ``mcap`` parses their fields (https://mcap.dev/spec).

A record consists of one byte of kind, eight of length, and the content. ``mcap`` trusts every length in its stream. Therefore
each length is checked against the limits and the file before the record is read, and ``mcap`` sees only these bytes. Chunks and
messages are split here because ``mcap`` unpacks chunks without a limit.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO, Protocol, TypeVar

from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile
from mcap.opcode import Opcode

from csl_tracker.bags.limits import MAX_CHUNK_BYTES, MAX_NAME_BYTES, MAX_RECORD_BYTES, LimitError, decompress
from csl_tracker.bags.storage import StorageFault
from csl_tracker.text import excerpt

MAGIC = b"\x89MCAP0\r\n"
RECORD_HEAD = struct.Struct("<BQ")  # kind, length
MESSAGE, CHUNK = int(Opcode.MESSAGE), int(Opcode.CHUNK)
SKIPPED = (Opcode.MESSAGE_INDEX, Opcode.ATTACHMENT, Opcode.ATTACHMENT_INDEX)
"""Records that may be large and are not used."""

DAMAGE = (StorageFault, LimitError, EndOfFile, struct.error, UnicodeDecodeError)
"""Exceptions caused by corrupt bytes."""

_MESSAGE_HEAD = struct.Struct("<HIQQ")  # channel, sequence, log time, publication time
_CHUNK_HEAD = struct.Struct("<QQQII")  # first time, last time, unpacked size, CRC of the unpacked content, length of a name

T_co = TypeVar("T_co", covariant=True)


class _Parser(Protocol[T_co]):
    """A record class of :mod:`mcap.records`."""

    @staticmethod
    def read(stream: ReadDataStream) -> T_co: ...


class _Content(BytesIO):
    """The content of one record; reading beyond its end is an error."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise StorageFault(f"a record of {len(self.getbuffer())} bytes is too short for its fields")
        return data


def parse(parser: type[_Parser[T_co]], content: bytes | memoryview) -> T_co:
    """Parse the content of a record.

    Raises:
        StorageFault: Too short for its fields.
        UnicodeDecodeError: A string is not valid UTF-8.
    """
    return parser.read(ReadDataStream(_Content(content)))


def check_name(name: str) -> str:
    """Check the length of a topic, type or format name.

    Raises:
        StorageFault: Too long.
    """
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        raise StorageFault(f"a name in it has {size} bytes, more than the limit of {MAX_NAME_BYTES}")
    return name


def check_record(kind: int, size: int, at: int) -> None:
    """Check the head of a record before reading its content.

    Raises:
        StorageFault: It exceeds the size limit, or its kind is invalid.
    """
    limit = MAX_CHUNK_BYTES + MAX_RECORD_BYTES if kind in (CHUNK, MESSAGE) else MAX_RECORD_BYTES
    if size > limit:
        raise StorageFault(f"the record at byte {at} has {size} bytes, more than the limit of {limit}")
    if kind == 0:
        raise StorageFault(f"there is no record at byte {at}")


def read_record(file: BinaryIO, file_size: int) -> tuple[int, bytes]:
    """Read kind and content of the next record; the content of :data:`SKIPPED` records is empty.

    Raises:
        StorageFault: The file ends inside the record, or :func:`check_record` refuses it.
    """
    at = file.tell()
    head = file.read(RECORD_HEAD.size)
    if len(head) < RECORD_HEAD.size:
        raise StorageFault(f"the file ends inside the record at byte {at}")
    kind, size = RECORD_HEAD.unpack(head)
    if at + RECORD_HEAD.size + size > file_size:
        raise StorageFault(f"the file ends inside the record at byte {at}")
    if kind in SKIPPED:
        file.seek(size, 1)
        return kind, b""
    check_record(kind, size, at)
    return kind, file.read(size)


def split_message(record: bytes | memoryview) -> tuple[int, int, memoryview]:
    """Channel, time (ns) and bytes of a message record."""
    number, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(record)
    return number, time_ns, memoryview(record)[_MESSAGE_HEAD.size :]


def chunk_compression(content: bytes) -> str:
    """The name of a chunk's compression, shortened and printable; empty if uncompressed."""
    if len(content) < _CHUNK_HEAD.size:
        return ""
    *_, length = _CHUNK_HEAD.unpack_from(content)
    return excerpt(content[_CHUNK_HEAD.size : _CHUNK_HEAD.size + min(length, MAX_NAME_BYTES)].decode("utf-8", "replace"), 20)


def chunk_records(content: bytes, at: int, whole: bool = True) -> Iterator[tuple[int, memoryview]]:
    """Yield kind and content of the records in a chunk.

    Args:
        content: The chunk's content.
        at: Its position in the file, for error messages.
        whole: Whether the chunk is complete; only the complete records of a truncated one are returned.

    Raises:
        StorageFault: The chunk is corrupt or exceeds the limit.
        LimitError: It unpacks to more than its stated size, or its compression is corrupt.
    """
    data = _unpack_chunk(content, at, whole)
    place = 0
    while place + RECORD_HEAD.size <= len(data):
        kind, length = RECORD_HEAD.unpack_from(data, place)
        start = place + RECORD_HEAD.size
        if start + length > len(data):
            break
        yield kind, data[start : start + length]
        place = start + length
    if whole and place != len(data):
        raise StorageFault(f"the chunk at byte {at} ends inside a record")


def _unpack_chunk(content: bytes, at: int, whole: bool) -> memoryview:
    """The unpacked content of a chunk, checked against its stated size and checksum."""
    if len(content) < _CHUNK_HEAD.size + 8:
        raise StorageFault("the file ends inside a chunk")
    _, _, size, checksum, length = _CHUNK_HEAD.unpack_from(content)
    place = _CHUNK_HEAD.size + length
    if place + 8 > len(content):
        raise StorageFault("the file ends inside a chunk")
    compression = content[_CHUNK_HEAD.size : place].decode("utf-8")
    stored = int.from_bytes(content[place : place + 8], "little")
    packed = memoryview(content)[place + 8 :]
    if whole and stored > len(packed):
        raise StorageFault(f"the chunk at byte {at} is too short for its content")
    if size > MAX_CHUNK_BYTES:
        raise StorageFault(f"the chunk at byte {at} has {size} bytes, more than the limit of {MAX_CHUNK_BYTES}")
    data = memoryview(_unpack(compression, packed[:stored], size, whole))
    if whole and len(data) != size:
        raise StorageFault(f"the chunk at byte {at} has {len(data)} bytes instead of {size}")
    if whole and checksum and zlib.crc32(data) != checksum:
        raise StorageFault(f"the chunk at byte {at} has a wrong checksum")
    return data


def _unpack(compression: str, packed: memoryview, size: int, whole: bool) -> bytes | memoryview:
    if not compression:
        return packed
    if compression in ("zstd", "lz4"):
        return decompress(compression, packed, size, whole)
    raise StorageFault(f"its chunks have the unknown compression '{excerpt(compression, 20)}' (zstd and lz4 are supported)")
