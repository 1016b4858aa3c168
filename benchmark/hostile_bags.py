"""Builds hostile bags byte by byte, with none of the writers of the package: for ``benchmark/hostile.py`` and for the tests."""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import lz4.frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NS = 1_700_000_000_000_000_000
"""Time of the first message, ns."""
STEP_NS = 40_000_000
ESCAPE = "\x1b]0;owned\x07\x1b[2J"
MAGIC = b"\x89MCAP0\r\n"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


# --- MCAP


def record(kind: int, content: bytes) -> bytes:
    """A record of an MCAP file."""
    return struct.pack("<BQ", kind, len(content)) + content


def text(value: str | bytes) -> bytes:
    """A text, or bytes, with their length before them."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def schema(number: int, msgtype: str, definition: str | bytes = "", encoding: str = "ros2msg") -> bytes:
    """The record of a message definition."""
    return record(3, struct.pack("<H", number) + text(msgtype) + text(encoding) + text(definition))


def channel(number: int, schema_number: int, topic: str, qos: str = "") -> bytes:
    """The record of a channel."""
    metadata = text("offered_qos_profiles") + text(qos) if qos else b""
    return record(4, struct.pack("<HH", number, schema_number) + text(topic) + text("cdr") + text(metadata))


def topic(number: int, name: str, msgtype: str, definition: str = "") -> bytes:
    """The records of a channel and its schema, which have the same number."""
    return schema(number, msgtype, definition) + channel(number, number, name)


def message(number: int, data: bytes, time_ns: int = NS) -> bytes:
    """The record of a message."""
    return record(5, struct.pack("<HIQQ", number, 0, time_ns, time_ns) + data)


def chunk(compression: str, size: int, packed: bytes, crc: int = 0, stored: int | None = None) -> bytes:
    """The record of a chunk that claims to unpack to ``size`` bytes, and to hold ``stored`` ones."""
    head = struct.pack("<QQQI", NS, NS, size, crc) + text(compression)
    return record(6, head + struct.pack("<Q", len(packed) if stored is None else stored) + packed)


def chunk_index(
    time_ns: int, offset: int, length: int, channels: Sequence[int] = (1,), compression: str = "", end_ns: int | None = None
) -> bytes:
    """The record of a chunk in the index; a :func:`message_index` follows the chunk for each channel."""
    end_ns = time_ns if end_ns is None else end_ns
    size = len(message_index(0, 0))
    places = enumerate(channels)
    offsets = text(b"".join(struct.pack("<HQ", number, offset + length + place * size) for place, number in places))
    content = max(length - 9 - 40 - len(compression), 0)
    sizes = struct.pack("<Q", size * len(channels)) + text(compression) + struct.pack("<QQ", content, content)
    return record(8, struct.pack("<QQQQ", time_ns, end_ns, offset, length) + offsets + sizes)


def message_index(number: int, time_ns: int) -> bytes:
    """The record that tells of one message at the beginning of a chunk."""
    return record(7, struct.pack("<H", number) + text(struct.pack("<QQ", time_ns, 0)))


def statistics(count: int, chunks: int, last_ns: int) -> bytes:
    """The record of counts: one channel with ``count`` messages."""
    head = struct.pack("<QHIIII", count, 1, 1, 0, 0, chunks) + struct.pack("<QQ", NS, last_ns)
    return record(11, head + text(struct.pack("<HQ", 1, count)))


def footer(summary_start: int) -> bytes:
    """The end of a file, from the footer on."""
    return record(2, struct.pack("<QQI", summary_start, 0, 0)) + MAGIC


HEAD = MAGIC + record(1, text("ros2") + text("x"))
"""The beginning of a file."""


def mcap(path: Path, *records: bytes) -> Path:
    """An MCAP file without an index, so that every record is read."""
    path.write_bytes(HEAD + b"".join(records) + record(15, bytes(4)) + MAGIC)
    return path


def with_index(path: Path, data: Sequence[bytes], *index: bytes) -> Path:
    """An MCAP file of these records and this index."""
    head = HEAD + b"".join(data) + record(15, bytes(4))
    path.write_bytes(head + b"".join(index) + footer(len(head)))
    return path


def indexed(path: Path, chunks: int, again: bool = False, hole: int = 0) -> Path:
    """An MCAP file with an index.

    Args:
        path: Where.
        chunks: Number of chunks, each with one image.
        again: Every entry of the index names the first chunk.
        hole: Bytes of an image that are a hole in the file: 64 MB of them take no room on the disk.
    """
    size = max(hole, 16)
    known = topic(1, "/camera/image_raw", IMAGE)
    entries = b""
    with path.open("wb") as file:
        file.write(HEAD + known)
        first = file.tell()
        for index in range(chunks):
            at, time_ns = file.tell(), NS + index * STEP_NS
            image = cdr_image(size // 16, 16, b"", stamp_ns=time_ns)[:-4] + struct.pack("<I", size // 16 * 16)
            inside = 9 + 22 + len(image) + size // 16 * 16
            head = struct.pack("<QQQI", time_ns, time_ns, inside, 0) + text("") + struct.pack("<Q", inside)
            file.write(struct.pack("<BQ", 6, len(head) + inside) + head + struct.pack("<BQ", 5, inside - 9))
            file.write(struct.pack("<HIQQ", 1, 0, time_ns, time_ns) + image)
            file.seek(size // 16 * 16, 1)
            file.write(message_index(1, time_ns))
            entries += chunk_index(time_ns, first if again else at, 9 + len(head) + inside)
        file.truncate()
        file.write(record(15, bytes(4)))
        summary = file.tell()
        file.write(known + entries + statistics(chunks, chunks, NS + (chunks - 1) * STEP_NS) + footer(summary))
    return path


# --- messages


def cdr_image(height: int, width: int, data: bytes, frame: str = "camera", stamp_ns: int = 1_000_000_000) -> bytes:
    """A serialised ``sensor_msgs/Image``, mono8, with whatever size and data."""
    head = _cdr_header(stamp_ns) + _cdr_text(frame, 12)
    # The byte for the order of bytes follows the text at once; what comes after it is aligned to four.
    head += struct.pack("<III", height, width, 6) + b"mono8\0" + struct.pack("<BxI", 0, width)
    return head + struct.pack("<I", len(data)) + data


def cdr_compressed(data: bytes, form: str = "png") -> bytes:
    """A serialised ``sensor_msgs/CompressedImage``."""
    head = _cdr_header(1_000_000_000) + _cdr_text("camera", 12)
    head += _cdr_text(form, len(head))
    return head + struct.pack("<I", len(data)) + data


def _cdr_header(stamp_ns: int) -> bytes:
    return b"\0\1\0\0" + struct.pack("<iI", *divmod(stamp_ns, 1_000_000_000))


def _cdr_text(value: str, at: int) -> bytes:
    data = struct.pack("<I", len(value) + 1) + value.encode() + b"\0"
    return data + bytes(-(at - 4 + len(data)) % 4)


# --- bombs


def zeros(size: int, pledged: bool = False) -> bytes:
    """Zstandard of so many zeros; ``pledged`` writes their number into its head."""
    packer = zstd.ZstdCompressor()
    if pledged:
        packer.set_pledged_input_size(size)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


def lz4_zeros(size: int) -> bytes:
    """An LZ4 frame of so many zeros."""
    packer = lz4.frame.LZ4FrameCompressor(block_size=lz4.frame.BLOCKSIZE_MAX4MB)
    block = bytes(1 << 22)
    return bytes(packer.begin() + b"".join(packer.compress(block) for _ in range(size >> 22)) + packer.flush())


# --- SQLite

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, 1 AS topic_id, i AS timestamp"


def database(path: Path, *statements: str, tables: bool = True) -> Path:
    """A ``.db3`` file of a topic and a message, and what the statements make of it; without ``tables`` of the topic alone."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)")
        connection.execute("INSERT INTO topics VALUES(1, '/camera', ?, 'cdr')", (IMAGE,))
        if tables:
            connection.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
            connection.execute("INSERT INTO messages VALUES(1, 1, ?, ?)", (NS, cdr_image(4, 4, bytes(16))))
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


