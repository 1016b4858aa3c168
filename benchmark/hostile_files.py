"""Builds the hostile files of ``benchmark/hostile.py``: each once took memory, time, or what lay beside it.

Everything is written byte by byte here, by none of the writers of the package, so that nothing refuses to write it.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import cv2
import lz4.frame
import numpy as np

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NS = 1_700_000_000_000_000_000
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


# --- weights


def weights(path: Path, genuine: Path, header: Mapping[str, Any] | None = None, tensors: str = "", name: str = "") -> Path:
    """A copy of genuine weights with another header or other numbers.

    Args:
        path: Where.
        genuine: The weights to copy.
        header: Values of the description by their dotted names.
        tensors: ``variance``, ``overflow`` or ``integers``: what to do to the numbers.
        name: Another name of the model.
    """
    data = genuine.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    description = json.loads(head["__metadata__"]["csl_tracker"])
    for key, value in {**(header or {}), **({"name": name} if name else {})}.items():
        place = description
        *above, last = key.split(".")
        for part in above:
            place = place[part]
        place[last] = value
    head["__metadata__"]["csl_tracker"] = json.dumps(description)
    for key, entry in head.items():
        if key == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        kind = np.float16 if entry["dtype"] == "F16" else np.float32
        if tensors == "variance" and key.endswith("running_var"):
            body[start:end] = np.full((end - start) // np.dtype(kind).itemsize, -1, kind).tobytes()
        if tensors == "overflow" and key.endswith("weight"):
            body[start:end] = np.full((end - start) // np.dtype(kind).itemsize, 6e4, kind).tobytes()
        if tensors == "integers":
            entry["dtype"] = "I16" if kind is np.float16 else "I32"
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))
    return path


def sparse(path: Path, size: int, start: bytes = b"") -> Path:
    """A file of any length that takes no room on the disk."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    return path


# --- bags

MAGIC = b"\x89MCAP0\r\n"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


def record(kind: int, content: bytes) -> bytes:
    """A record of an MCAP file."""
    return struct.pack("<BQ", kind, len(content)) + content


def text(value: str | bytes) -> bytes:
    """A text, or bytes, with their length before them."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def topic(number: int, name: str, kind: str, definition: str = "") -> bytes:
    """The records that make a topic known."""
    return record(3, struct.pack("<H", number) + text(kind) + text("ros2msg") + text(definition)) + record(
        4, struct.pack("<HH", number, number) + text(name) + text("cdr") + text(b"")
    )


def message(number: int, data: bytes, time_ns: int = NS) -> bytes:
    """The record of a message."""
    return record(5, struct.pack("<HIQQ", number, 0, time_ns, time_ns) + data)


def chunk(compression: str, size: int, packed: bytes) -> bytes:
    """The record of a chunk that claims to become ``size`` bytes."""
    return record(6, struct.pack("<QQQI", NS, NS, size, 0) + text(compression) + struct.pack("<Q", len(packed)) + packed)


def mcap(path: Path, *records: bytes) -> Path:
    """An MCAP file without an index, so that every record is read."""
    path.write_bytes(MAGIC + record(1, text("ros2") + text("x")) + b"".join(records) + record(15, bytes(4)) + MAGIC)
    return path


def cdr_image(height: int, width: int, data: bytes, frame: str = "camera") -> bytes:
    """A serialised ``sensor_msgs/Image``, mono8, with whatever size and data."""
    head = struct.pack("<4xiI", 1, 0).replace(b"\0\0\0\0", b"\0\1\0\0", 1) + _cdr_text(frame, 12)
    # The byte for the order of bytes follows the text at once; what comes after it is aligned to four.
    head += struct.pack("<III", height, width, 6) + b"mono8\0" + struct.pack("<BxI", 0, width)
    return head + struct.pack("<I", len(data)) + data


def cdr_compressed(data: bytes, form: str = "png") -> bytes:
    """A serialised ``sensor_msgs/CompressedImage``."""
    head = struct.pack("<4xiI", 1, 0).replace(b"\0\0\0\0", b"\0\1\0\0", 1) + _cdr_text("camera", 12)
    head += _cdr_text(form, len(head))
    return head + struct.pack("<I", len(data)) + data


def _cdr_text(value: str, at: int) -> bytes:
    data = struct.pack("<I", len(value) + 1) + value.encode() + b"\0"
    return data + bytes(-(at - 4 + len(data)) % 4)


def zeros(size: int) -> bytes:
    """Zstandard of so many zeros."""
    packer = zstd.ZstdCompressor()
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


def lz4_zeros(size: int) -> bytes:
    """An LZ4 frame of so many zeros."""
    packer = lz4.frame.LZ4FrameCompressor(block_size=lz4.frame.BLOCKSIZE_MAX4MB)
    block = bytes(1 << 22)
    return bytes(packer.begin() + b"".join(packer.compress(block) for _ in range(size >> 22)) + packer.flush())


def indexed(path: Path, chunks: int, again: bool = False, hole: int = 0) -> Path:
    """An MCAP file with an index.

    Args:
        path: Where.
        chunks: Number of chunks, each with one image.
        again: Every entry of the index names the first chunk.
        hole: Bytes of an image that are a hole in the file: 64 MB of them take no room on the disk.
    """
    size = max(hole, 16)
    image = cdr_image(size // 16, 16, b"")[:-4] + struct.pack("<I", size // 16 * 16)
    known = topic(1, "/camera/image_raw", IMAGE)
    entries = b""
    with path.open("wb") as file:
        file.write(MAGIC + record(1, text("ros2") + text("x")) + known)
        first = file.tell()
        for index in range(chunks):
            at, time_ns = file.tell(), NS + index * 40_000_000
            inside = 9 + 22 + len(image) + size // 16 * 16
            head = struct.pack("<QQQI", time_ns, time_ns, inside, 0) + text("") + struct.pack("<Q", inside)
            file.write(struct.pack("<BQ", 6, len(head) + inside) + head + struct.pack("<BQ", 5, inside - 9))
            file.write(struct.pack("<HIQQ", 1, 0, time_ns, time_ns) + image)
            file.seek(size // 16 * 16, 1)
            place = struct.pack("<QQQQ", time_ns, time_ns, first if again else at, 9 + len(head) + inside)
            entries += record(8, place + text(struct.pack("<HQ", 1, 0)) + bytes(8) + text("") + bytes(16))
        file.truncate()
        file.write(record(15, bytes(4)))
        summary = file.tell()
        counted = struct.pack("<QHIIII", chunks, 1, 1, 0, 0, chunks) + struct.pack("<QQ", NS, NS + chunks * 40_000_000)
        file.write(known + entries + record(11, counted + text(struct.pack("<HQ", 1, chunks))))
        file.write(record(2, struct.pack("<QQI", summary, 0, 0)) + MAGIC)
    return path


def database(path: Path, *statements: str) -> Path:
    """A ``.db3`` file of a topic and a message, and what the statements make of it."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)")
        connection.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
        connection.execute("INSERT INTO topics VALUES(1, '/camera', ?, 'cdr')", (IMAGE,))
        connection.execute("INSERT INTO messages VALUES(1, 1, ?, ?)", (NS, cdr_image(4, 4, bytes(16))))
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


