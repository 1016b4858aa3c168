"""Read bags, mcap or sqlite3, as a stream: images with their ground truth, and what a replay has recorded."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader

from csl_tracker.bags import topics
from csl_tracker.bags.cdr import header_stamp_ns
from csl_tracker.bags.types import typestore
from csl_tracker.errors import BagError

_LOOKAHEAD = 8
"""How many images may wait for an annotation that comes later in the bag."""


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
    """

    stamp_ns: int
    image: RawMessage
    truth_poses: RawMessage | None = None
    truth_segmentation: RawMessage | None = None


class BagReader:
    """Reads a bag: an ``.mcap`` or ``.db3`` file, or a bag folder with its ``metadata.yaml``. A context manager.

    Attributes:
        path: The file or folder.
        types: Message type by topic.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the bag.

        Raises:
            BagError: The path is missing, is no ROS 2 bag, or the bag is broken.
        """
        self.path = Path(path)
        if not self.path.exists():
            raise BagError(f"The bag {self.path} does not exist; check the path.")
        if self.path.suffix == ".bag" and self.path.is_file():
            raise BagError(f"{self.path} is a bag of ROS 1; convert it with 'rosbags-convert --src {self.path} --dst FOLDER'.")
        if self.path.is_dir() and not (self.path / "metadata.yaml").is_file():
            raise BagError(f"The folder {self.path} is no bag, since it has no metadata.yaml; 'ros2 bag reindex' can make it.")
        if self.path.is_file() and self.path.suffix not in (".mcap", ".db3"):
            raise BagError(f"The file {self.path} is no bag; name an .mcap or .db3 file, or a bag folder.")
        try:
            self._reader = AnyReader([self.path], default_typestore=typestore())
            self._reader.open()
        except Exception as error:  # rosbags meets broken files with errors of many kinds
            raise self._broken(error) from error
        self.types: dict[str, str] = {connection.topic: connection.msgtype for connection in self._reader.connections}

    def _broken(self, error: Exception) -> BagError:
        detail = str(error).strip().rstrip(".") or type(error).__name__
        return BagError(
            f"The bag {self.path} cannot be read ({detail}); it is broken or its recording was cut off,"
            " which 'ros2 bag reindex' or 'mcap recover' may mend."
        )

    def close(self) -> None:
        """Close the file."""
        with suppress(Exception):
            self._reader.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def count(self, topic: str) -> int:
        """Number of messages on a topic; 0 when the bag has no such topic."""
        return sum(connection.msgcount for connection in self._reader.connections if connection.topic == topic)

    def deserialize(self, message: RawMessage) -> Any:
        """The message's fields, by the definition that the bag itself carries.

        Raises:
            BagError: The bytes do not fit the type.
        """
        try:
            return self._reader.deserialize(message.data, message.msgtype)
        except Exception as error:
            raise self._broken(error) from error

    def messages(self, names: Collection[str] = ()) -> Iterator[RawMessage]:
        """Yield the messages of some topics (of all without names) in the order of their reception.

        Raises:
            BagError: The bag is broken on the way, or lacks a topic.
        """
        for name in names:
            if name not in self.types:
                raise BagError(f"The bag {self.path} has no topic {name}; it has {self._listed(self.types)}.")
        connections = [connection for connection in self._reader.connections if not names or connection.topic in names]
        if not connections:
            return
        stream = self._reader.messages(connections)
        while True:
            try:
                connection, time_ns, data = next(stream)
            except StopIteration:
                return
            except Exception as error:
                raise self._broken(error) from error
            yield RawMessage(connection.topic, connection.msgtype, time_ns, data)

    def image_topic(self, choice: str | None = None) -> str:
        """Find the topic of the camera's images.

        Args:
            choice: The topic to take; None takes :data:`csl_tracker.bags.topics.IMAGE`, or the only one there is.

        Raises:
            BagError: There is no such topic, none of images, or several to choose from.
        """
        own = {topics.TRUTH_SEGMENTATION, topics.SEGMENTATION}
        images = [
            topic
            for topic, msgtype in self.types.items()
            if msgtype in (topics.IMAGE_TYPE, topics.COMPRESSED_TYPE) and self.count(topic) > 0
        ]
        if choice is not None:
            if choice not in images:
                raise BagError(f"The bag {self.path} has no images on {choice}; it has images on {self._listed(images)}.")
            return choice
        images = [topic for topic in images if topic not in own]
        if topics.IMAGE in images:
            return topics.IMAGE
        if not images:
            raise BagError(
                f"The bag {self.path} has no images ({topics.IMAGE_TYPE} or {topics.COMPRESSED_TYPE});"
                f" its topics are {self._listed(self.types)}."
            )
        if len(images) > 1:
            raise BagError(f"The bag {self.path} has images on {self._listed(images)}; name one of these topics.")
        return images[0]

    @staticmethod
    def _listed(names: Collection[str]) -> str:
        return ", ".join(sorted(names)) or "none"

    def frames(self, image_topic: str | None = None) -> Iterator[BagFrame]:
        """Yield the images in the order of the bag, each with the annotations of the same stamp.

        An annotation may stand before its image, or after it by up to 8 images.

        Args:
            image_topic: See :meth:`image_topic`.

        Raises:
            BagError: See :meth:`image_topic` and :meth:`messages`.
        """
        chosen = self.image_topic(image_topic)
        annotated = [topic for topic in (topics.TRUTH_POSES, topics.TRUTH_SEGMENTATION) if topic in self.types]
        waiting: deque[RawMessage] = deque()
        found: dict[str, dict[int, RawMessage]] = {topic: {} for topic in annotated}

        def first() -> BagFrame:
            image = waiting.popleft()
            parts = {topic: found[topic].pop(image.stamp_ns, None) for topic in annotated}
            return BagFrame(
                image.stamp_ns or image.time_ns, image, parts.get(topics.TRUTH_POSES), parts.get(topics.TRUTH_SEGMENTATION)
            )

        for message in self.messages([chosen, *annotated]):
            if message.topic == chosen:
                waiting.append(message)
            else:
                kept = found[message.topic]
                kept[message.stamp_ns] = message
                if len(kept) > 2 * _LOOKAHEAD:  # annotations of images that are not in the bag
                    kept.pop(next(iter(kept)))
            while waiting and (len(waiting) > _LOOKAHEAD or all(waiting[0].stamp_ns in found[topic] for topic in annotated)):
                yield first()
        while waiting:
            yield first()
