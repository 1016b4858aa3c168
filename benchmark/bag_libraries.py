"""This package's bag reader beside those of ``rosbags`` and ``mcap``; ``benchmark/bags.py --libraries`` runs it."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import sqlite3
import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hostile_bags as bags
import numpy as np
from mcap.reader import SeekingReader
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin
from rosbags.rosbag2 import Writer as RosbagWriter
from tqdm import tqdm

from csl_tracker.bags.reader import BagReader
from csl_tracker.messages.types import typestore

ROUNDS = 3
MEMORY_BYTES = 3 << 30
TIME_S = 20
CHUNK_BYTES = 64 << 20
BOMB_BYTES = 4 << 30
FRAMES, FRAME_SIZE = 48, (1080, 1920)
SMALL = 100_000


def _read_own(path: Path) -> Iterator[int]:
    with BagReader(path) as bag:
        for message in bag.messages():
            yield len(message.data)


def _read_rosbags(path: Path) -> Iterator[int]:
    with Reader(path) as bag:
        for _, _, data in bag.messages():
            yield len(data)


def _read_mcap(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        for _, _, message in SeekingReader(file, validate_crcs=True).iter_messages():
            yield len(message.data)


READERS: dict[str, Callable[[Path], Iterator[int]]] = {"csl_tracker": _read_own, "rosbags": _read_rosbags, "mcap": _read_mcap}


# --- speed


def _frames() -> list[bytes]:
    """Serialised images that compress to about a half, as camera images do."""
    noise = np.random.default_rng(0).integers(0, 16, (8, FRAME_SIZE[0], FRAME_SIZE[1] * 3), np.uint8)
    return [bags.cdr_image(FRAME_SIZE[0], FRAME_SIZE[1] * 3, image.tobytes()) for image in noise]


def _write_mcap(path: Path, messages: list[bytes], count: int, compression: CompressionType, chunk_bytes: int) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=chunk_bytes, compression=compression)
        writer.start("ros2", "benchmark")
        definition, _ = typestore().generate_msgdef(bags.IMAGE, ros_version=2)
        channel = writer.register_channel("/camera", "cdr", writer.register_schema(bags.IMAGE, "ros2msg", definition.encode()))
        for index in range(count):
            time_ns = bags.NS + index * bags.STEP_NS
            writer.add_message(channel, time_ns, messages[index % len(messages)], time_ns)
        writer.finish()
    return path


def _write_sqlite(folder: Path, messages: list[bytes], count: int) -> Path:
    with RosbagWriter(folder / "a", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        camera = writer.add_connection("/camera", bags.IMAGE, typestore=typestore())
        for index in range(count):
            writer.write(camera, bags.NS + index * bags.STEP_NS, messages[index % len(messages)])
    return folder / "a" / "a.db3"


def _speed_inputs() -> dict[str, Callable[[Path], Path]]:
    small = [bags.cdr_image(4, 4, bytes(16))]
    found: dict[str, Callable[[Path], Path]] = {}
    for compression in (CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD):
        found[f"mcap, {FRAMES} images of 6.2 MB, chunks of 64 MB, {compression.name.lower()}"] = lambda at, kind=compression: (
            _write_mcap(at / "a.mcap", _frames(), FRAMES, kind, CHUNK_BYTES)
        )
    found[f"mcap, {SMALL} messages of 80 bytes, chunks of 1 MB, none"] = lambda at: _write_mcap(
        at / "a.mcap", small, SMALL, CompressionType.NONE, 1 << 20
    )
    found["mcap, 20000 chunks of one message, none"] = lambda at: _write_mcap(
        at / "a.mcap", small, 20_000, CompressionType.NONE, 1
    )
    found[f"sqlite3, {FRAMES} images of 6.2 MB"] = lambda at: _write_sqlite(at, _frames(), FRAMES)
    found[f"sqlite3, {SMALL} messages of 80 bytes"] = lambda at: _write_sqlite(at, small, SMALL)
    return found


def _time(reader: str, path: Path) -> dict[str, float]:
    """Read a whole bag; runs in a process of its own."""
    before_mb = _peak_mb()
    start = time.process_time()  # other work on the machine takes no part of it
    sizes = list(READERS[reader](path))
    seconds = time.process_time() - start
    return {
        "messages": len(sizes),
        "cpu_seconds": seconds,
        "messages_per_cpu_second": len(sizes) / seconds,
        "mb_per_cpu_second": sum(sizes) / 1e6 / seconds,
        "added_peak_mb": _peak_mb() - before_mb,
    }


def _peak_mb() -> float:
    """Largest resident memory of this process; that of ``getrusage`` begins with that of the parent."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def _compare_speed(path: Path) -> dict[str, Any]:
    """Read a bag in turns with each reader: medians, and the median of each round's ratio to this package's reader."""
    readers = [name for name in READERS if name != "mcap" or path.suffix == ".mcap"]
    rounds: list[dict[str, dict[str, float]]] = []
    for _ in range(ROUNDS):
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            rounds.append({name: pool.apply(_time, (name, path)) for name in readers})
    found: dict[str, Any] = {}
    for name in readers:
        taken = [each[name] for each in rounds]
        found[name] = {key: round(statistics.median(row[key] for row in taken), 3) for key in taken[0]}
        ratios = [each["csl_tracker"]["cpu_seconds"] / each[name]["cpu_seconds"] for each in rounds]
        found[name]["speed_relative_to_csl_tracker"] = round(statistics.median(ratios), 3)
    return found


