"""The checks on an MCAP file, each by itself: its records, its chunks, its channels and its index."""

import struct
import sys
import zlib
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmark import hostile_bags as bags  # noqa: E402
from csl_tracker.bags import mcap_channels, mcap_file, mcap_index  # noqa: E402
from csl_tracker.bags.mcap_file import McapFile  # noqa: E402
from csl_tracker.bags.mcap_records import check_record, read_record  # noqa: E402
from csl_tracker.bags.storage import StorageFault  # noqa: E402

TOPIC = bags.topic(1, "/a", "a/msg/B")
NO_INDEX = ("it has no index and is always read from its beginning ('mcap recover' creates one)",)
HEAD_OF_CHUNK = struct.pack("<QQQI", bags.NS, bags.NS, 30, 0)


def messages(path: Path, names=("/a",), start_ns=None, stop_ns=None) -> tuple[list[tuple[int, bytes]], str]:
    """Time (ns after the first) and bytes of the messages, and the fault that ended them."""
    found = []
    with McapFile(path) as file:
        try:
            for time_ns, _, data in file.messages(names, start_ns, stop_ns):
                found.append((time_ns - bags.NS, data))
        except StorageFault as fault:
            return found, str(fault)
        return found, file.fault


def with_chunks(path: Path, chunks: list[bytes], *index: bytes, places=None, channels=((1,),), counts=None) -> Path:
    """A file of chunks with an index; ``places`` changes where the index says that they lie."""
    at = len(bags.HEAD) + len(TOPIC)
    found = []
    for content in chunks:
        found.append((at, len(content)))
        at += len(content)
    entries = [
        bags.chunk_index(bags.NS, *place, channels=channels[number % len(channels)], end_ns=bags.NS + 1000)
        for number, place in enumerate(found if places is None else places(found))
    ]
    counted = bags.statistics(len(chunks), len(chunks), bags.NS) if counts is None else counts
    return bags.with_index(path, [TOPIC, *chunks], TOPIC, *entries, *index, counted)


def plain(time_ns: int = 0, data: bytes = b"data") -> bytes:
    content = bags.message(1, data, bags.NS + time_ns)
    return bags.chunk("", len(content), content)


def wrong(content: bytes, **changes) -> bytes:
    return bags.chunk("", **{"size": len(content), "packed": content, **changes})


MESSAGE = bags.message(1, b"data")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([bags.record(3, struct.pack("<HI", 1, 100) + b"short")], "a record of 11 bytes is too short for its fields"),
        ([bags.record(4, struct.pack("<HH", 1, 0) + bags.text("/a") + struct.pack("<I", 9))], "too short for its fields"),
        ([bags.record(3, struct.pack("<H", 1) + bags.text(b"\xff\xff"))], "utf-8"),
        ([struct.pack("<BQ", 12, 1000)], "the file ends inside a record"),
        ([struct.pack("<BQ", 6, (145 << 20) + 1)], "more than the limit of 150994944"),
        ([struct.pack("<BQ", 5, (145 << 20) + 1)], "the file ends inside a record"),
        ([bags.record(6, b"\0" * 20)], "the file ends inside a chunk"),
        ([bags.record(6, HEAD_OF_CHUNK + struct.pack("<I", 1000) + bytes(100))], "the file ends inside a chunk"),
        ([wrong(MESSAGE, stored=1000)], "is too short for its content"),
        ([wrong(MESSAGE, size=len(MESSAGE) + 1)], "bytes instead of"),
        ([wrong(MESSAGE, size=(128 << 20) + 1)], "has 134217729 bytes, more than the limit of 134217728"),
        ([bags.chunk("zstd", 10, bags.zeros(1 << 20))], "unpacks to more than 10 bytes"),
        ([bags.chunk("snappy", 10, bytes(10))], "the unknown compression 'snappy'"),
        ([wrong(MESSAGE, crc=zlib.crc32(MESSAGE) ^ 1)], "has a wrong checksum"),
        ([wrong(MESSAGE + MESSAGE[:-1])], "ends inside a record"),
        ([wrong(MESSAGE + b"\5")], "ends inside a record"),
        ([bags.schema(number, "a/msg/B") for number in range(1, 2051)], "more than 2048 channels"),
        ([bags.schema(2, "a" * 1025)], "a name in it has 1025 bytes, more than the limit of 1024"),
        ([bags.schema(2, "a", encoding="a" * 1025)], "a name in it has 1025 bytes"),
        ([bags.channel(2, 1, "\u00e9" * 513)], "a name in it has 1026 bytes"),
        ([bags.record(4, struct.pack("<HH", 2, 1) + bags.text("/b") + bags.text("c" * 1025) + bags.text(b""))], "1025 bytes"),
        ([bags.channel(number, 1, "/a") for number in range(2, 2050)], "more than 2048 channels"),
        ([bags.record(5, b"short")], "unpack"),
    ],
)
def test_a_broken_record_ends_the_file(tmp_path, records, words):
    path = bags.mcap(tmp_path / "a.mcap", TOPIC, MESSAGE, *records)
    if words.startswith("the file ends inside a record"):
        path.write_bytes(path.read_bytes()[:-13])
    found, fault = messages(path)
    assert found == [(0, b"data")] * (1 + ("ends inside a record" in fault and records[0][0] == 6))
    assert words in fault
    assert "byte" in fault


