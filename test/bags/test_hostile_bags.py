"""Bags that were made to take memory, time or what is beside them: one sentence each, and little of both."""

import contextlib
import os
import sqlite3
import struct
import sys
import time
import tracemalloc
from pathlib import Path

import lz4.frame
import numpy as np
import pytest
import yaml
from mcap.writer import CompressionType, Writer
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as RosbagWriter
from rosbags.typesys import TypesysError

from csl_tracker.bags.definitions import understand
from csl_tracker.bags.info import describe_bag
from csl_tracker.bags.limits import LimitError, decompress
from csl_tracker.bags.reader import BagReader
from csl_tracker.cli.main import main
from csl_tracker.errors import BagError
from csl_tracker.messages import topics
from csl_tracker.messages.images import image_message, message_to_rgb
from csl_tracker.messages.types import typestore

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
STEP = 40_000_000
START = 1_700_000_000_000_000_000
BOMB = 1 << 28
"""Bytes that a bomb becomes: twice what any chunk may have."""
DEFINITION, _ = typestore().generate_msgdef(topics.IMAGE_TYPE, ros_version=2)


def record(kind: int, content: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(content)) + content


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<I", len(data)) + data


def cdr(index: int = 0, size: tuple[int, int] = (24, 32)) -> bytes:
    image = np.full((*size, 3), index, np.uint8)
    return bytes(typestore().serialize_cdr(image_message(image, START + index * STEP), topics.IMAGE_TYPE))


def schema(number: int, name: str, definition: bytes, form: str = "ros2msg") -> bytes:
    return record(3, struct.pack("<H", number) + text(name) + text(form) + text(definition))


def channel(number: int, kind: int, topic: str) -> bytes:
    return record(4, struct.pack("<HH", number, kind) + text(topic) + text("cdr") + text(b""))


def message(number: int, time_ns: int, data: bytes) -> bytes:
    return record(5, struct.pack("<HIQQ", number, 0, time_ns, time_ns) + data)


def chunk(compression: str, size: int, packed: bytes) -> bytes:
    return record(6, struct.pack("<QQQI", START, START, size, 0) + text(compression) + struct.pack("<Q", len(packed)) + packed)


def mcap(path: Path, *records: bytes) -> Path:
    """A file without an index, so that all of its records are read."""
    path.write_bytes(MAGIC + record(1, text("ros2") + text("hostile")) + b"".join(records) + record(15, bytes(4)) + MAGIC)
    return path


def write_mcap(path: Path, count: int = 6, topic: str = "/camera/image_raw", **options) -> Path:
    with path.open("wb") as file:
        writer = Writer(file, **{"chunk_size": 4000, "compression": CompressionType.NONE, **options})
        writer.start("ros2", "other")
        images = writer.register_channel(
            topic, "cdr", writer.register_schema(topics.IMAGE_TYPE, "ros2msg", DEFINITION.encode())
        )
        for index in range(count):
            writer.add_message(images, START + index * STEP, cdr(index), START + index * STEP)
        writer.finish()
    return path


def look_at(path: Path) -> None:
    """What ``bag info --check`` does, with whatever it finds raised."""
    with BagReader(path) as bag:
        found = describe_bag(bag, message_to_rgb, check=True)
    if found["problems"]:
        raise BagError(" ".join(found["problems"]))


def zstd_bomb(size: int) -> bytes:
    packer = zstd.ZstdCompressor()
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


def database(path: Path, *statements: str, tables: bool = True) -> Path:
    with sqlite3.connect(path) as connection:
        if tables:
            connection.execute("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)")
            connection.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
            connection.execute("INSERT INTO topics VALUES(1, '/camera', ?, 'cdr')", (topics.IMAGE_TYPE,))
            connection.execute("INSERT INTO messages VALUES(1, 1, ?, ?)", (START, cdr()))
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


TOPICS = "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT)"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, 1 AS topic_id, i AS timestamp"


