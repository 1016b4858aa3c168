"""Channels and schemas of an MCAP file as topics of a bag."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from mcap import records
from mcap.opcode import Opcode

from csl_tracker.bags.limits import MAX_DEFINITION_BYTES, MAX_NAME_BYTES, MAX_TOPICS
from csl_tracker.bags.mcap_records import check_name, parse
from csl_tracker.bags.storage import StorageFault, StoredTopic

_MAX_QOS_BYTES = 16 * MAX_NAME_BYTES


@dataclass(frozen=True)
class _Channel:
    """A topic as recorded from one publisher."""

    topic: str
    schema: int
    serialization: str
    qos: str


@dataclass(frozen=True)
class _Schema:
    """A type definition; the text is empty if it exceeds the limit."""

    name: str
    encoding: str = ""
    text: str = ""


class ChannelTable:
    """Collects the channels and schemas of a file, within limits."""

    def __init__(self) -> None:
        """Create an empty table."""
        self._channels: dict[int, _Channel] = {}
        self._schemas: dict[int, _Schema] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def topic(self, number: int) -> str:
        """The topic of a channel."""
        return self._channels[number].topic

    def numbers(self, names: Collection[str]) -> set[int]:
        """Channel numbers of some topics."""
        return {number for number, channel in self._channels.items() if channel.topic in names}

    def add(self, kind: int, content: bytes | memoryview) -> None:
        """Add a schema or channel record; ignore other records.

        Raises:
            StorageFault: The record is corrupt, a name is too long, or there are too many.
        """
        if kind == Opcode.SCHEMA:
            schema = parse(records.Schema, content)
            name, encoding = check_name(schema.name), check_name(schema.encoding)
            self._check_room(self._schemas, schema.id)
            # Messages whose definition exceeds the limit can still be copied.
            short = len(schema.data) <= MAX_DEFINITION_BYTES
            self._schemas[schema.id] = _Schema(name, encoding, schema.data.decode("utf-8")) if short else _Schema(name)
        elif kind == Opcode.CHANNEL:
            channel = parse(records.Channel, content)
            self._check_room(self._channels, channel.id)
            qos = channel.metadata.get("offered_qos_profiles", "")
            self._channels[channel.id] = _Channel(
                check_name(channel.topic),
                channel.schema_id,
                check_name(channel.message_encoding),
                qos if len(qos) < _MAX_QOS_BYTES else "",
            )

    @staticmethod
    def _check_room(table: Mapping[int, object], number: int) -> None:
        if len(table) >= MAX_TOPICS and number not in table:
            raise StorageFault(f"it has more than {MAX_TOPICS} channels")

    def topics(self, counts: Mapping[int, int]) -> dict[str, StoredTopic]:
        """Topics by name; several channels of a topic, as in a merged file, count as one.

        Args:
            counts: Number of messages by channel.
        """
        found: dict[str, StoredTopic] = {}
        for number, channel in self._channels.items():
            count, known = counts.get(number, 0), found.get(channel.topic)
            found[channel.topic] = self._topic(channel, count) if known is None else replace(known, count=known.count + count)
        return found

    def _topic(self, channel: _Channel, count: int) -> StoredTopic:
        schema = self._schemas.get(channel.schema, _Schema(""))
        package, _, name = schema.name.partition("/")
        msgtype = schema.name
        if channel.serialization == "cdr" and name and "/" not in name:  # some writers omit "msg"
            msgtype = f"{package}/msg/{name}"
        return StoredTopic(channel.topic, msgtype, channel.serialization, count, schema.text, schema.encoding, channel.qos)