def test_the_whole_records_of_a_chunk_that_was_cut_off(tmp_path):
    content = MESSAGE + MESSAGE
    path = bags.mcap(tmp_path / "a.mcap", TOPIC, wrong(content))
    path.write_bytes(path.read_bytes()[: -len(bags.MAGIC) - 13 - 5])
    found, fault = messages(path)
    assert found == [(0, b"data")]
    assert fault.startswith("the file ends inside a chunk (byte ")


def test_a_message_beyond_the_limit_is_not_read(tmp_path):
    path = bags.mcap(tmp_path / "a.mcap", TOPIC, MESSAGE)
    with path.open("r+b") as file:
        file.seek(-len(bags.MAGIC) - 13, 2)
        file.write(struct.pack("<BQ", 5, 151_000_000))
        file.truncate(160_000_000)
    at = len(bags.HEAD) + len(TOPIC) + len(MESSAGE)
    fault = f"the record at byte {at} has 151000000 bytes, more than the limit of 150994944 (byte {at} of 160000000)"
    assert messages(path) == ([(0, b"data")], fault)


@pytest.mark.parametrize("size", [64, 0])
def test_a_checksum_that_is_right_or_missing(tmp_path, size):
    content = bags.message(1, bytes(size))
    path = bags.mcap(tmp_path / "a.mcap", TOPIC, wrong(content, crc=zlib.crc32(content)), wrong(content))
    assert messages(path) == ([(0, bytes(size))] * 2, "")


@pytest.mark.parametrize(("size", "kept"), [(100, True), (20_000, False)])
def test_a_long_quality_of_service_is_left_out(tmp_path, size, kept):
    path = bags.mcap(tmp_path / "a.mcap", bags.schema(1, "a/msg/B"), bags.channel(1, 1, "/a", "q" * size))
    with McapFile(path) as file:
        assert file.topics["/a"].qos == ("q" * size if kept else "")


def test_a_long_definition_is_left_out_and_its_messages_are_not(tmp_path):
    path = bags.mcap(tmp_path / "a.mcap", bags.topic(1, "/a", "a/msg/B", "x" * (256 * 1024 + 1)), MESSAGE)
    with McapFile(path) as file:
        assert (file.topics["/a"].msgtype, file.topics["/a"].definition, file.topics["/a"].count) == ("a/msg/B", "", 1)
    assert messages(path) == ([(0, b"data")], "")


def is_indexed(path: Path) -> bool:
    with McapFile(path) as file:
        assert file.notes in ((), NO_INDEX)
        assert not (file.notes and file._chunks)
        return not file.notes


def test_messages_of_an_indexed_file_come_in_the_order_of_time(tmp_path):
    path = with_chunks(tmp_path / "a.mcap", [plain(5), plain(3), plain(4)])
    assert is_indexed(path)
    assert [time_ns for time_ns, _ in messages(path)[0]] == [3, 4, 5]
    assert [time_ns for time_ns, _ in messages(path, start_ns=bags.NS + 4)[0]] == [4, 5]
    assert messages(path, names=()) == ([], "")


@pytest.mark.parametrize(
    "changes",
    [
        {"places": lambda found: [found[0], found[0]]},
        {"places": lambda found: [found[0], (found[1][0] - 1, found[1][1])]},
        {"places": lambda found: [found[0], (found[1][0], found[1][1] + 1000)]},
        {"places": lambda found: [(0, 9), found[1]]},
        {"places": lambda found: [(found[0][0], 8), found[1]]},
        {"counts": bags.statistics(0, 0, bags.NS)},
        {"counts": b""},
        {"counts": bags.record(11, struct.pack("<QHIIIIQQ", 3, 1, 1, 0, 0, 2, 0, 0) + bags.text(struct.pack("<HQ", 1, 2)))},
        {"counts": bags.record(11, b"short")},
        {
            "counts": bags.record(
                11, struct.pack("<QHIIIIQQ", 2, 1, 1, 0, 0, 2, 0, 0) + bags.text(struct.pack("<HQHQ", 1, 1, 2, 1))
            )
        },
    ],
    ids=["again", "overlap", "beyond", "before", "no length", "zero", "no counts", "other sum", "broken", "more channels"],
)
def test_an_index_that_cannot_be_is_not_followed(tmp_path, changes):
    path = with_chunks(tmp_path / "a.mcap", [plain(1), plain(2)], **changes)
    expected = changes.get("counts") == bags.statistics(0, 0, bags.NS)
    assert is_indexed(path) == expected
    assert [time_ns for time_ns, _ in messages(path)[0]] == [1, 2]


