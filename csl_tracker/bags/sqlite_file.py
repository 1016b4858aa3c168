"""The ``.db3`` files of rosbag2, all versions of their tables, read row by row with the standard library."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from csl_tracker.bags.storage import StorageFault, StorageFile, StoredMessage, StoredTopic

_MAGIC = b"SQLite format 3\x00"


class SqliteFile(StorageFile):
    """A ``.db3`` file; see :class:`csl_tracker.bags.storage.StorageFile`."""

    def __init__(self, path: Path) -> None:
        """Read the tables of topics and definitions.

        Raises:
            StorageFault: The file is no database, or none of a bag.
            OSError: It cannot be opened.
        """
        self.path = path
        self.topics = {}
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise StorageFault("it is no SQLite database")
        # A recorder that was killed may have left its last messages in a journal of its own, which only a connection that is
        # not "immutable" takes in; without one, "immutable" also reads where nothing may be written.
        mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, check_same_thread=False)
        try:
            self._read_topics()
        except sqlite3.Error as error:
            self._connection.close()
            raise StorageFault(f"its tables are not those of a bag, or broken: {error}") from error

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def messages(self, names: Collection[str], start_ns: int | None, stop_ns: int | None) -> Iterator[StoredMessage]:
        """Yield messages in the order of time."""
        wanted = [number for number, name in self._names.items() if name in names]
        query = f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({', '.join('?' * len(wanted))})"
        for comparison, bound in ((">=", start_ns), ("<", stop_ns)):
            if bound is not None:
                query += f" AND timestamp {comparison} {int(bound)}"
        given = 0
        try:
            for number, time_ns, data in self._connection.execute(f"{query} ORDER BY timestamp, id", wanted):
                yield StoredMessage(time_ns, self._names[number], data)
                given += 1
        except sqlite3.Error as error:
            raise StorageFault(f"after {given} messages the database is broken: {error}") from error

    def _read_topics(self) -> None:
        columns = {row[1] for row in self._connection.execute("PRAGMA table_info(topics)")}
        qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
        definitions: dict[str, tuple[str, str]] = {}
        if list(self._connection.execute("PRAGMA table_info(message_definitions)")):
            definitions = {
                name: (encoding, text)
                for name, encoding, text in self._connection.execute(
                    "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
                )
            }
        if list(self._connection.execute("PRAGMA table_info(metadata)")):
            noted = self._connection.execute("SELECT metadata FROM metadata ORDER BY id DESC").fetchone()
            self.metadata = str(noted[0]) if noted else ""
        rows = list(self._connection.execute(f"SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id"))
        self._names = {number: name for number, name, *_ in rows}
        counts: dict[int, int] = {}
        try:
            counts = dict(self._connection.execute("SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id"))
            bounds = self._connection.execute("SELECT MIN(timestamp), MAX(timestamp) FROM messages").fetchone()
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
            self.topics[name] = StoredTopic(name, msgtype, serialization, count, text, encoding, offered or "")