def endless_tree(path: Path) -> Path:
    """A database with more rows than there is time: its inner pages have children that are all the next inner page."""
    rows = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
    database(path, f"{rows} INSERT INTO messages SELECT i, 1, i, x'00' FROM n")
    raw = bytearray(path.read_bytes())
    size = int.from_bytes(raw[16:18], "big")
    inner_pages = [at for at in range(0, len(raw), size) if raw[at] == 5]
    root = max(inner_pages, key=lambda at: int.from_bytes(raw[at + 3 : at + 5], "big"))
    inner = bytes(raw[root : root + size])
    cells = [int.from_bytes(inner[12 + 2 * k : 14 + 2 * k], "big") for k in range(int.from_bytes(inner[3:5], "big"))]
    pages = [int.from_bytes(inner[place : place + 4], "big") for place in cells][:16]
    assert len(pages) == 16
    for page, below in zip((root // size + 1, *pages), pages, strict=False):
        changed = bytearray(inner)
        for place in (8, *cells):
            changed[place : place + 4] = below.to_bytes(4, "big")
        raw[(page - 1) * size : page * size] = changed
    path.write_bytes(raw)
    return path


# --- folders


def folder(path: Path, content: str) -> Path:
    """The folder of a recording with one whole file ``a.mcap`` and this ``metadata.yaml``."""
    path.mkdir()
    indexed(path / "a.mcap", 2)
    (path / "metadata.yaml").write_text(content)
    return path


def metadata(paths: Sequence[object], more: str = "", counts: str = "[]") -> str:
    """A ``metadata.yaml`` that names these files."""
    return (
        f"rosbag2_bagfile_information:\n  relative_file_paths: {json.dumps(list(paths))}\n  duration: {{nanoseconds: 1}}\n"
        f"  starting_time: {{nanoseconds_since_epoch: {NS}}}\n  topics_with_message_count: {counts}\n{more}"
    )


def aliases() -> str:
    """YAML of 1 kB that stands for ten billion values."""
    lines = ["rosbag2_bagfile_information:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join([*lines, "  relative_file_paths: *a9"])
