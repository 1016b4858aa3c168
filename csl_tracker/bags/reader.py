"""Read bags, mcap or sqlite3, as a stream: images with their ground truth, and what a replay has recorded.

What other recorders do is taken as it comes: topics of types that nobody here knows, several files, compression of messages,
chunks or files, a recording that was killed. A fault is named when it is met, after everything before it was given out.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.typesys.store import Typestore

from csl_tracker.bags.definitions import FORMATS, understand
from csl_tracker.bags.folder import BagFolder, custom_notes, open_folder, open_storage
from csl_tracker.bags.foreign import TopicKind, foreign_topics
from csl_tracker.bags.limits import MAX_TOPICS, MAX_WAITING_BYTES, LimitError, decompress
from csl_tracker.bags.stamps import StampIndex
from csl_tracker.bags.storage import StorageFault, StorageFile
from csl_tracker.clock import NS
from csl_tracker.errors import BagError
from csl_tracker.messages import topics
from csl_tracker.messages.cdr import header_stamp_ns
from csl_tracker.messages.types import typestore
from csl_tracker.paths import user_path

_LOOKAHEAD = 8
"""How many images may wait for an annotation that comes later in the bag."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""First bytes of a message that rosbag2 has compressed by itself (RFC 8878, 3.1.1)."""


class DamagedBagError(BagError):
    """A bag ends early or is broken inside. Everything readable before was given out: what was made of it is worth keeping."""


@dataclass(frozen=True)
class RawMessage:
    """A serialised message.

    Attributes:
        topic: Its topic.
        msgtype: Its type, as in ``sensor_msgs/msg/Image``.
        time_ns: When it was received by whoever recorded the bag, ns.
        data: CDR.
    """

    topic: str
    msgtype: str
    time_ns: int
    data: bytes

    @property
    def stamp_ns(self) -> int:
        """The stamp of its header, ns."""
        return header_stamp_ns(self.data)


@dataclass(frozen=True)
class BagFrame:
    """An image of a bag with the annotations that have the same stamp.

    Attributes:
        stamp_ns: The image's stamp; where the driver left it 0, the time at which it was recorded.
        image: ``sensor_msgs/Image`` or ``CompressedImage``.
        truth_poses: ``InstrumentPoseArray``; None without.
        truth_segmentation: ``sensor_msgs/Image``, mono8; None without.
        camera_info: ``sensor_msgs/CameraInfo``, the last one before this image; None without.
    """

    stamp_ns: int
    image: RawMessage
    truth_poses: RawMessage | None = None
    truth_segmentation: RawMessage | None = None
    camera_info: RawMessage | None = None


@dataclass
class _Topic:
    """A topic, summed over the files of the bag."""

    msgtype: str
    serialization: str = "cdr"
    count: int = 0
    definition: str = ""
    definition_format: str = ""
    qos: str = ""


