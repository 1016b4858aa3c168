"""The checks on the folder of a recording, each by itself, and on what several files have together."""

import sys
import tracemalloc
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmark import hostile_bags as bags  # noqa: E402
from csl_tracker.bags import folder, summary  # noqa: E402
from csl_tracker.bags.errors import DamagedBagError  # noqa: E402
from csl_tracker.bags.folder import custom_notes, open_folder  # noqa: E402
from csl_tracker.bags.reader import BagReader  # noqa: E402
from csl_tracker.errors import BagError  # noqa: E402


def described(path: Path, metadata: str) -> Path:
    return bags.folder(path / "bag", metadata)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (bags.metadata([]), "lacks storage files"),
        (bags.metadata(["b.mcap"]), r"lacks b\.mcap"),
        (bags.metadata([""]), "points outside the bag's folder"),
        (bags.metadata([".."]), "points outside the bag's folder"),
        (bags.metadata(["x/../../a.mcap"]), "points outside the bag's folder"),
        (bags.metadata(["metadata.yaml"]), r"stores its messages in metadata\.yaml; only"),
        (bags.metadata(["a.mcap"], "  compression_mode: file\n  compression_format: gzip\n"), "unknown compression 'gzip'"),
        (bags.metadata(["a.mcap"], "  compression_mode: other\n"), "unknown compression 'other'"),
        (bags.metadata(["a.mcap"], "  compression_mode: message\n"), "unknown compression 'message'"),
        (bags.metadata(["a.mcap"]).replace("starting_time", "other"), "is broken \\(KeyError"),
    ],
)
def test_metadata_that_cannot_be_followed(tmp_path, metadata, words):
    with pytest.raises(BagError, match=words):
        open_folder(described(tmp_path, metadata))


def test_no_more_metadata_is_read_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MAX_METADATA_BYTES", 1000)
    asked = []
    monkeypatch.setattr(folder, "parse_yaml", lambda raw, max_bytes: asked.append((len(raw), max_bytes)) or {})
    with pytest.raises(BagError, match="is broken"):
        open_folder(described(tmp_path, bags.metadata(["a.mcap"]) + "#" * 5000))
    assert asked == [(1001, 1000)], "one byte beyond the limit, for which the parser refuses it"


def test_long_notes_inside_a_file_are_left_out(monkeypatch):
    note = "custom_data: {a: b}\n"
    assert custom_notes(note) == {"a": "b"}
    monkeypatch.setattr(folder, "MAX_METADATA_BYTES", len(note) - 1)
    assert custom_notes(note) == {}


@pytest.mark.parametrize(
    ("packed", "limits", "words"),
    [
        (bags.zeros(4 << 20), (200, 4 << 20), "first bytes"),
        (bags.zeros(4 << 20), (200, (4 << 20) - 1), "unpacks to more than 200 times its size"),
        (bags.zeros(4 << 20), (1 << 20, 0), "first bytes"),
        (bags.zeros(4 << 20)[:-5], (200, 8 << 20), "its zstd compression was cut off"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 40, (200, 8 << 20), "compression is broken"),
        (bags.zeros(2 << 20) + bags.zeros(2 << 20), (200, (4 << 20) - 1), "unpacks to more than 200 times its size"),
    ],
    ids=["at the limit", "beyond", "by the ratio", "cut off", "broken", "frames"],
)
def test_a_file_that_is_compressed_as_a_whole(tmp_path, monkeypatch, packed, limits, words):
    monkeypatch.setattr(folder, "MAX_UNPACKED_RATIO", limits[0])
    monkeypatch.setattr(folder, "MIN_UNPACKED_BYTES", limits[1])
    (tmp_path / "a.mcap.zstd").write_bytes(packed)
    with pytest.raises(BagError, match=words.replace("first bytes", "not those of an MCAP file")):
        BagReader(tmp_path / "a.mcap.zstd")


def test_several_files_have_no_more_topics_than_one(tmp_path, monkeypatch):
    bag = tmp_path / "bag"
    bag.mkdir()
    image = bags.cdr_image(4, 4, bytes(16))
    for number in (1, 2, 3):
        bags.mcap(bag / f"{number}.mcap", bags.topic(1, f"/t{number}", bags.IMAGE), bags.message(1, image))
    monkeypatch.setattr(summary, "MAX_TOPICS", 2)
    with BagReader(bag) as reader:
        assert set(reader.types) == {"/t1", "/t2"}
        assert "3.mcap cannot be read, the bag has more than 2 topics" in reader.problems[-1]
        with pytest.raises(DamagedBagError, match="more than 2 topics"):
            list(reader.messages())


def test_a_compressed_file_is_unpacked_in_parts(tmp_path):
    (tmp_path / "a.mcap.zstd").write_bytes(bags.zeros(64 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(BagError, match="not those of an MCAP file"):
            BagReader(tmp_path / "a.mcap.zstd")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