def folder(path: Path, **changes: object) -> Path:
    path.mkdir()
    write_mcap(path / "a.mcap")
    information = {
        "version": 9,
        "storage_identifier": "mcap",
        "relative_file_paths": ["a.mcap"],
        "duration": {"nanoseconds": 1},
        "starting_time": {"nanoseconds_since_epoch": START},
        "topics_with_message_count": [
            {"topic_metadata": {"name": "/camera/image_raw", "type": topics.IMAGE_TYPE}, "message_count": 6}
        ],
        **changes,
    }
    (path / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    return path


def bomb_of_aliases() -> str:
    lines = ["rosbag2_bagfile_information:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    return "\n".join([*lines, "  relative_file_paths: *a9"])


def with_metadata(path: Path, content: str) -> Path:
    folder(path)
    (path / "metadata.yaml").write_text(content)
    return path


def same_chunk_again(path: Path) -> Path:
    """Every entry of the index names the first chunk."""
    raw = bytearray(write_mcap(path).read_bytes())
    offsets, at = [], len(MAGIC)
    while at < len(raw) - len(MAGIC):
        kind, size = struct.unpack_from("<BQ", raw, at)
        if kind == 6:
            offsets.append(at)
        if kind == 8:
            struct.pack_into("<Q", raw, at + 9 + 16, offsets[0])
        at += 9 + size
    path.write_bytes(raw)
    return path


HOSTILE = {
    # Little that becomes much.
    "zstd chunk that says so": (
        lambda p: mcap(p / "a.mcap", chunk("zstd", BOMB, zstd_bomb(BOMB))),
        "has 268435456 bytes, and 134217728 are the limit",
    ),
    "zstd chunk that says less": (
        lambda p: mcap(p / "a.mcap", chunk("zstd", 1000, zstd_bomb(BOMB))),
        "unpacks to more than 1000 bytes",
    ),
    "lz4 chunk that says so": (
        lambda p: mcap(p / "a.mcap", chunk("lz4", 1 << 40, lz4.frame.compress(bytes(1 << 24)))),
        "has 1099511627776 bytes",
    ),
    "lz4 chunk that says less": (
        lambda p: mcap(p / "a.mcap", chunk("lz4", 1000, lz4.frame.compress(bytes(1 << 26)))),
        "unpacks to more than 1000",
    ),
    "chunk of empty frames": (
        lambda p: mcap(p / "a.mcap", chunk("zstd", 1000, zstd.compress(b"") * 100_000)),
        "more than 64 frames",
    ),
    "message": (
        lambda p: mcap(
            p / "a.mcap", schema(1, topics.IMAGE_TYPE, b""), channel(1, 1, "/i"), message(1, START, zstd_bomb(BOMB))
        ),
        "a message is broken: it unpacks to more than 134217728 bytes",
    ),
    "whole file": (
        lambda p: (p / "a.db3.zstd").write_bytes(zstd_bomb(3 * BOMB)) and p / "a.db3.zstd",
        "unpacks to more than 200 times",
    ),
    "compression nobody knows": (lambda p: mcap(p / "a.mcap", chunk("\x1b[2J", 10, bytes(10))), r"with '\\x1b\[2J', which"),
    # Records.
    "record beyond all": (lambda p: mcap(p / "a.mcap", record(12, bytes(17 << 20))), "16777216 are the limit"),
    "records of nothing": (lambda p: mcap(p / "a.mcap", bytes(9000)), "stands no record"),
    "65,536 channels": (
        lambda p: mcap(p / "a.mcap", *(channel(number, 0, f"/topic{number}") for number in range(65_536))),
        "2048 channels",
    ),
    "name of 1 MB": (lambda p: mcap(p / "a.mcap", channel(1, 0, "/" + "a" * 1_000_000)), "a name in it has 1000001 bytes"),
    # Databases that compute.
    "view without end": (
        lambda p: database(p / "a.db3", TOPICS, f"CREATE VIEW messages AS {ENDLESS}, x'00' AS data FROM n", tables=False),
        "messages are no plain table but a view",
    ),
    "topics as a view": (
        lambda p: database(p / "a.db3", "DROP TABLE topics", f"CREATE VIEW topics AS {ENDLESS}, 'x' AS name FROM n"),
        "topics are no plain table",
    ),
    "definitions as a view": (
        lambda p: database(p / "a.db3", f"CREATE VIEW message_definitions AS {ENDLESS} FROM n"),
        "message_definitions are no",
    ),
    "virtual table": (
        lambda p: database(p / "a.db3", "CREATE VIRTUAL TABLE metadata USING fts5(content)"),
        "metadata are no plain table",
    ),
    "column that computes": (
        lambda p: database(p / "a.db3", "ALTER TABLE messages ADD COLUMN more BLOB AS (zeroblob(1000000000))"),
        "a column that is computed",
    ),
    "topic that is a number": (lambda p: database(p / "a.db3", "UPDATE topics SET name = x'1b5b'"), "names are no texts"),
    "topic without a type": (lambda p: database(p / "a.db3", "UPDATE topics SET type = NULL"), "names are no texts"),
    "time that is a text": (lambda p: database(p / "a.db3", "UPDATE messages SET timestamp = 'noon'"), "no whole numbers"),
    "data that is a text": (lambda p: database(p / "a.db3", "UPDATE messages SET data = 'image'"), "or no bytes"),
    "data that is nothing": (lambda p: database(p / "a.db3", "UPDATE messages SET data = NULL"), "or no bytes"),
    "100,000 topics": (
        lambda p: database(
            p / "a.db3",
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
            " INSERT INTO topics SELECT i, '/t' || i, 'a/msg/B', 'cdr' FROM n",
        ),
        "more than 2048 topics",
    ),
    # Metadata.
    "aliases": (lambda p: with_metadata(p / "bag", bomb_of_aliases()), "limit of 200000 values"),
    "depth": (lambda p: with_metadata(p / "bag", "a: " + "[" * 50_000), "levels deep"),
    "large": (lambda p: with_metadata(p / "bag", "# " + "x" * (3 << 20)), "2097152 are the limit"),
    "path upwards": (lambda p: folder(p / "bag", relative_file_paths=["../a.mcap"]), "'../a.mcap' leads out of the bag"),
    "path from the root": (lambda p: folder(p / "bag", relative_file_paths=["/etc/a.mcap"]), "leads out of the bag"),
    "path that is none": (lambda p: folder(p / "bag", relative_file_paths=[["a.mcap"]]), "is broken"),
    "the same file again": (lambda p: folder(p / "bag", relative_file_paths=["a.mcap"] * 3000), "names a file twice"),
    "count that is none": (
        lambda p: folder(
            p / "bag",
            topics_with_message_count=[{"topic_metadata": {"name": "a", "type": "b"}, "message_count": float("inf")}],
        ),
        "is broken",
    ),
}


@pytest.mark.parametrize(("make", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_bag_is_one_sentence(tmp_path, make, words):
    path = make(tmp_path)
    began = time.process_time()
    with pytest.raises(BagError, match=words) as caught:
        look_at(path)
    assert time.process_time() - began < 5
    assert str(caught.value).isprintable()


def test_memory_stays_within_bounds(tmp_path):
    path = mcap(tmp_path / "a.mcap", chunk("zstd", BOMB, zstd_bomb(BOMB)), chunk("zstd", 1000, zstd_bomb(BOMB)))
    tracemalloc.start()
    try:
        with pytest.raises(BagError):
            look_at(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_an_index_that_names_a_chunk_again_is_not_followed(tmp_path):
    path = same_chunk_again(tmp_path / "a.mcap")
    with BagReader(path) as bag:
        assert [frame.stamp_ns for frame in bag.frames()] == [START + index * STEP for index in range(6)]
        assert "no index" in bag.problems[0]


def test_a_tree_of_pages_without_end_is_left(tmp_path):
    """Fifteen inner pages, each of whose children are all the next one: sixty to the power of fifteen rows."""
    path = database(
        tmp_path / "a.db3",
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
        " INSERT INTO messages SELECT i, 1, i, x'00' FROM n",
    )
    raw = bytearray(path.read_bytes())
    size = int.from_bytes(raw[16:18], "big")
    root = max(
        (at for at in range(0, len(raw), size) if raw[at] == 5), key=lambda at: int.from_bytes(raw[at + 3 : at + 5], "big")
    )
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
    began = time.process_time()
    with pytest.raises(BagError, match="is broken"):
        look_at(path)
    assert time.process_time() - began < 5


BAR = "\n" + "=" * 80 + "\n"
DOUBLING = BAR.join(
    ["a/B0 x\na/B0 y"] + [f"MSG: a/B{i}\na/B{i + 1} x\na/B{i + 1} y" for i in range(40)] + ["MSG: a/B40\nuint8 x"]
)


@pytest.mark.parametrize(
    "definition",
    [
        "\n".join(f"uint8 field{i}" for i in range(100_000)),
        "\n".join(f"uint8 field{i}" for i in range(7000)),
        "string[1000000000] names",
        "string[50000] names",
        "float64[1000000000] numbers",
        "uint8 x" + "\n" * 200_000,
        "uint8 " + "x" * 200_000,
        "string x" + "[" * 10_000,
        "uint8 X=" + "(" * 3000,
        DOUBLING,
        "Z x" + BAR + "MSG: a/Z\nZ x",
        "Z[] x" + BAR + "MSG: a/Z\nuint8 ONE=1",
        "Z[1000] x" + BAR + "MSG: a/Z\nstring[1000] names",
        "\x00" * 1000,
        'string x "' + "a" * 100_000,
    ],
    ids=lambda definition: definition[:20].replace("\n", " "),
)
@pytest.mark.parametrize("form", ["ros2msg", "ros2idl"])
def test_a_definition_that_would_become_much_code_is_not_understood(definition, form):
    began = time.process_time()
    with contextlib.suppress(TypesysError):  # the reader takes this for a definition that says nothing
        assert understand(definition, form, "a/msg/Hostile") is None
    assert time.process_time() - began < 2


def test_definitions_of_a_usual_length_are_understood():
    fields = "\n".join(f"float64[6] joint{i}  # a comment that says what this is\nZ[] z{i}" for i in range(300))
    store = understand(f"{fields}{BAR}MSG: a/Z\nstring[4] names\nuint8[65536] data", "ros2msg", "a/msg/Long")
    assert store is not None
    assert "a/msg/Long" in store.fielddefs


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_chunks_are_unpacked_to_the_byte(compression):
    pack = zstd.compress if compression == "zstd" else lz4.frame.compress
    data = bytes(range(256)) * 1000
    assert decompress(compression, pack(data), len(data)) == data
    assert decompress(compression, pack(data) + pack(b"more"), len(data) + 4) == data + b"more"
    assert (
        decompress(compression, pack(data)[:-20], len(data), whole=False)
        == data[: len(decompress(compression, pack(data)[:-20], len(data), False))]
    )
    for limit, sent, words in (
        (len(data) - 1, pack(data), "unpacks to more"),
        (len(data), pack(data)[:-20], "cut off"),
        (len(data), b"\x00" * 40, "broken"),
        (0, pack(b"x"), "unpacks to more"),
    ):
        with pytest.raises(LimitError, match=words):
            decompress(compression, sent, limit)


def test_a_long_recording_is_read_in_flat_memory(tmp_path):
    """20 GB in chunks of 64 MB: a sparse file, whose images are holes."""
    size = (4000, 5333)
    head, blank = cdr(0, (1, 1))[:-3], int(np.prod(size)) * 3
    assert (1 << 25) < blank < (1 << 26)
    store = typestore()
    prefix = bytes(store.serialize_cdr(image_message(np.zeros((*size, 3), np.uint8), START), topics.IMAGE_TYPE))[: len(head)]
    path, count = tmp_path / "long.mcap", 320
    first = schema(1, topics.IMAGE_TYPE, DEFINITION.encode()) + channel(1, 1, "/camera/image_raw")
    places = []
    with path.open("wb") as file:
        file.write(MAGIC + record(1, text("ros2") + text("x")) + first)
        for index in range(count):
            stamp = START + index * STEP
            places.append(file.tell())
            inside = 9 + 22 + len(prefix) + blank
            head_of_chunk = struct.pack("<QQQI", stamp, stamp, inside, 0) + text("") + struct.pack("<Q", inside)
            file.write(struct.pack("<BQ", 6, len(head_of_chunk) + inside) + head_of_chunk)
            file.write(struct.pack("<BQ", 5, 22 + len(prefix) + blank) + struct.pack("<HIQQ", 1, 0, stamp, stamp) + prefix)
            file.seek(blank, 1)
        file.write(record(15, bytes(4)))
        summary = file.tell()
        file.write(first)
        length = places[1] - places[0]
        for index, place in enumerate(places):
            stamp = START + index * STEP
            entries = text(struct.pack("<HQ", 1, 0))
            file.write(record(8, struct.pack("<QQQQ", stamp, stamp, place, length) + entries + bytes(8) + text("") + bytes(16)))
        counts = text(struct.pack("<HQ", 1, count))
        file.write(record(11, struct.pack("<QHIIII", count, 1, 1, 0, 0, count) + struct.pack("<QQ", START, stamp) + counts))
        file.write(record(2, struct.pack("<QQI", summary, 0, 0)) + MAGIC)
    assert path.stat().st_size > 20e9
    assert os.stat(path).st_blocks * 512 < 20 << 20, "the file is sparse"
    tracemalloc.start()
    try:
        with BagReader(path) as bag:
            assert (bag.problems, bag.count("/camera/image_raw")) == ([], count)
            stream = bag.messages(start_s=6.0)
            found = [sum(1 for _ in zip(range(5), stream, strict=False))]
            assert found == [5]
        assert tracemalloc.get_traced_memory()[1] < 300 << 20
    finally:
        tracemalloc.stop()


def test_names_are_never_printed_raw(tmp_path, capsys):
    evil = "/camera\x1b]0;owned\x07\x9b31m"
    with RosbagWriter(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.set_custom_data("note\x1b[2J", "value\x1b[2J")
        writer.write(writer.add_connection(evil, topics.IMAGE_TYPE, typestore=typestore()), START, cdr())
    assert main(["bag", "info", str(tmp_path / "bag")]) == 0
    assert main(["bag", "info", str(tmp_path / "bag"), "--json"]) == 0
    assert main(["replay", str(tmp_path / "bag"), "--topic", "/none\x1b[2J"]) == 2
    captured = capsys.readouterr()
    assert "x1b]0;owned" in captured.out
    assert not {"\x1b", "\x07", "\x9b"} & set(captured.out + captured.err)
