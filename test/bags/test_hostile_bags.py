"""Bags that were made to take memory, time or what is beside them: one sentence each, and little of both."""

import os
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as RosbagWriter

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmark import hostile_bags as bags  # noqa: E402
from csl_tracker.bags.info import describe_bag  # noqa: E402
from csl_tracker.bags.reader import BagReader  # noqa: E402
from csl_tracker.cli.main import main  # noqa: E402
from csl_tracker.errors import BagError  # noqa: E402
from csl_tracker.messages import topics  # noqa: E402
from csl_tracker.messages.images import message_to_rgb  # noqa: E402
from csl_tracker.messages.types import typestore  # noqa: E402

BOMB = 1 << 28
"""Bytes that a bomb becomes: twice what any chunk may have."""
INFINITE = "[{topic_metadata: {name: a, type: b}, message_count: .inf}]"


def look_at(path: Path) -> None:
    """Do what ``bag info --check`` does, and raise whatever it finds."""
    with BagReader(path) as bag:
        found = describe_bag(bag, message_to_rgb, check=True)
    if found["problems"]:
        raise BagError(" ".join(found["problems"]))


def packed(compression: str, claim: int, size: int):
    pack = bags.zeros if compression == "zstd" else bags.lz4_zeros
    return lambda at: bags.mcap(at / "a.mcap", bags.chunk(compression, claim, pack(size)))


def records(*content: bytes):
    return lambda at: bags.mcap(at / "a.mcap", *content)


def changed(*statements: str, tables: bool = True):
    return lambda at: bags.database(at / "a.db3", *statements, tables=tables)


def described(content: str):
    return lambda at: bags.folder(at / "bag", content)


def counted(count: int, name: str = "/t") -> str:
    """The topics of a ``metadata.yaml``."""
    return "[" + ", ".join(f"{{topic_metadata: {{name: {name}{i}, type: b}}, message_count: 1}}" for i in range(count)) + "]"


def whole_file(at: Path) -> Path:
    (at / "a.db3.zstd").write_bytes(bags.zeros(3 * BOMB))
    return at / "a.db3.zstd"


