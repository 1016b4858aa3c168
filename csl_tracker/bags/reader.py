"""Read bags (mcap or sqlite3) as a stream of messages or of images with ground truth.

All recordings are supported: unknown types, several files, compressed messages, chunks or files, and interrupted recordings. A
fault is raised when reading reaches it, after everything before it has been delivered.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.typesys.store import Typestore

from csl_tracker.bags.definitions import FORMATS, understand
from csl_tracker.bags.errors import damaged_file
from csl_tracker.bags.folder import open_folder, open_storage
from csl_tracker.bags.frames import BagFrame, FrameMatcher, RawMessage
from csl_tracker.bags.image_topics import (
    camera_info_topic,
    camera_topics,
    choose_image_topic,
    describe_foreign,
    listed,
    truth_topics,
)
from csl_tracker.bags.limits import LimitError, decompress
from csl_tracker.bags.storage import StorageFault
from csl_tracker.bags.summary import summarize
from csl_tracker.clock import NS
from csl_tracker.errors import BagError
from csl_tracker.messages import topics
from csl_tracker.messages.types import typestore
from csl_tracker.paths import user_path

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""First bytes of a message compressed by rosbag2 (RFC 8878, 3.1.1)."""


class BagReader:
    """Reads a bag: an ``.mcap`` or ``.db3`` file, or a bag folder. A context manager.

    Attributes:
        path: The file or folder.
        types: Message type by topic.
        problems: Faults and unusual properties, as sentences; a fault is also raised when reading reaches it.
        compression: Kinds of compression, such as ``file: zstd`` or ``chunks: lz4``.
        custom: The recorder's custom data.
        start_ns: Time of the first message, ns; None for an empty bag.
        end_ns: Time of the last message, ns; None for an empty bag.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the index of every file, or all records if there is none.

        Raises:
            BagError: The path does not exist, is not a ROS 2 bag, or nothing can be read.
        """
        self.path = user_path(path)
        self._folder = open_folder(self.path)
        self._summary = summarize(self._folder)
        self._stores: dict[str, Typestore] = {}
        self.types: dict[str, str] = {name: topic.msgtype for name, topic in self._summary.topics.items()}
        self.problems = self._summary.problems
        self.compression = self._summary.compression
        self.custom = self._summary.custom
        self.start_ns, self.end_ns = self._summary.start_ns, self._summary.end_ns

    def close(self) -> None:
        """Do nothing; no file stays open between reads."""

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def files(self) -> tuple[Path, ...]:
        """Storage files in recording order."""
        return self._folder.files

    @property
    def duration_s(self) -> float:
        """Time from the first to the last message, s."""
        return 0.0 if self.start_ns is None or self.end_ns is None else (self.end_ns - self.start_ns) / NS

    def count(self, topic: str) -> int:
        """Number of messages on a topic; 0 for an unknown topic."""
        found = self._summary.topics.get(topic)
        return 0 if found is None else found.count

    def qos(self, topic: str) -> str:
        """QoS offered by the topic's publishers as rosbag2's YAML; empty if not recorded."""
        return self._summary.topics[topic].qos

    def defined(self, topic: str) -> bool:
        """Whether the topic's messages can be deserialised, by the bag's definition or a known type."""
        found = self._summary.topics[topic]
        known = found.msgtype in typestore().fielddefs
        return found.serialization == "cdr" and (known or bool(found.definition and found.definition_format in FORMATS))

    def deserialize(self, message: RawMessage) -> Any:
        """Deserialise a message by the bag's definition or a known type.

        Raises:
            BagError: The definition is missing, or the bytes do not match the type.
        """
        store = self._store(message.topic, message.msgtype)
        try:
            return store.deserialize_cdr(message.data, message.msgtype)
        except Exception as error:  # rosbags raises many kinds of errors for wrong bytes
            raise BagError(
                f"A message on {message.topic} of the bag {self.path}, recorded at {self._offset(message.time_ns)}, is broken:"
                f" its {len(message.data)} bytes are no {message.msgtype}; record the bag again, or omit that topic."
            ) from error

    def messages(
        self, names: Collection[str] = (), start_s: float | None = None, end_s: float | None = None
    ) -> Iterator[RawMessage]:
        """Yield the messages of some topics (default: all) in order of reception.

        Args:
            names: Topics.
            start_s: Skip messages recorded earlier, s after the bag's first message.
            end_s: Skip messages recorded later, s after the bag's first message.

        Raises:
            BagError: The bag lacks a topic.
            DamagedBagError: After the last readable message of a corrupt bag.
        """
        for name in names:
            if name not in self.types:
                raise BagError(f"The bag {self.path} has no topic {name}; it has {listed(self.types)}.")
        wanted = set(names) or set(self.types)
        begin = self.start_ns or 0
        start_ns = None if start_s is None else begin + round(start_s * NS)
        stop_ns = None if end_s is None else begin + round(end_s * NS) + 1
        for file in self._folder.files:
            try:
                yield from self._file_messages(file, wanted, start_ns, stop_ns)
            except LimitError as error:
                raise damaged_file(file, f"a message is broken: {error}") from error
            except StorageFault as error:
                raise damaged_file(file, str(error)) from error
            except OSError as error:
                raise damaged_file(file, error) from error

    def _file_messages(
        self, file: Path, wanted: Collection[str], start_ns: int | None, stop_ns: int | None
    ) -> Iterator[RawMessage]:
        """Yield the messages of one file."""
        with open_storage(file) as storage:
            self._summary.add_definitions(storage)
            for time_ns, topic, data in storage.messages(wanted, start_ns, stop_ns):
                # CDR and JSON never start with these bytes; without metadata.yaml there is no other indication.
                content = decompress("zstd", data) if data.startswith(_ZSTD_MAGIC) else data
                yield RawMessage(topic, self.types[topic], time_ns, content)
            if storage.fault:
                raise StorageFault(storage.fault)

    def image_topic(self, choice: str | None = None) -> str:
        """Choose the topic of the camera images.

        Args:
            choice: The topic; None for :data:`csl_tracker.messages.topics.IMAGE`, or else the only image topic.

        Raises:
            BagError: No such topic, no images, or several image topics.
        """
        return choose_image_topic(self.path, self._summary.topics, choice)

    def foreign(self, names: Collection[str] = ()) -> str:
        """Describe topics (default: all) with messages that are not ROS 2's; empty if there are none."""
        return describe_foreign(self._summary.topics, names)

    @property
    def annotated(self) -> list[str]:
        """Ground-truth topics with the right type."""
        return truth_topics(self._summary.topics)

    def image_topics(self) -> list[str]:
        """Topics of camera images, without ground truth, a tracker's pictures, and depth."""
        return camera_topics(self._summary.topics)

    def frames(
        self, image_topic: str | None = None, start_s: float | None = None, end_s: float | None = None
    ) -> Iterator[BagFrame]:
        """Yield the images in bag order, each with the annotations of the same stamp.

        An annotation may precede its image, or follow it by up to 8 images.

        Args:
            image_topic: See :meth:`image_topic`.
            start_s: See :meth:`messages`.
            end_s: See :meth:`messages`.

        Raises:
            BagError: See :meth:`image_topic` and :meth:`messages`.
            DamagedBagError: After the last readable image of a corrupt bag.
        """
        chosen = self.image_topic(image_topic)
        info_topic = camera_info_topic(chosen)
        others = [info_topic] if self.types.get(info_topic) == topics.CAMERA_INFO_TYPE else []
        matcher = FrameMatcher(chosen, self.annotated, info_topic)
        yield from matcher.frames(self.messages([chosen, *self.annotated, *others], start_s, end_s))

    def _store(self, name: str, msgtype: str) -> Typestore:
        """The definitions for reading a type: the bag's own, else the known ones.

        Each type has its own store, so that an invalid definition affects no other topic.
        """
        if msgtype in self._stores:
            return self._stores[msgtype]
        topic = self._summary.topics[name]
        store = typestore()
        with suppress(Exception):  # rosbags' parser raises many kinds of errors
            store = understand(topic.definition, topic.definition_format, msgtype) or store
        if msgtype not in store.fielddefs or topic.serialization != "cdr":
            raise BagError(
                f"The messages on {name} of the bag {self.path} cannot be read: their type {msgtype} ({topic.serialization}) is"
                " unknown, and the bag has no usable definition of it; record with the package that defines it sourced, or omit"
                " that topic."
            )
        self._stores[msgtype] = store
        return store

    def _offset(self, time_ns: int) -> str:
        return f"{(time_ns - (self.start_ns or 0)) / NS:.3f} s"
