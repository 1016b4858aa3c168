"""First pass over a bag: poses, ground truth and images by image timestamp.

Messages that a replay published with new timestamps are mapped to the original image timestamps. Rounded timestamps are matched
within the tolerance of :mod:`csl_tracker.bags.stamps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import TypeVar

from csl_tracker.arrays import Image
from csl_tracker.bags.errors import DamagedBagError
from csl_tracker.bags.frames import RawMessage
from csl_tracker.bags.image_topics import listed
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.stamps import StampIndex
from csl_tracker.errors import BagError
from csl_tracker.messages import topics
from csl_tracker.messages.images import label_map
from csl_tracker.messages.poses import stamp_ns

T = TypeVar("T")
_WAITING = 32
"""Maximum number of buffered label maps."""


@dataclass
class BagContents:
    """Result of the first pass; keys are timestamps in the bag of the images."""

    bag: BagReader
    image_topic: str | None
    poses_topic: str | None
    images: dict[int, int] = field(default_factory=dict)  # stamp -> recording time
    repeated_images: int = 0
    poses: dict[int, list[RawMessage]] = field(default_factory=dict)
    truth: dict[int, RawMessage] = field(default_factory=dict)
    segmentation: set[int] = field(default_factory=set)
    truth_segmentation: set[int] = field(default_factory=set)
    source: dict[int, int] = field(default_factory=dict)  # published stamp -> stamp in the original bag
    damage: DamagedBagError | None = None
    rounded: int = 0  # pose arrays matched within the tolerance
    published: StampIndex = field(default_factory=lambda: StampIndex(()))
    index: StampIndex | None = None  # image stamps, once known

    def stamp(self, stamp: int) -> int:
        """Map a message stamp to the stamp of its image in the bag of the images."""
        published = stamp if stamp in self.source else self.published.match(stamp)
        found = self.source.get(published, stamp)
        return found if self.index is None else self.index.match(found)

    def align(self, index: StampIndex) -> None:
        """Map all stamps to those of the images."""
        self.index = index
        self.rounded += sum(len(messages) for stamp, messages in self.poses.items() if index.match(stamp) != stamp)
        poses: dict[int, list[RawMessage]] = {}
        for stamp, messages in self.poses.items():
            poses.setdefault(index.match(stamp), []).extend(messages)
        self.poses = poses
        self.images = _aligned(self.images, index)
        self.truth = _aligned(self.truth, index)
        self.segmentation = set(map(index.match, self.segmentation))
        self.truth_segmentation = set(map(index.match, self.truth_segmentation))
        self.source = {stamp: index.match(found) for stamp, found in self.source.items()}


def _aligned(found: Mapping[int, T], index: StampIndex) -> dict[int, T]:
    aligned: dict[int, T] = {}
    for stamp, value in found.items():
        aligned.setdefault(index.match(stamp), value)
    return aligned


def read_contents(bag: BagReader, poses_topic: str | None, image_topic: str | None, optional: bool) -> BagContents:
    """Read everything except images and label maps.

    Args:
        bag: The bag.
        poses_topic: Topic of the poses; None skips poses.
        image_topic: Topic of the images; None selects the only one.
        optional: Do without images if there are several image topics and none was named.

    Raises:
        BagError: The image topic is ambiguous.
    """
    contents = BagContents(bag, _choose_images(bag, image_topic, optional), poses_topic)
    poses: list[tuple[int, RawMessage]] = []
    stamps: dict[str, list[int]] = {}
    names = _wanted(contents)
    try:
        for message in bag.messages(names) if names else ():
            if message.topic == topics.SOURCE_TIME:
                reference = bag.deserialize(message)
                contents.source[stamp_ns(reference.header.stamp)] = stamp_ns(reference.time_ref)
            elif message.topic in (poses_topic, topics.TRUTH_POSES):
                poses.append((message.stamp_ns, message))
            elif message.topic == contents.image_topic:
                stamp = message.stamp_ns or message.time_ns
                contents.repeated_images += stamp in contents.images
                contents.images.setdefault(stamp, message.time_ns)
            else:
                stamps.setdefault(message.topic, []).append(message.stamp_ns)
    except DamagedBagError as error:
        contents.damage = error
    contents.published = StampIndex(contents.source)
    contents.images = {contents.stamp(stamp): time for stamp, time in contents.images.items()}
    for stamp, message in poses:
        if message.topic == poses_topic:
            contents.rounded += stamp not in contents.source and contents.published.match(stamp) != stamp
            contents.poses.setdefault(contents.stamp(stamp), []).append(message)
        if message.topic == topics.TRUTH_POSES:
            contents.truth.setdefault(contents.stamp(stamp), message)
    contents.segmentation = set(map(contents.stamp, stamps.get(topics.SEGMENTATION, ())))
    contents.truth_segmentation = set(map(contents.stamp, stamps.get(topics.TRUTH_SEGMENTATION, ())))
    return contents


def _choose_images(bag: BagReader, choice: str | None, optional: bool) -> str | None:
    if not bag.image_topics():
        return None
    try:
        return bag.image_topic(choice)
    except BagError:
        if not optional:
            raise
        return None


def _wanted(contents: BagContents) -> list[str]:
    """The topics to read, if they have the expected type."""
    bag, images = contents.bag, contents.image_topic
    kinds = {
        contents.poses_topic: topics.POSES_TYPE,
        topics.TRUTH_POSES: topics.POSES_TYPE,
        topics.SEGMENTATION: topics.IMAGE_TYPE,
        topics.TRUTH_SEGMENTATION: topics.IMAGE_TYPE,
        topics.SOURCE_TIME: topics.TIME_REFERENCE_TYPE,
        images: None if images is None else bag.types[images],
    }
    return [name for name, kind in kinds.items() if name is not None and bag.types.get(name) == kind]


def find_poses(bag: BagReader, choice: str | None = None) -> str:
    """The topic of a tracker's poses.

    Args:
        bag: The bag.
        choice: The topic; None selects the default topic, or the only one other than the ground truth.

    Raises:
        BagError: There is no such topic, it is ambiguous, or it has another type.
    """
    found = [name for name, kind in bag.types.items() if kind == topics.POSES_TYPE and bag.count(name)]
    found = [name for name in found if name != topics.TRUTH_POSES or name == choice]
    if choice is not None:
        if choice in found:
            return choice
        kind = bag.types.get(choice)
        problem = "is not there" if kind is None else f"is of type {kind}" if kind != topics.POSES_TYPE else "is empty"
        raise BagError(
            f"The topic {choice} of the bag {bag.path} {problem}; poses ({topics.POSES_TYPE}) are on {listed(found)}."
        )
    if topics.POSES in found:
        return topics.POSES
    if len(found) == 1:
        return found[0]
    if not found:
        if foreign := bag.foreign():
            raise BagError(f"The bag {bag.path} has no poses ({topics.POSES_TYPE}); {foreign}.")
        raise BagError(
            f"The bag {bag.path} has no poses ({topics.POSES_TYPE}); its topics are {listed(bag.types)}. Record the tracker's"
            f" {topics.POSES}, or make poses with 'csl-tracker replay'."
        )
    raise BagError(f"The bag {bag.path} has poses on {listed(found)}; name one of these topics with --poses TOPIC.")


def stream(contents: BagContents, topic: str) -> Iterator[tuple[int, RawMessage]]:
    """(image stamp, message) of a topic; stops silently at damage, which the first pass has reported."""
    try:
        for message in contents.bag.messages([topic]):
            yield contents.stamp(message.stamp_ns or message.time_ns), message
    except DamagedBagError:
        return


class LabelMaps:
    """Label maps of a topic by stamp; expects approximately the order of the images."""

    def __init__(self, contents: BagContents, topic: str, stamps: Set[int]) -> None:
        self._bag, self._stamps = contents.bag, stamps
        self._stream = stream(contents, topic) if stamps else iter(())
        self._waiting: dict[int, RawMessage] = {}

    def take(self, stamp: int) -> Image | None:
        """The label map of a stamp, or None."""
        if stamp not in self._stamps:
            return None
        while stamp not in self._waiting and len(self._waiting) <= _WAITING:
            found, message = next(self._stream, (None, None))
            if found is None or message is None:
                break
            if found in self._stamps:
                self._waiting.setdefault(found, message)
        chosen = self._waiting.pop(stamp, None)
        if chosen is None and len(self._waiting) > _WAITING:
            self._waiting.pop(next(iter(self._waiting)))
        return None if chosen is None else label_map(self._bag.deserialize(chosen))