# --- what becomes of unusual bags


def _killed(at: Path) -> Path:
    path = _write_mcap(at / "a.mcap", [bags.cdr_image(64, 64, bytes(4096))], 100, CompressionType.ZSTD, 20_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    return path


def _without_metadata(at: Path) -> Path:
    folder = bags.folder(at / "bag", "")
    (folder / "metadata.yaml").unlink()
    return folder


def _write_ahead_log(at: Path) -> Path:
    """The files of a database whose recorder was killed: the last message is in the write-ahead log alone."""
    path = bags.database(at / "open.db3")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("INSERT INTO messages VALUES(2, 1, ?, ?)", (bags.NS + 1, bags.cdr_image(4, 4, bytes(16))))
        connection.commit()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{at / 'a.db3'}{suffix}")
    return at / "a.db3"


def _compressed(at: Path, mode: CompressionMode, bomb: bool = False) -> Path:
    writer = RosbagWriter(at / "bag", version=8, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        camera = writer.add_connection("/camera", bags.IMAGE, typestore=typestore())
        for index in range(5):
            writer.write(camera, bags.NS + index, bags.cdr_image(4, 4, bytes(16)))
    if bomb:
        (at / "bag" / "bag.mcap.zstd").write_bytes(bags.zeros(BOMB_BYTES))
    return at / "bag"


def _json_topic(at: Path) -> Path:
    """Four images, and a topic of JSON beside them, as Foxglove's recorders write it."""
    image = bags.cdr_image(4, 4, bytes(16))
    with (at / "a.mcap").open("wb") as file:
        writer = Writer(file)
        writer.start("ros2", "benchmark")
        camera = writer.register_channel("/camera", "cdr", writer.register_schema(bags.IMAGE, "ros2msg", b""))
        writer.register_channel("/gui", "json", writer.register_schema("Gui", "jsonschema", b"{}"))
        for index in range(4):
            writer.add_message(camera, bags.NS + index, image, bags.NS + index)
        writer.finish()
    return at / "a.mcap"


def _out_of_order(at: Path) -> Path:
    """A file that was closed in order, without an index, whose second and third message are exchanged."""
    records = [bags.topic(1, "/camera", bags.IMAGE)]
    records += [bags.message(1, bags.cdr_image(4, 4, bytes(16)), bags.NS + time_ns) for time_ns in (0, 2, 1, 3)]
    head = bags.HEAD + b"".join(records) + bags.record(15, bytes(4))
    (at / "a.mcap").write_bytes(head + bags.footer(0))
    return at / "a.mcap"


def _bomb(at: Path, compression: str) -> Path:
    """An indexed file whose only chunk claims 1 kB and unpacks to 4 GB."""
    packed = bags.zeros(BOMB_BYTES, pledged=True) if compression == "zstd" else bags.lz4_zeros(BOMB_BYTES)
    known, chunk = bags.topic(1, "/camera", bags.IMAGE), bags.chunk(compression, 1000, packed)
    start = len(bags.HEAD) + len(known)
    # Neither rosbags nor mcap reads the index of messages that is to follow the chunk; rosbags counts by its place.
    place = struct.pack("<QQQQ", bags.NS, bags.NS, start, len(chunk)) + bags.text(struct.pack("<HQ", 1, start + len(chunk)))
    sizes = struct.pack("<Q", 31) + bags.text(compression) + struct.pack("<QQ", len(packed), 1000)
    return bags.with_index(at / "a.mcap", [known, chunk], known, bags.record(8, place + sizes), bags.statistics(1, 1, bags.NS))


def _unusual_bags() -> dict[str, Callable[[Path], Path]]:
    """Bags by what is unusual and how many of their messages can be read."""
    view = f"CREATE VIEW messages AS {bags.ENDLESS}, x'00' AS data FROM n"
    return {
        "mcap cut off by a kill at 60 % of 100 messages": _killed,
        "folder without metadata.yaml, 2 messages": _without_metadata,
        "sqlite3 with the last of 2 messages in the write-ahead log": _write_ahead_log,
        "5 messages compressed by rosbag2": lambda at: _compressed(at, CompressionMode.MESSAGE),
        "file of 5 messages compressed by rosbag2": lambda at: _compressed(at, CompressionMode.FILE),
        "topic of JSON beside 4 images": _json_topic,
        "no index and 4 messages out of order": _out_of_order,
        "zstd chunk that unpacks to 4 GB": lambda at: _bomb(at, "zstd"),
        "lz4 chunk that unpacks to 4 GB": lambda at: _bomb(at, "lz4"),
        "compressed file that unpacks to 4 GB": lambda at: _compressed(at, CompressionMode.FILE, bomb=True),
        "index of 2000 entries for one chunk, 2000 messages": lambda at: bags.indexed(at / "a.mcap", 2000, again=True),
        "sqlite3 with a view without end": lambda at: bags.database(at / "a.db3", view, tables=False),
        "sqlite3 whose pages loop": lambda at: bags.endless_tree(at / "a.db3"),
        "first 5 of 320 messages of 64 MB": lambda at: bags.indexed(at / "a.mcap", 320, hole=CHUNK_BYTES),
    }


def _try(reader: str, path: Path, at_most: int) -> dict[str, Any]:
    """Read a bag in a process of its own, under limits of memory and time."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_read_within_memory, args=(reader, path, at_most, sender))
    process.start()
    found: dict[str, Any] = {"messages": None, "ended": f"killed after {TIME_S} s", "added_peak_mb": None}
    if receiver.poll(TIME_S):
        try:
            found = receiver.recv()
        except EOFError:
            found["ended"] = "the process died"
    process.kill()
    process.join()
    return found


def _read_within_memory(reader: str, path: Path, at_most: int, sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    before_mb, count, ended = _peak_mb(), 0, "end of the bag"
    try:
        for _ in islice(READERS[reader](path), at_most):
            count += 1
    except BaseException as error:
        ended = f"{type(error).__name__}: {str(error).replace(str(path.parent), 'FOLDER')[:120]}"
    sender.send({"messages": count, "ended": ended, "added_peak_mb": round(_peak_mb() - before_mb)})


def compare(folder: Path | None) -> dict[str, Any]:
    """Make the bags in a temporary folder and give them to the three readers."""
    speed: dict[str, Any] = {}
    unusual: dict[str, Any] = {}
    for name, make in tqdm(_speed_inputs().items(), desc="speed"):
        with tempfile.TemporaryDirectory(prefix="bags.", dir=folder) as at:
            speed[name] = _compare_speed(make(Path(at)))
            tqdm.write(f"{name}: {speed[name]}")
    for name, make in tqdm(_unusual_bags().items(), desc="unusual bags"):
        with tempfile.TemporaryDirectory(prefix="bags.", dir=folder) as at:
            path = make(Path(at))
            unusual[name] = {}
            for reader in READERS:
                if reader != "mcap" or path.suffix == ".mcap":
                    unusual[name][reader] = _try(reader, path, 5 if name.startswith("first 5") else 100_000)
            tqdm.write(f"{name}: {unusual[name]}")
    limits = {"memory_mb": MEMORY_BYTES >> 20, "time_s": TIME_S}
    return {"rounds": ROUNDS, "speed": speed, "limits_of_unusual_bags": limits, "unusual_bags": unusual}
