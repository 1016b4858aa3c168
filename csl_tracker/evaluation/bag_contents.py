"""What a bag holds of poses, truth and images, by the stamps of the images: the first of two readings.

What a replay published under new stamps goes by the stamp that its image has in its own bag. Stamps that were rounded on their
way still find their image; :mod:`csl_tracker.bags.stamps` says within what tolerance.
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
"""How many label maps may wait for the image they belong to."""


@dataclass
class BagContents:
    """What the first reading of a bag keeps; keys are stamps in the bag of the images."""

    bag: BagReader
    image_topic: str | None
    poses_topic: str | None
    images: dict[int, int] = field(default_factory=dict)  # stamp -> when recorded
    repeated_images: int = 0
    poses: dict[int, list[RawMessage]] = field(default_factory=dict)
    truth: dict[int, RawMessage] = field(default_factory=dict)
    segmentation: set[int] = field(default_factory=set)
    truth_segmentation: set[int] = field(default_factory=set)
    source: dict[int, int] = field(default_factory=dict)  # stamp of a publication -> stamp in the image's own bag
    damage: DamagedBagError | None = None
    rounded: int = 0  # pose arrays whose stamps are nearly those of an image
    published: StampIndex = field(default_factory=lambda: StampIndex(()))
    index: StampIndex | None = None  # of the images' stamps, once these are known

    def stamp(self, stamp: int) -> int:
        """The stamp, in the bag of the images, of the image that a message's stamp means."""
        published = stamp if stamp in self.source else self.published.match(stamp)
        found = self.source.get(published, stamp)
        return found if self.index is None else self.index.match(found)

    def align(self, index: StampIndex) -> None:
        """Bring all stamps to those of the images."""
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
    """Read everything that is small.

    Args:
        bag: The bag.
        poses_topic: Topic of the poses; None reads none.
        image_topic: Topic of the images; None takes the only one.
        optional: Go without images where there are several topics of them and none was named.

    Raises:
        BagError: It is not known which images are meant.
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
    """The topics that matter, where they have the type that they should have."""
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
        choice: The topic to take; None takes the tracker's own, or the only one that is no ground truth.

    Raises:
        BagError: There is none, several, or the chosen one has another type.
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
    """Messages of a topic by the stamps of the images; the first reading has reported a broken end."""
    try:
        for message in contents.bag.messages([topic]):
            yield contents.stamp(message.stamp_ns or message.time_ns), message
    except DamagedBagError:
        return


class LabelMaps:
    """Label maps of a topic by their stamps, which come in about the order of the images."""

    def __init__(self, contents: BagContents, topic: str, stamps: Set[int]) -> None:
        self._bag, self._stamps = contents.bag, stamps
        self._stream = stream(contents, topic) if stamps else iter(())
        self._waiting: dict[int, RawMessage] = {}

    def take(self, stamp: int) -> Image | None:
        """The label map of a stamp; None without."""
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