def endless_tree(path: Path) -> Path:
    """A database whose inner pages have children that are all the next inner page: more rows than there is time."""
    rows = "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
    database(path, f"{rows} INSERT INTO messages SELECT i, 1, i, x'00' FROM n")
    raw = bytearray(path.read_bytes())
    size = int.from_bytes(raw[16:18], "big")
    inner_pages = [at for at in range(0, len(raw), size) if raw[at] == 5]
    root = max(inner_pages, key=lambda at: int.from_bytes(raw[at + 3 : at + 5], "big"))
    inner = bytes(raw[root : root + size])
    cells = [int.from_bytes(inner[12 + 2 * k : 14 + 2 * k], "big") for k in range(int.from_bytes(inner[3:5], "big"))]
    pages = [int.from_bytes(inner[place : place + 4], "big") for place in cells][:16]
    for page, below in zip((root // size + 1, *pages), pages, strict=False):
        changed = bytearray(inner)
        for place in (8, *cells):
            changed[place : place + 4] = below.to_bytes(4, "big")
        raw[(page - 1) * size : page * size] = changed
    path.write_bytes(raw)
    return path


def folder(path: Path, metadata: str) -> Path:
    """The folder of a recording with one whole file."""
    path.mkdir()
    indexed(path / "a.mcap", 2)
    (path / "metadata.yaml").write_text(metadata)
    return path


def metadata(paths: list[str], more: str = "") -> str:
    """A ``metadata.yaml`` that names these files."""
    listed = "".join(f"    - {json.dumps(name)}\n" for name in paths)
    return (
        f"rosbag2_bagfile_information:\n  relative_file_paths:\n{listed}  duration: {{nanoseconds: 1}}\n"
        f"  starting_time: {{nanoseconds_since_epoch: {NS}}}\n  topics_with_message_count: []\n{more}"
    )


def aliases() -> str:
    """YAML of 1 kB that stands for ten billion values."""
    lines = ["rosbag2_bagfile_information:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join([*lines, "  relative_file_paths: *a9"])


# --- images and videos


def png(width: int, height: int, rows: int = 0) -> bytes:
    """A grey PNG of any size, all black; of fewer rows than it claims where ``rows`` says so."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(width + 1)) for _ in range(rows or height)) + packer.flush()
    parts = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def tiff(width: int, height: int) -> bytes:
    """A TIFF that claims a size and has no data."""
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
    ]
    entries.append((279, 4, 16))
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4)


def images(path: Path, *content: tuple[str, bytes]) -> Path:
    """A folder of images."""
    path.mkdir()
    for name, data in content:
        (path / name).write_bytes(data)
    return path


def small(path: Path, count: int = 3) -> Path:
    """A folder of honest frames."""
    frame = cv2.imencode(".png", np.full((96, 128, 3), 90, np.uint8))[1].tobytes()
    return images(path, *((f"{index}.png", frame) for index in range(count)))


def video(path: Path, width: int = 64, height: int = 48) -> Path:
    """An honest Motion JPEG video."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p"
        for index in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 40 * index, np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def large_frames(path: Path) -> Path:
    """An AVI whose frames are PNGs of 900 million px."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        for index in range(3):
            packet = av.Packet(png(30_000, 30_000, 300))
            packet.stream, packet.pts, packet.dts = stream, index, index
            container.mux(packet)
    return path


# --- datasets


def coco(path: Path, content: str) -> Path:
    """A folder with one image and one COCO file."""
    small(path, 1)
    (path / "annotations.json").write_text(content)
    return path


def coco_of(**changes: Any) -> str:
    """A COCO file of one image and one instrument with two landmarks."""
    data = {
        "images": [{"id": 1, "file_name": "0.png", "width": 128, "height": 96}],
        "categories": [{"id": 1, "name": "tool", "keypoints": ["tip", "end"], "skeleton": [[1, 2]]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 2], "num_keypoints": 2}],
    }
    return json.dumps({**data, **changes})
