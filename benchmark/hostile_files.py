"""Builds the hostile files of ``benchmark/hostile.py`` other than bags: each once took memory, time, or what lay beside it.

Everything is written byte by byte here, by none of the writers of the package, so that nothing refuses to write it.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

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
