"""The checks on a database, each by itself."""

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmark import hostile_bags as bags  # noqa: E402
from csl_tracker.bags import sqlite_file  # noqa: E402
from csl_tracker.bags.sqlite_file import SqliteFile  # noqa: E402
from csl_tracker.bags.storage import StorageFault  # noqa: E402

DEFINITIONS = "CREATE TABLE message_definitions(id INTEGER, topic_type TEXT, encoding TEXT, encoded_message_definition TEXT)"
IMAGE = bags.cdr_image(4, 4, bytes(16))


def test_the_messages_of_a_killed_recording_are_taken_from_its_log(tmp_path):
    with closing(sqlite3.connect(bags.database(tmp_path / "open.db3"))) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("INSERT INTO messages VALUES(2, 1, ?, ?)", (bags.NS + 1, IMAGE))
        connection.commit()
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"open.db3{suffix}", tmp_path / f"a.db3{suffix}")
    with SqliteFile(tmp_path / "a.db3") as file:
        assert [time_ns for time_ns, _, _ in file.messages(["/camera"], None, None)] == [bags.NS, bags.NS + 1]


@pytest.mark.parametrize(("limit", "words"), [(len(IMAGE), None), (len(IMAGE) - 1, "or no data of up to")])
def test_a_message_beyond_the_limit_is_not_read(tmp_path, monkeypatch, limit, words):
    monkeypatch.setattr(sqlite_file, "MAX_CHUNK_BYTES", limit)
    with SqliteFile(bags.database(tmp_path / "a.db3")) as file:
        found = file.messages(["/camera"], None, None)
        if words is None:
            assert [data for _, _, data in found] == [IMAGE]
        else:
            with pytest.raises(StorageFault, match=words):
                next(found)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="sqlite3 has no limits")
def test_a_value_beyond_the_limit_of_sqlite_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "MAX_CHUNK_BYTES", 1000)
    path = bags.database(tmp_path / "a.db3", "UPDATE topics SET name = '/' || hex(zeroblob(1000000))")
    with pytest.raises(StorageFault, match="too big"):
        SqliteFile(path)


@pytest.mark.parametrize(("size", "kept"), [(256 * 1024, True), (256 * 1024 + 1, False)])
def test_a_long_definition_is_left_out(tmp_path, size, kept):
    definition = f"INSERT INTO message_definitions VALUES(1, '{bags.IMAGE}', 'ros2msg', '{'x' * size}')"
    with SqliteFile(bags.database(tmp_path / "a.db3", DEFINITIONS, definition)) as file:
        assert (file.topics["/camera"].definition != "") == kept


@pytest.mark.parametrize("value", ["NULL", "x'00'", "5"])
def test_a_definition_that_is_no_text_is_left_out(tmp_path, value):
    definition = f"INSERT INTO message_definitions VALUES(1, '{bags.IMAGE}', {value}, 'uint8 x')"
    with SqliteFile(bags.database(tmp_path / "a.db3", DEFINITIONS.replace("encoding TEXT", "encoding"), definition)) as file:
        assert file.topics["/camera"].definition == ""


def test_no_more_definitions_are_read_than_there_may_be_topics(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "MAX_TOPICS", 2)
    rows = [f"INSERT INTO message_definitions VALUES({i}, 'a/msg/T{i}', 'ros2msg', 'uint8 x')" for i in range(2)]
    last = f"INSERT INTO message_definitions VALUES(3, '{bags.IMAGE}', 'ros2msg', 'uint8 x')"
    with SqliteFile(bags.database(tmp_path / "a.db3", DEFINITIONS, *rows, last)) as file:
        assert file.topics["/camera"].definition == ""


@pytest.mark.parametrize(("size", "kept"), [(2 << 20, True), ((2 << 20) + 1, False)])
def test_long_metadata_is_left_out(tmp_path, size, kept):
    table = "CREATE TABLE metadata(id INTEGER, metadata TEXT)"
    with SqliteFile(bags.database(tmp_path / "a.db3", table, f"INSERT INTO metadata VALUES(1, '{'x' * size}')")) as file:
        assert (file.metadata != "") == kept