HOSTILE = {
    # Little that becomes much.
    "zstd chunk that says so": (packed("zstd", BOMB, BOMB), "has 268435456 bytes, more than the limit of 134217728"),
    "zstd chunk that says less": (packed("zstd", 1000, BOMB), "unpacks to more than 1000 bytes"),
    "lz4 chunk that says so": (packed("lz4", 1 << 40, 1 << 24), "has 1099511627776 bytes"),
    "lz4 chunk that says less": (packed("lz4", 1000, 1 << 26), "unpacks to more than 1000"),
    "chunk of empty frames": (records(bags.chunk("zstd", 1000, bags.zeros(0) * 100_000)), "more than 64 frames"),
    "message": (
        lambda at: bags.mcap(at / "a.mcap", bags.topic(1, "/i", topics.IMAGE_TYPE), bags.message(1, bags.zeros(BOMB))),
        "a message is broken: it unpacks to more than 134217728 bytes",
    ),
    "whole file": (whole_file, "unpacks to more than 200 times"),
    "compression nobody knows": (records(bags.chunk("\x1b[2J", 10, bytes(10))), r"compression '\\x1b\[2J'"),
    # Records.
    "record beyond all": (records(bags.record(12, bytes(17 << 20))), "limit of 16777216"),
    "records of nothing": (records(bytes(9000)), "there is no record"),
    "65,536 channels": (records(*(bags.channel(number, 0, f"/topic{number}") for number in range(65_536))), "2048 channels"),
    "name of 1 MB": (records(bags.channel(1, 0, "/" + "a" * 1_000_000)), "a name in it has 1000001 bytes"),
    # Databases that compute.
    "view without end": (
        changed(f"CREATE VIEW messages AS {bags.ENDLESS}, x'00' AS data FROM n", tables=False),
        "messages are not a plain table but a computed view",
    ),
    "topics as a view": (
        changed("DROP TABLE topics", f"CREATE VIEW topics AS {bags.ENDLESS}, 'x' AS name FROM n"),
        "topics are not a plain table",
    ),
    "definitions as a view": (
        changed(f"CREATE VIEW message_definitions AS {bags.ENDLESS} FROM n"),
        "message_definitions are no",
    ),
    "virtual table": (changed("CREATE VIRTUAL TABLE metadata USING fts5(content)"), "metadata are not a plain table"),
    "column that computes": (
        changed("ALTER TABLE messages ADD COLUMN more BLOB AS (zeroblob(1000000000))"),
        "a computed column",
    ),
    "topic that is a number": (changed("UPDATE topics SET name = x'1b5b'"), "names that are not strings"),
    "topic with a name of 1 kB": (
        changed("UPDATE topics SET name = '/' || hex(zeroblob(512))"),
        "not strings of at most 1024 bytes",
    ),
    "topic without a type": (changed("UPDATE topics SET type = NULL"), "names that are not strings"),
    "time that is a text": (changed("UPDATE messages SET timestamp = 'noon'"), "not integers"),
    "data that is a text": (changed("UPDATE messages SET data = 'image'"), "or no data"),
    "data that is nothing": (changed("UPDATE messages SET data = NULL"), "or no data"),
    "100,000 topics": (
        changed(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
            " INSERT INTO topics SELECT i, '/t' || i, 'a/msg/B', 'cdr' FROM n",
        ),
        "more than 2048 topics",
    ),
    # Metadata.
    "aliases": (described(bags.aliases()), "limit of 200000 values"),
    "depth": (described("a: " + "[" * 50_000), "levels deep"),
    "large": (described("# " + "x" * (3 << 20)), "2097152 are the limit"),
    "path upwards": (described(bags.metadata(["../a.mcap"])), "'../a.mcap' points outside the bag"),
    "path from the root": (described(bags.metadata(["/etc/a.mcap"])), "points outside the bag"),
    "path that is none": (described(bags.metadata([["a.mcap"]])), "is broken"),
    "the same file again": (described(bags.metadata(["a.mcap"] * 3000)), "names a file twice"),
    "count that is none": (described(bags.metadata(["a.mcap"], counts=INFINITE)), "is broken"),
    "2,049 topics in the metadata": (described(bags.metadata(["a.mcap"], counts=counted(2049))), "more than 2048 topics"),
    "name of 1 kB in the metadata": (
        described(bags.metadata(["a.mcap"], counts=counted(1, "a" * 1025))),
        "a name longer than 1024",
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
    data = bags.zeros(BOMB)
    path = bags.mcap(tmp_path / "a.mcap", bags.chunk("zstd", BOMB, data), bags.chunk("zstd", 1000, data))
    tracemalloc.start()
    try:
        with pytest.raises(BagError):
            look_at(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_an_index_that_names_a_chunk_again_is_not_followed(tmp_path):
    path = bags.indexed(tmp_path / "a.mcap", 6, again=True)
    with BagReader(path) as bag:
        assert [frame.stamp_ns for frame in bag.frames()] == [bags.NS + index * bags.STEP_NS for index in range(6)]
        assert "no index" in bag.problems[0]


def test_a_tree_of_pages_without_end_is_left(tmp_path):
    """Sixty to the power of fifteen rows."""
    path = bags.endless_tree(tmp_path / "a.db3")
    began = time.process_time()
    with pytest.raises(BagError, match="is broken"):
        look_at(path)
    assert time.process_time() - began < 5


def test_a_long_recording_is_read_in_flat_memory(tmp_path):
    """20 GB in chunks of 64 MB: a sparse file, whose images are holes."""
    count = 320
    path = bags.indexed(tmp_path / "long.mcap", count, hole=64_000_000)
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
        writer.write(
            writer.add_connection(evil, topics.IMAGE_TYPE, typestore=typestore()), bags.NS, bags.cdr_image(4, 4, bytes(16))
        )
    assert main(["bag", "info", str(tmp_path / "bag")]) == 0
    assert main(["bag", "info", str(tmp_path / "bag"), "--json"]) == 0
    assert main(["replay", str(tmp_path / "bag"), "--topic", "/none\x1b[2J"]) == 2
    captured = capsys.readouterr()
    assert "x1b]0;owned" in captured.out
    assert not {"\x1b", "\x07", "\x9b"} & set(captured.out + captured.err)