@pytest.mark.parametrize("start", [0, 1, 1 << 40])
def test_an_index_outside_the_file_is_not_followed(tmp_path, start):
    path = with_chunks(tmp_path / "a.mcap", [plain()])
    raw = path.read_bytes()
    path.write_bytes(raw[: -len(bags.footer(0))] + bags.footer(start))
    assert not is_indexed(path)
    assert messages(path)[0] == [(0, b"data")]


def test_messages_outside_of_chunks_have_no_index(tmp_path):
    path = bags.with_index(tmp_path / "a.mcap", [TOPIC, MESSAGE], TOPIC, bags.statistics(1, 0, bags.NS))
    assert not is_indexed(path)
    assert messages(path) == ([(0, b"data")], "")


def test_a_file_whose_last_bytes_are_broken_has_no_index(tmp_path):
    path = with_chunks(tmp_path / "a.mcap", [plain()])
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert not is_indexed(path)
    assert messages(path) == ([(0, b"data")], "")


def test_an_index_that_names_no_chunk_at_a_place(tmp_path):
    path = with_chunks(tmp_path / "a.mcap", [MESSAGE, plain()])
    assert is_indexed(path)
    assert "there is no chunk" in messages(path)[1]


@pytest.mark.parametrize(
    ("name", "limit", "followed"),
    [
        ("MAX_SUMMARY_RECORDS", 7, True),
        ("MAX_SUMMARY_RECORDS", 6, False),
        ("MAX_INDEXED_CHANNELS", 5, True),
        ("MAX_INDEXED_CHANNELS", 4, False),
    ],
)
def test_an_index_beyond_a_limit_is_not_followed(tmp_path, monkeypatch, name, limit, followed):
    """Seven records; three groups of channels of which two are equal."""
    path = with_chunks(tmp_path / "a.mcap", [plain(), plain(), plain()], channels=((1, 2), (1, 2), (1, 2, 3)))
    monkeypatch.setattr(mcap_index, name, limit)
    assert is_indexed(path) == followed


def test_an_index_has_no_more_channels_than_a_bag_may(tmp_path, monkeypatch):
    path = with_chunks(tmp_path / "a.mcap", [plain()], bags.channel(2, 1, "/b"))
    monkeypatch.setattr(mcap_channels, "MAX_TOPICS", 1)
    assert is_indexed(with_chunks(tmp_path / "b.mcap", [plain()]))
    with pytest.raises(StorageFault, match="more than 1 channels"):
        messages(bags.mcap(tmp_path / "c.mcap", TOPIC, bags.channel(2, 1, "/b")))
    assert not is_indexed(path)


def test_few_messages_wait_to_be_sorted(tmp_path, monkeypatch):
    """All chunks begin with the same time, so that every message would wait for the last chunk."""
    path = with_chunks(tmp_path / "a.mcap", [plain(index, bytes(1000)) for index in range(20)])
    monkeypatch.setattr(mcap_file, "MAX_WAITING_BYTES", 3000)
    waiting: list[int] = []
    push = mcap_file._TimeQueue.push
    monkeypatch.setattr(mcap_file._TimeQueue, "push", lambda queue, *args: (push(queue, *args), waiting.append(queue._bytes)))
    assert len(messages(path)[0]) == 20
    assert max(waiting) == 4000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"\x89MCAP1\r\n" + bytes(100), "not those of an MCAP file"),
        (bags.HEAD, "the file ends without a footer"),
        (bags.HEAD + b"\3", "the file ends inside a record"),
    ],
)
def test_a_file_without_one_readable_record(tmp_path, content, words):
    (tmp_path / "a.mcap").write_bytes(content)
    with pytest.raises(StorageFault, match=words):
        McapFile(tmp_path / "a.mcap")


@pytest.mark.parametrize(
    "content", [b"", b"\6", struct.pack("<BQ", 6, 100) + bytes(99), struct.pack("<BQ", 7, 100) + bytes(99)]
)
def test_a_record_that_is_not_all_there_is_not_read(content):
    with pytest.raises(StorageFault, match="ends inside the record at byte 0"):
        read_record(BytesIO(content), len(content))


@pytest.mark.parametrize(
    ("kind", "size", "words"),
    [
        (0, 0, "there is no record"),
        (6, 151_000_000, "limit of 150994944"),
        (5, 151_000_000, "limit of 150994944"),
        (12, (16 << 20) + 1, "limit of 16777216"),
        (3, (16 << 20) + 1, "limit of 16777216"),
    ],
)
def test_the_head_of_a_record_is_checked(kind, size, words):
    with pytest.raises(StorageFault, match=words):
        check_record(kind, size, 7)
    for allowed in (5, 6):
        check_record(allowed, 144 << 20, 7)
    check_record(12, 16 << 20, 7)