@pytest.mark.parametrize(("size", "kept"), [(1000, True), (20_000, False)])
def test_a_long_quality_of_service_is_left_out(tmp_path, size, kept):
    column = "ALTER TABLE topics ADD COLUMN offered_qos_profiles TEXT"
    path = bags.database(tmp_path / "a.db3", column, f"UPDATE topics SET offered_qos_profiles = '{'q' * size}'")
    with SqliteFile(path) as file:
        assert file.topics["/camera"].qos == ("q" * size if kept else "")


def test_a_time_that_is_no_whole_number_among_others(tmp_path):
    """The smallest and the largest time are numbers, the one between them is not."""
    rows = [f"INSERT INTO messages VALUES({number}, 1, {time}, x'00')" for number, time in ((2, 0), (3, 0.5))]
    path = bags.database(tmp_path / "a.db3", *rows)
    with SqliteFile(path) as file, pytest.raises(StorageFault, match="a non-integer topic or time"):
        list(file.messages(["/camera"], None, None))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b"hello") and path, "it is no SQLite database"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(84)) and path, "not those of a bag, or broken"),
        (lambda path: bags.database(path, "DROP TABLE messages"), "not those of a bag, or broken"),
        (lambda path: bags.database(path, "DROP TABLE topics"), "not those of a bag, or broken"),
        (
            lambda path: bags.database(path, "ALTER TABLE topics RENAME TO other", "CREATE VIEW Topics AS SELECT 1"),
            "not a plain",
        ),
    ],
)
def test_a_database_that_is_no_bag(tmp_path, make, words):
    with pytest.raises(StorageFault, match=words):
        SqliteFile(make(tmp_path / "a.db3"))


def test_sqlite_distrusts_the_schema_and_the_pages(tmp_path):
    with SqliteFile(bags.database(tmp_path / "a.db3")) as file:
        assert file._connection.execute("PRAGMA trusted_schema").fetchone() == (0,)
        assert file._connection.execute("PRAGMA cell_size_check").fetchone() == (1,)


def test_the_steps_of_a_query_are_counted(tmp_path, monkeypatch):
    path = bags.database(
        tmp_path / "a.db3",
        "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        " INSERT INTO messages SELECT i, 1, i, x'00' FROM n",
    )
    monkeypatch.setattr(sqlite_file, "_STEPS", 100)
    with SqliteFile(path) as file:
        assert file.fault == ""
        assert len(list(file.messages(["/camera"], None, None))) == 3000
        file._most_steps = 5000
        with pytest.raises(StorageFault, match="interrupted"):
            list(file.messages(["/camera"], None, None))


def test_a_column_that_computes_is_refused(tmp_path):
    with pytest.raises(StorageFault, match="its table of messages has a computed column"):
        SqliteFile(bags.database(tmp_path / "a.db3", "ALTER TABLE messages ADD COLUMN more BLOB AS (zeroblob(10))"))


def test_a_topic_whose_number_is_a_text(tmp_path):
    table = "CREATE TABLE topics(id TEXT, name TEXT, type TEXT, serialization_format TEXT)"
    path = bags.database(
        tmp_path / "a.db3", "DROP TABLE topics", table, f"INSERT INTO topics VALUES('1) OR (1', '/a', '{bags.IMAGE}', 'cdr')"
    )
    with pytest.raises(StorageFault, match="names that are not strings"):
        SqliteFile(path)


def test_no_more_topics_are_read_than_there_may_be(tmp_path, monkeypatch):
    rows = [f"INSERT INTO topics VALUES({number}, '/t{number}', 'a/msg/B', 'cdr')" for number in range(2, 9)]
    path = bags.database(tmp_path / "a.db3", *rows)
    monkeypatch.setattr(sqlite_file, "MAX_TOPICS", 8)
    with SqliteFile(path) as file:
        assert len(file.topics) == 8
    monkeypatch.setattr(sqlite_file, "MAX_TOPICS", 2)
    seen = []
    check = SqliteFile._check_topics
    monkeypatch.setattr(SqliteFile, "_check_topics", staticmethod(lambda rows: (seen.append(len(rows)), check(rows))))
    with pytest.raises(StorageFault, match="it has more than 2 topics"):
        SqliteFile(path)
    assert seen == [3], "one beyond the limit, which is enough to refuse it"
