"""Read bags, mcap or sqlite3, as a stream of messages or of images with their ground truth.

Everything that recorders write is accepted: topics of unknown types, several files, compression of messages, chunks or files,
a recording that was killed. A fault is raised where reading reaches it; everything before it is given out first.
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
"""First bytes of a message that rosbag2 has compressed by itself (RFC 8878, 3.1.1)."""


class BagReader:
    """Reads a bag: an ``.mcap`` or ``.db3`` file, or the folder of a recording. A context manager.

    Attributes:
        path: The file or folder.
        types: Message type by topic.
        problems: What is wrong or unusual, one sentence each; a fault is also raised where reading reaches it.
        compression: Kinds of compression that were met, such as ``file: zstd`` or ``chunks: lz4``.
        custom: What the recorder noted about the bag.
        start_ns: Time of the first message, ns; None for an empty bag.
        end_ns: Time of the last message, ns; None for an empty bag.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Look at every file of the bag: its index, or all of its records where it has none.

        Raises:
            BagError: The path is missing, is no ROS 2 bag, or nothing in it can be read.
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
        """Do nothing: no file stays open between two readings."""

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def files(self) -> tuple[Path, ...]:
        """The storage files in the order of the recording."""
        return self._folder.files

    @property
    def duration_s(self) -> float:
        """From the first message to the last one, s."""
        return 0.0 if self.start_ns is None or self.end_ns is None else (self.end_ns - self.start_ns) / NS

    def count(self, topic: str) -> int:
        """Number of messages on a topic; 0 when the bag has no such topic."""
        found = self._summary.topics.get(topic)
        return 0 if found is None else found.count

    def qos(self, topic: str) -> str:
        """Quality of service that the topic's publishers offered, YAML as rosbag2 writes it; empty where not recorded."""
        return self._summary.topics[topic].qos

    def defined(self, topic: str) -> bool:
        """Whether the topic's messages can be deserialised: the bag has their definition, or they are known here."""
        found = self._summary.topics[topic]
        known = found.msgtype in typestore().fielddefs
        return found.serialization == "cdr" and (known or bool(found.definition and found.definition_format in FORMATS))

    def deserialize(self, message: RawMessage) -> Any:
        """The message's fields, by the definition that the bag itself carries.

        Raises:
            BagError: The definition is missing, or the bytes do not fit the type.
        """
        store = self._store(message.topic, message.msgtype)
        try:
            return store.deserialize_cdr(message.data, message.msgtype)
        except Exception as error:  # rosbags raises errors of many kinds for wrong bytes
            raise BagError(
                f"A message on {message.topic} of the bag {self.path}, recorded at {self._offset(message.time_ns)}, is broken:"
                f" its {len(message.data)} bytes are no {message.msgtype}; record the bag again, or leave that topic out."
            ) from error

    def messages(
        self, names: Collection[str] = (), start_s: float | None = None, end_s: float | None = None
    ) -> Iterator[RawMessage]:
        """Yield the messages of some topics (of all without names) in the order of their reception.

        Args:
            names: Topics.
            start_s: Leave out what was recorded earlier, s after the bag's first message.
            end_s: Leave out what was recorded later, s after the bag's first message.

        Raises:
            BagError: The bag lacks a topic.
            DamagedBagError: After the last readable message, where the bag is broken.
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
                # Neither CDR nor JSON begins so; without metadata.yaml nothing else tells of it.
                content = decompress("zstd", data) if data.startswith(_ZSTD_MAGIC) else data
                yield RawMessage(topic, self.types[topic], time_ns, content)
            if storage.fault:
                raise StorageFault(storage.fault)

    def image_topic(self, choice: str | None = None) -> str:
        """Find the topic of the camera's images.

        Args:
            choice: The topic to take; None takes :data:`csl_tracker.messages.topics.IMAGE`, or the only one there is.

        Raises:
            BagError: There is no such topic, none of images, or several to choose from.
        """
        return choose_image_topic(self.path, self._summary.topics, choice)

    def foreign(self, names: Collection[str] = ()) -> str:
        """Describe topics (all without names) whose messages are not those of ROS 2; empty where there are none."""
        return describe_foreign(self._summary.topics, names)

    @property
    def annotated(self) -> list[str]:
        """The topics of ground truth; a topic of that name with another type does not count."""
        return truth_topics(self._summary.topics)

    def image_topics(self) -> list[str]:
        """The topics of a camera's images: no ground truth, no pictures made by a tracker, no depth."""
        return camera_topics(self._summary.topics)

    def frames(
        self, image_topic: str | None = None, start_s: float | None = None, end_s: float | None = None
    ) -> Iterator[BagFrame]:
        """Yield the images in the order of the bag, each with the annotations of the same stamp.

        An annotation may stand before its image, or after it by up to 8 images.

        Args:
            image_topic: See :meth:`image_topic`.
            start_s: See :meth:`messages`.
            end_s: See :meth:`messages`.

        Raises:
            BagError: See :meth:`image_topic` and :meth:`messages`.
            DamagedBagError: After the last readable image, where the bag is broken.
        """
        chosen = self.image_topic(image_topic)
        info_topic = camera_info_topic(chosen)
        others = [info_topic] if self.types.get(info_topic) == topics.CAMERA_INFO_TYPE else []
        matcher = FrameMatcher(chosen, self.annotated, info_topic)
        yield from matcher.frames(self.messages([chosen, *self.annotated, *others], start_s, end_s))

    def _store(self, name: str, msgtype: str) -> Typestore:
        """The definitions by which a type is read: the bag's own, else those known here.

        Each type has a store of its own, so that a definition that cannot be understood affects no other topic.
        """
        if msgtype in self._stores:
            return self._stores[msgtype]
        topic = self._summary.topics[name]
        store = typestore()
        with suppress(Exception):  # the grammar of rosbags fails in many ways
            store = understand(topic.definition, topic.definition_format, msgtype) or store
        if msgtype not in store.fielddefs or topic.serialization != "cdr":
            raise BagError(
                f"The messages on {name} of the bag {self.path} cannot be read: the bag has no usable definition of their type"
                f" {msgtype} ({topic.serialization}), and it is not known here; record with the package that defines it"
                " sourced, or leave that topic out."
            )
        self._stores[msgtype] = store
        return store

    def _offset(self, time_ns: int) -> str:
        return f"{(time_ns - (self.start_ns or 0)) / NS:.3f} s"