class BagReader:
    """Reads a bag: an ``.mcap`` or ``.db3`` file, or the folder of a recording. A context manager.

    Attributes:
        path: The file or folder.
        types: Message type by topic.
        problems: What is wrong or unusual, one sentence each; a fault is raised too, when the reading comes to it.
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
        self._folder: BagFolder = open_folder(self.path)
        self._topics: dict[str, _Topic] = {}
        self._stores: dict[str, Typestore] = {}
        self.custom = dict(self._folder.custom)
        self.problems: list[str] = [f"The bag {self.path} is unusual: {note}." for note in self._folder.notes]
        self.compression: list[str] = []
        self.start_ns: int | None = None
        self.end_ns: int | None = None
        if self._folder.compression_mode:
            self.compression.append(f"{self._folder.compression_mode}: zstd")
        broken: BagError | None = None
        for file in self._folder.files:
            if file.suffix == ".zstd":  # looked into when its turn comes
                continue
            try:
                with open_storage(file) as storage:
                    self._take_over(file, storage)
            except (StorageFault, OSError) as error:
                broken = self._unreadable(file, error)
                self.problems.append(str(broken))
        if any(file.suffix == ".zstd" for file in self._folder.files):
            self._trust_metadata()
        if broken is not None and not any(topic.count for topic in self._topics.values()):
            raise broken
        self.types: dict[str, str] = {name: topic.msgtype for name, topic in self._topics.items()}

    def close(self) -> None:
        """Nothing is kept open between two readings; this stands for symmetry."""

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
        return self._topics[topic].count if topic in self._topics else 0

    def qos(self, topic: str) -> str:
        """Quality of service that the topic's publishers offered, YAML as rosbag2 writes it; empty where not recorded."""
        return self._topics[topic].qos

    def defined(self, topic: str) -> bool:
        """Whether the topic's messages can be deserialised: the bag has their definition, or they are known here."""
        found = self._topics[topic]
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
        except Exception as error:  # rosbags meets wrong bytes with errors of many kinds
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
                with open_storage(file) as storage:
                    self._learn_definitions(storage)
                    for time_ns, topic, data in storage.messages(wanted, start_ns, stop_ns):
                        # Neither CDR nor JSON begins so; without metadata.yaml nothing else tells of it.
                        content = decompress("zstd", data) if data.startswith(_ZSTD_MAGIC) else data
                        yield RawMessage(topic, self.types[topic], time_ns, content)
                    if storage.fault:
                        raise StorageFault(storage.fault)
            except LimitError as error:
                raise self._broken(file, f"a message is broken: {error}") from error
            except StorageFault as error:
                raise self._broken(file, str(error)) from error
            except OSError as error:
                raise DamagedBagError(f"The bag file {file} cannot be read to its end ({_refusal(error)}).") from error

    def image_topic(self, choice: str | None = None) -> str:
        """Find the topic of the camera's images.

        Args:
            choice: The topic to take; None takes :data:`csl_tracker.messages.topics.IMAGE`, or the only one there is.

        Raises:
            BagError: There is no such topic, none of images, or several to choose from.
        """
        images = self.image_topics()
        if choice is not None:
            if choice in self.types and (self.types[choice] not in _IMAGE_TYPES or self.foreign([choice])):
                raise BagError(
                    f"The topic {choice} of the bag {self.path} is of type {self.types[choice]}, no images; "
                    + (self.foreign([choice]) or f"images are on {listed(images)}")
                    + "."
                )
            if choice not in self.types or not self.count(choice):
                raise BagError(f"The bag {self.path} has no images on {choice}; it has images on {listed(images)}.")
            return choice
        if topics.IMAGE in images:
            return topics.IMAGE
        if not images:
            raise BagError(
                f"The bag {self.path} has no images ({topics.IMAGE_TYPE} or {topics.COMPRESSED_TYPE}); "
                + (self.foreign() or f"its topics are {listed(self.types)}")
                + "."
            )
        # A camera's driver publishes an image and its compressed copy.
        single = [name for name in images if name.removesuffix(topics.COMPRESSED_SUFFIX) not in set(images) - {name}]
        if len(single) > 1:
            raise BagError(
                f"The bag {self.path} has images on {listed(images)}; name one of these topics (--topic TOPIC, or the parameter"
                " image_topic of replay_node)."
            )
        return single[0]

    def foreign(self, names: Collection[str] = ()) -> str:
        """Of topics (of all without names) whose messages are none of ROS 2: what they are, and what to do; else empty."""
        chosen = {name: topic for name, topic in self._topics.items() if topic.count and (name in names or not names)}
        return foreign_topics(
            {name: TopicKind(it.msgtype, it.serialization, it.definition_format) for name, it in chosen.items()}
        )

    @property
    def annotated(self) -> list[str]:
        """The topics of ground truth; one of another type is none."""
        return [name for name, kind in _TRUTH_TYPES.items() if self.types.get(name) == kind]

    def image_topics(self) -> list[str]:
        """The topics of a camera's images: not the ground truth, not the pictures that a tracker made, no depth."""
        return [
            name
            for name, topic in self._topics.items()
            if topic.msgtype in _IMAGE_TYPES
            and topic.count > 0
            and name != topics.TRUTH_SEGMENTATION
            and f"/{topics.TRACKER_NODE}/" not in name
            and not name.endswith("/compressedDepth")
            and not self.foreign([name])
        ]

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
        annotated = self.annotated
        info_topic = camera_info_topic(chosen)
        others = [info_topic] if self.types.get(info_topic) == topics.CAMERA_INFO_TYPE else []
        waiting: deque[tuple[RawMessage, RawMessage | None]] = deque()
        found: dict[str, dict[int, RawMessage]] = {topic: {} for topic in annotated}
        info: RawMessage | None = None
        last_ns, step_ns = 0, 0

        def meant(topic: str, stamp: int) -> int:
            """The stamp of the annotation of an image, which may be rounded once it is known how far images lie apart."""
            return stamp if stamp in found[topic] else StampIndex(found[topic], step_ns).match(stamp)

        def first() -> BagFrame:
            image, calibration = waiting.popleft()
            parts = {topic: found[topic].pop(meant(topic, image.stamp_ns), None) for topic in annotated}
            return BagFrame(
                image.stamp_ns or image.time_ns,
                image,
                parts.get(topics.TRUTH_POSES),
                parts.get(topics.TRUTH_SEGMENTATION),
                calibration,
            )

        damage: DamagedBagError | None = None
        stream = self.messages([chosen, *annotated, *others], start_s, end_s)
        while True:
            try:
                message = next(stream, None)
            except DamagedBagError as error:
                damage = error
                break
            if message is None:
                break
            if message.topic == chosen:
                waiting.append((message, info))
                step = abs(message.stamp_ns - last_ns) if last_ns else 0
                last_ns, step_ns = message.stamp_ns, min(step_ns or step, step or step_ns)
            elif message.topic == info_topic:
                info = message
            else:
                kept = found[message.topic]
                kept[message.stamp_ns] = message
                while len(kept) > 2 * _LOOKAHEAD or _bytes(kept.values()) > MAX_WAITING_BYTES:
                    kept.pop(next(iter(kept)))  # annotations of images that are not in the bag
            while waiting and (
                len(waiting) > _LOOKAHEAD
                or _bytes(image for image, _ in waiting) > MAX_WAITING_BYTES
                or all(meant(topic, waiting[0][0].stamp_ns) in found[topic] for topic in annotated)
            ):
                yield first()
        while waiting:
            yield first()
        if damage is not None:
            raise damage

    def _take_over(self, file: Path, storage: StorageFile) -> None:
        """Add the topics of a file to those of the bag."""
        self._learn_definitions(storage)
        self.custom = {**custom_notes(storage.metadata), **self.custom}
        for name, stored in storage.topics.items():
            topic = self._topics[name]
            topic.count += stored.count
            if stored.msgtype != topic.msgtype:
                self.problems.append(
                    f"The topic {name} has messages of {stored.msgtype} in {file}, and of {topic.msgtype} elsewhere."
                )
        if storage.compression and f"chunks: {storage.compression}" not in self.compression:
            self.compression.append(f"chunks: {storage.compression}")
        self.problems += [f"The file {file} is unusual: {note}." for note in storage.notes]
        if storage.fault:
            self.problems.append(str(self._broken(file, storage.fault)))
        if storage.start_ns is not None and storage.end_ns is not None:
            self.start_ns = storage.start_ns if self.start_ns is None else min(self.start_ns, storage.start_ns)
            self.end_ns = storage.end_ns if self.end_ns is None else max(self.end_ns, storage.end_ns)

    def _learn_definitions(self, storage: StorageFile) -> None:
        for name, stored in storage.topics.items():
            if len(self._topics) >= MAX_TOPICS and name not in self._topics:
                raise StorageFault(f"the bag has more than {MAX_TOPICS} topics")
            topic = self._topics.setdefault(name, _Topic(stored.msgtype, stored.serialization))
            if not topic.definition and stored.msgtype == topic.msgtype:
                topic.definition, topic.definition_format = stored.definition, stored.definition_format
            topic.qos = topic.qos or stored.qos

    def _trust_metadata(self) -> None:
        """Without unpacking, metadata.yaml alone tells of files that are compressed as a whole."""
        if not self._folder.topics:  # one compressed file by itself, or a recording that was killed
            for file in self._folder.files:
                if file.suffix != ".zstd":
                    continue
                try:
                    with open_storage(file) as storage:
                        self._take_over(file, storage)
                except (StorageFault, OSError) as error:
                    raise self._unreadable(file, error) from error
            return
        self._topics = {name: _Topic(kind, count=count) for name, (kind, count) in self._folder.topics.items()}
        self.start_ns, self.end_ns = self._folder.start_ns, self._folder.end_ns

    def _store(self, name: str, msgtype: str) -> Typestore:
        """The definitions by which a type is read: the bag's own, else those known here.

        One store for each type, so that a definition that cannot be understood hinders no other topic.
        """
        if msgtype in self._stores:
            return self._stores[msgtype]
        topic = self._topics[name]
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

    def _unreadable(self, file: Path, error: Exception) -> BagError:
        if isinstance(error, OSError):
            return BagError(f"The bag file {file} cannot be read ({_refusal(error)}).")
        return BagError(f"The bag file {file} cannot be read, {str(error).rstrip('.')}; {_remedy(file)}.")

    def _broken(self, file: Path, detail: str) -> DamagedBagError:
        return DamagedBagError(f"The bag file {file} cannot be read to its end, {detail.strip().rstrip('.')}; {_remedy(file)}.")

    def _offset(self, time_ns: int) -> str:
        return f"{(time_ns - (self.start_ns or 0)) / NS:.3f} s"


def _refusal(error: OSError) -> str:
    return f"{error.strerror or error}; check its permissions, and the room in TMPDIR where it is compressed as a whole"


def _remedy(file: Path) -> str:
    remedy = "'mcap recover' may mend it" if ".mcap" in file.suffixes else "'ros2 bag reindex' may mend its folder"
    return f"it is broken or its recording was cut off, {remedy}"


def _bytes(messages: Iterable[RawMessage]) -> int:
    return sum(len(message.data) for message in messages)


def camera_info_topic(image_topic: str) -> str:
    """The sibling of an image topic on which its camera's calibration comes, as image_transport has it."""
    return image_topic.removesuffix(topics.COMPRESSED_SUFFIX).rpartition("/")[0] + "/camera_info"


def listed(names: Collection[str]) -> str:
    """Names for a sentence."""
    return ", ".join(sorted(names)) or "none"


_IMAGE_TYPES = (topics.IMAGE_TYPE, topics.COMPRESSED_TYPE)
_TRUTH_TYPES = {topics.TRUTH_POSES: topics.POSES_TYPE, topics.TRUTH_SEGMENTATION: topics.IMAGE_TYPE}
