"""Read rosbag2's ``.db3`` files, all schema versions, row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from csl_tracker.bags.limits import MAX_CHUNK_BYTES, MAX_DEFINITION_BYTES, MAX_METADATA_BYTES, MAX_NAME_BYTES, MAX_TOPICS
from csl_tracker.bags.storage import StorageFault, StorageFile, StoredMessage, StoredTopic

_MAGIC = b"SQLite format 3\x00"

_TABLES = ("topics", "messages", "message_definitions", "metadata")
"""The tables used; all others are ignored."""

_LENGTH = 0
"""``SQLITE_LIMIT_LENGTH``: limit on the size of a value."""

_STEPS = 100_000
"""SQLite VM steps between two calls of the progress handler."""


class SqliteFile(StorageFile):
    """A ``.db3`` file; see :class:`csl_tracker.bags.storage.StorageFile`."""

    def __init__(self, path: Path) -> None:
        """Read the tables of topics and definitions.

        Raises:
            StorageFault: Not a database, or not a bag.
            OSError: It cannot be opened.
        """
        self.path = path
        self.topics = {}
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise StorageFault("it is no SQLite database")
        # An interrupted recorder may have left its last messages in a journal, which "immutable" would ignore. Without a
        # journal, "immutable" also works in read-only folders.
        mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, check_same_thread=False)
        self._steps = 0
        # Counting and sorting all rows takes less than one step per byte; a cyclic page tree would take any number.
        self._most_steps = 2_000_000 + 2 * path.stat().st_size
        try:
            self._refuse_computed_tables()
            self._read_topics()
        except sqlite3.Error as error:
            self._connection.close()
            raise StorageFault(f"its tables are not those of a bag, or broken: {error}") from error
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def messages(self, names: Collection[str], start_ns: int | None, stop_ns: int | None) -> Iterator[StoredMessage]:
        """Yield messages in order of time."""
        wanted = [number for number, name in self._names.items() if name in names]
        # SQLite knows a blob's length without reading it.
        query = f"SELECT topic_id, timestamp, CASE WHEN length(data) <= {MAX_CHUNK_BYTES} THEN data END FROM messages"
        query += f" WHERE topic_id IN ({', '.join(map(str, wanted))})"
        for comparison, bound in ((">=", start_ns), ("<", stop_ns)):
            if bound is not None:
                query += f" AND timestamp {comparison} {min(max(int(bound), -(1 << 63)), (1 << 63) - 1)}"
        given = 0
        self._steps = 0
        try:
            for number, time_ns, data in self._connection.execute(f"{query} ORDER BY timestamp, id"):
                if not isinstance(time_ns, int) or not isinstance(data, bytes):
                    raise StorageFault(
                        f"message {given} has a non-integer topic or time, or no data of up to {MAX_CHUNK_BYTES} bytes"
                    )
                yield StoredMessage(time_ns, self._names[number], data)
                given += 1
        except sqlite3.Error as error:
            raise StorageFault(f"after {given} messages the database is broken: {error}") from error

    def _refuse_computed_tables(self) -> None:
        """Accept only plain tables: a view or computed column could produce any number of rows of any size."""
        self._connection.execute("PRAGMA trusted_schema = OFF")
        self._connection.execute("PRAGMA cell_size_check = ON")
        self._connection.set_progress_handler(self._too_many_steps, _STEPS)
        if hasattr(self._connection, "setlimit"):  # Python 3.11
            self._connection.setlimit(_LENGTH, MAX_CHUNK_BYTES + (1 << 20))
        for name in _TABLES:
            kinds = self._connection.execute(
                "SELECT type, sql LIKE 'CREATE VIRTUAL%' FROM sqlite_master WHERE name = ? COLLATE NOCASE", (name,)
            ).fetchall()
            if any(kind != ("table", 0) for kind in kinds):
                raise StorageFault(f"its {name} are not a plain table but a computed {kinds[0][0]}")
            if any(row[6] for row in self._connection.execute(f"PRAGMA table_xinfo({name})")):
                raise StorageFault(f"its table of {name} has a computed column")

    def _too_many_steps(self) -> int:
        self._steps += _STEPS
        return int(self._steps > self._most_steps)

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._connection.execute(f"PRAGMA table_info({table})")}

    def _read_topics(self) -> None:
        qos = "offered_qos_profiles" if "offered_qos_profiles" in self._columns("topics") else "''"
        definitions: dict[str, tuple[str, str]] = {}
        if self._columns("message_definitions"):
            definitions = {
                name: (encoding, text)
                for name, encoding, text in self._connection.execute(
                    "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
                    f" WHERE length(encoded_message_definition) <= {MAX_DEFINITION_BYTES} LIMIT {MAX_TOPICS}"
                )
                if all(isinstance(value, str) for value in (name, encoding, text))
            }
        if self._columns("metadata"):
            noted = self._connection.execute(
                f"SELECT metadata FROM metadata WHERE length(metadata) <= {MAX_METADATA_BYTES} ORDER BY id DESC"
            ).fetchone()
            self.metadata = str(noted[0]) if noted else ""
        rows = self._connection.execute(
            f"SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id LIMIT {MAX_TOPICS + 1}"
        ).fetchall()
        self._names = {number: name for number, name, *_ in rows}
        self._check_topics(rows)
        counts: dict[int, int] = {}
        try:
            counts = dict(self._connection.execute("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"))
            bounds = self._connection.execute("SELECT MIN(timestamp), MAX(timestamp) FROM messages").fetchone()
            if not all(bound is None or isinstance(bound, int) for bound in bounds):
                raise StorageFault("its messages have times that are not integers")
            self.start_ns, self.end_ns = bounds
        except sqlite3.Error as error:
            if "no such" in str(error):
                raise
            self.fault = f"the table of messages is broken: {error}"
        for number, name, msgtype, serialization, offered in rows:
            encoding, text = definitions.get(msgtype, ("", ""))
            count = counts.get(number, 0)
            known = self.topics.get(name)
            if known is not None:
                count += known.count
            profiles = offered if isinstance(offered, str) and len(offered) < MAX_NAME_BYTES * 16 else ""
            self.topics[name] = StoredTopic(name, msgtype, serialization, count, text, encoding, profiles)

    @staticmethod
    def _check_topics(rows: list[tuple[Any, ...]]) -> None:
        if len(rows) > MAX_TOPICS:
            raise StorageFault(f"it has more than {MAX_TOPICS} topics")
        for number, *names, _ in rows:
            if not isinstance(number, int) or not all(isinstance(name, str) and len(name) <= MAX_NAME_BYTES for name in names):
                raise StorageFault(f"its table of topics has names that are not strings of at most {MAX_NAME_BYTES} bytes")
