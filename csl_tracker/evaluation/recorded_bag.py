"""Joins recorded poses of any publisher with images and ground truth by header stamp.

A bag is read in two passes: first the small messages (:mod:`csl_tracker.evaluation.bag_contents`), then the images one by one,
which bounds the memory use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.bags.frames import RawMessage
from csl_tracker.bags.notes import OFFLINE, ORIGINAL_STAMPS
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.stamps import StampIndex
from csl_tracker.errors import BagError, ImageError
from csl_tracker.evaluation.bag_contents import LabelMaps, find_poses, read_contents, stream
from csl_tracker.evaluation.bag_labels import bag_name, frame_rate, noted_classes
from csl_tracker.messages import topics
from csl_tracker.messages.poses import GroundTruth, read_pose_array, read_truth_array
from csl_tracker.pixels import Size
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

_FAR_PX = 1e5
"""Coordinates beyond this are treated as invalid."""


@dataclass(frozen=True)
class Answer:
    """The first pose array of an image.

    Attributes:
        result: Its content; landmarks in the order of :attr:`RecordedBag.landmarks`, NaN if missing.
        published_ns: Header stamp, ns.
        received_ns: Recording time, ns.
        model: Its model field.
    """

    result: TrackingResult
    published_ns: int
    received_ns: int
    model: str


@dataclass(frozen=True)
class Frame:
    """An image with its ground truth and poses.

    Attributes:
        index: Frame number, from 0.
        stamp_ns: Stamp in the bag of the images, ns.
        size: (height, width), px.
        image: uint8 (H, W, 3), RGB; None if missing or not decodable.
        landmarks: float64 (slots, landmarks, 2), ground truth, px.
        labelled: bool (slots, landmarks).
        label_map: uint8 (H, W), ground truth, or None.
        answer: None for a dropped frame.
    """

    index: int
    stamp_ns: int
    size: Size
    image: Image | None
    landmarks: FloatArray
    labelled: npt.NDArray[np.bool_]
    label_map: Image | None
    answer: Answer | None


class RecordedBag:
    """Poses, ground truth and images of one or two bags.

    Attributes:
        name: Name of the ground-truth bag.
        poses_topic: Topic of the poses.
        landmarks: Landmark names in the poses, in order of first appearance.
        truth_landmarks: Landmark names in the ground truth.
        slots: Instruments of the ground truth.
        classes: Names of the label values; empty if not stored in a bag.
        stamps: Stamps of the frames in order, ns.
        has_images: Whether frames have images.
        has_truth: Whether there are annotations.
        has_segmentation: Whether label maps of tracker and ground truth exist.
        fps: Frame rate, 1/s.
        problems: Anomalies, one sentence each.
        damage: Where reading a bag failed; None if it was complete.
        unusable: Undecodable images, counted by error message.
        nan_landmarks: Number of landmarks marked as visible with an invalid position.
    """

    def __init__(
        self,
        recorded: Path,
        truth: Path | None,
        decode: Callable[[Any], Image],
        poses_topic: str | None = None,
        image_topic: str | None = None,
    ) -> None:
        """Run the first pass.

        Args:
            recorded: The bag of the poses.
            truth: The bag of the ground truth, and of the images if it has any; None for ``recorded``.
            decode: Converts an image message to uint8 (H, W, 3), RGB.
            poses_topic: Topic of the poses; None selects the default, or the only one.
            image_topic: Topic of the images; None selects the only one.

        Raises:
            BagError: There are no poses, or no common stamps.
        """
        self._decode = decode
        bag = BagReader(recorded)
        own_images = image_topic if image_topic in bag.types else None
        self.poses_topic = find_poses(bag, poses_topic)
        truth_bag = bag if truth is None else BagReader(truth)
        other = truth_bag is not bag and bool(truth_bag.image_topics())
        self._recorded = read_contents(bag, self.poses_topic, own_images if other else image_topic, optional=other)
        self._truth = self._recorded if truth_bag is bag else read_contents(truth_bag, None, image_topic, optional=not other)
        self._pictures = self._truth if self._truth.images else self._recorded
        self.name = bag_name(truth_bag)
        self.problems = list(dict.fromkeys([*bag.problems, *truth_bag.problems]))
        self.damage = self._recorded.damage or self._truth.damage
        self.unusable: Counter[str] = Counter()
        self.nan_landmarks = 0
        self.has_images = bool(self._pictures.images)
        self.has_truth = bool(self._truth.truth or self._truth.truth_segmentation)
        stamps = self._pictures.images or sorted(self._truth.truth) or sorted(self._recorded.poses)
        self.stamps = tuple(stamps)
        self._index = StampIndex(self.stamps)
        for contents in (self._recorded,) if self._truth is self._recorded else (self._recorded, self._truth):
            contents.align(self._index)
        self._check_stamps(recorded, self._pictures.bag.path if self.has_images else truth_bag.path)
        self._all_stamps = frozenset(self.stamps)
        if truth_bag is not bag:
            self.stamps = self._part(self.stamps)
        self.has_segmentation = bool(self._recorded.segmentation and self._truth.truth_segmentation)
        self.classes = noted_classes(truth_bag) or noted_classes(bag)
        self.landmarks = self._published_names()
        self.slots, self.truth_landmarks = self._truth_names()
        self.fps = frame_rate(self.stamps)

    @property
    def pose_arrays(self) -> int:
        """Number of recorded pose arrays."""
        return sum(len(messages) for messages in self._recorded.poses.values())

    @property
    def duplicated(self) -> int:
        """Number of duplicate pose arrays of an image."""
        return self.pose_arrays - len(self._recorded.poses)

    @property
    def resent(self) -> int:
        """Number of repeated publications of an image by a replay."""
        return len(self._recorded.source) - len(set(self._recorded.source.values()))

    @property
    def repeated_images(self) -> int:
        """Number of images with the stamp of an earlier image."""
        return self._pictures.repeated_images

    @property
    def unmatched_poses(self) -> int:
        """Number of pose stamps without an image."""
        return len(self._recorded.poses.keys() - self._all_stamps)

    @property
    def nearest_unmatched_ns(self) -> int | None:
        """Smallest distance of an unmatched pose stamp to an image, ns; None if all are matched."""
        return self._nearest(self._recorded.poses.keys() - self._all_stamps)

    @property
    def rounded_poses(self) -> int:
        """Number of pose arrays matched within the tolerance."""
        return self._recorded.rounded

    @property
    def stamp_tolerance_ns(self) -> int:
        """Maximum distance between the stamps of a pose array and its image, ns."""
        return self._index.tolerance_ns

    @property
    def unmatched_truth(self) -> int:
        """Number of annotation stamps without an image."""
        return len(self._truth.truth.keys() - self._all_stamps)

    @property
    def not_replayed(self) -> int:
        """Number of ground-truth images that a partial replay did not publish; not counted as dropped."""
        return len(self._all_stamps) - len(self.stamps)

    @property
    def offline(self) -> bool:
        """Whether poses were recorded at their image stamps, which makes timing meaningless."""
        custom = self._recorded.bag.custom
        return any(custom.get(key) == value for note in (OFFLINE, ORIGINAL_STAMPS) for key, value in note.items())

    @property
    def replayed(self) -> bool:
        """Whether image stamps are publication times."""
        return bool(self._recorded.source) and not self.offline

    @property
    def image_recorded(self) -> Mapping[int, int]:
        """Stamp -> recording time of the image in the poses bag, ns; empty without images."""
        return self._recorded.images

    @property
    def reception_ns(self) -> list[int]:
        """Sorted recording times of the pose arrays, ns."""
        return sorted(message.time_ns for messages in self._recorded.poses.values() for message in messages)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of both bags."""
        return tuple(dict.fromkeys([*self._recorded.bag.files, *self._truth.bag.files]))

    def frames(self) -> Iterator[Frame]:
        """Yield the frames one by one; buffers a bounded number of label maps.

        Raises:
            BagError: Poses or label maps have another image size, or a message is broken.
        """
        wanted = set(self.stamps)
        predicted = LabelMaps(self._recorded, topics.SEGMENTATION, self._recorded.segmentation & wanted)
        true = LabelMaps(self._truth, topics.TRUTH_SEGMENTATION, self._truth.truth_segmentation & wanted)
        for index, (stamp, message) in enumerate(self._images()):
            image = None if message is None else self._image(message)
            landmarks, labelled, truth_size = self._annotation(stamp)
            answer = self._answer(stamp, predicted.take(stamp))
            true_map = true.take(stamp)
            size = next(
                (found for found in (None if image is None else image.shape[:2], truth_size) if found and min(found) > 0), None
            )
            if size is None:
                size = (0, 0) if answer is None else answer.result.size
            if answer is not None:
                answer = replace(answer, result=self._sized(answer.result, size, index))
            if true_map is not None and true_map.shape != size:
                raise _other_size(f"The true label map of image {index}", self._truth.bag.path, true_map.shape, size)
            yield Frame(index, stamp, size, image, landmarks, labelled, true_map, answer)

    def _images(self) -> Iterator[tuple[int, RawMessage | None]]:
        """(stamp, image) of each frame, in recording order."""
        if not self.has_images or self._pictures.image_topic is None:
            yield from ((stamp, None) for stamp in self.stamps)
            return
        wanted = set(self.stamps)
        for stamp, message in stream(self._pictures, self._pictures.image_topic):
            if stamp in wanted:  # ignore duplicates
                wanted.remove(stamp)
                yield stamp, message

    def _part(self, stamps: tuple[int, ...]) -> tuple[int, ...]:
        """The frames that a partial replay published; all if unknown."""
        published = set(self._recorded.source.values())
        if published:
            return tuple(stamp for stamp in stamps if stamp in published)
        if self.offline:  # every processed image has poses
            first, last = min(self._recorded.poses), max(self._recorded.poses)
            return tuple(stamp for stamp in stamps if first <= stamp <= last)
        return stamps

    def _image(self, message: RawMessage) -> Image | None:
        try:
            return self._decode(self._pictures.bag.deserialize(message))
        except (BagError, ImageError) as error:
            self.unusable[str(error)] += 1
            return None

    def _annotation(self, stamp: int) -> tuple[FloatArray, npt.NDArray[np.bool_], Size | None]:
        shape = (len(self.slots), len(self.truth_landmarks))
        landmarks, labelled = np.full((*shape, 2), np.nan), np.zeros(shape, bool)
        message = self._truth.truth.get(stamp)
        if message is None:
            return landmarks, labelled, None
        truth = self._read_truth(message)
        columns = [self.truth_landmarks.index(name) for name in truth.names]
        for row, slot in enumerate(numbered(truth.slots)):
            landmarks[self.slots.index(slot), columns] = truth.landmarks[row]
            labelled[self.slots.index(slot), columns] = truth.labelled[row]
        return landmarks, labelled, truth.size

    def _answer(self, stamp: int, mask: Image | None) -> Answer | None:
        messages = self._recorded.poses.get(stamp)
        if not messages:
            return None
        message = self._recorded.bag.deserialize(messages[0])
        found = read_pose_array(message)
        result = replace(found, instruments=tuple(self._aligned(one) for one in found.instruments), label_map=mask)
        return Answer(result, messages[0].stamp_ns, messages[0].time_ns, str(message.model))

    def _aligned(self, instrument: InstrumentEstimate) -> InstrumentEstimate:
        """Reorder the landmarks; invalid positions become invisible regardless of the message."""
        given = {landmark.name: landmark for landmark in instrument.landmarks}
        unknown = np.full((2, 2), np.nan)
        landmarks = []
        for name in self.landmarks:
            landmark = given.get(name, LandmarkEstimate(name, math.nan, math.nan, unknown, 0.0, False))
            if not (abs(landmark.x) < _FAR_PX and abs(landmark.y) < _FAR_PX):  # also false for NaN
                self.nan_landmarks += landmark.visible
                landmark = replace(landmark, x=math.nan, y=math.nan, visible=False)
            landmarks.append(landmark)
        return replace(instrument, landmarks=tuple(landmarks))

    def _sized(self, result: TrackingResult, size: Size, index: int) -> TrackingResult:
        if min(result.size) == 0:  # the publisher does not set the size
            result = replace(result, size=size)
        for what, found in (
            ("The poses", result.size),
            ("The label map", size if result.label_map is None else result.label_map.shape),
        ):
            if tuple(found) != tuple(size):
                raise _other_size(f"{what} to image {index}", self._recorded.bag.path, found, size)
        return result

    def _read_truth(self, message: RawMessage) -> GroundTruth:
        try:
            return read_truth_array(self._truth.bag.deserialize(message))
        except ValueError as error:
            raise BagError(
                f"The ground truth at {message.stamp_ns * 1e-9:.3f} s of the bag {self._truth.bag.path} has instruments with"
                " different landmarks; give all of them the same names in the same order."
            ) from error

    def _published_names(self) -> tuple[str, ...]:
        names: dict[str, None] = {}
        for messages in self._recorded.poses.values():
            for pose in self._recorded.bag.deserialize(messages[0]).poses:
                names.update(dict.fromkeys(str(landmark.name) for landmark in pose.landmarks))
        return tuple(names)

    def _truth_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        slots: dict[str, None] = {}
        names: dict[str, None] = {}
        for message in self._truth.truth.values():
            truth = self._read_truth(message)
            slots.update(dict.fromkeys(numbered(truth.slots)))
            names.update(dict.fromkeys(truth.names))
        return tuple(slots), tuple(names)

    def _nearest(self, stamps: Set[int]) -> int | None:
        nearest = ((stamp, self._index.nearest(stamp)) for stamp in stamps)
        return min((abs(found - stamp) for stamp, found in nearest if found is not None), default=None)

    def _check_stamps(self, recorded: Path, other: Path) -> None:
        if self._recorded.poses.keys() & set(self.stamps):
            return
        what = "images" if self.has_images else "ground truth"
        nearest = self._nearest(self._recorded.poses.keys())
        apart = "" if nearest is None else f" (the nearest are {nearest / 1e6:.3f} ms apart)"
        raise BagError(
            f"No pose array on {self.poses_topic} of the bag {recorded} has the stamp of one of the {what} in {other}: the"
            f" poses run from {_range(self._recorded.poses)} and the {what} from {_range(self.stamps)}{apart}; name the bag"
            " that was tracked, with --ground-truth, and let the publisher copy the header of the image."
        )


def numbered(names: tuple[str, ...]) -> list[str]:
    """Make names unique by numbering duplicates."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return unique


def _other_size(what: str, path: Path, found: tuple[int, ...], size: Size) -> BagError:
    return BagError(
        f"{what} in the bag {path}: {found[1]}x{found[0]} px, while the image has {size[1]}x{size[0]} px; compare poses with"
        " the truth of the very images that were tracked."
    )


def _range(stamps: Mapping[int, Any] | tuple[int, ...]) -> str:
    return f"{min(stamps) * 1e-9:.3f} s to {max(stamps) * 1e-9:.3f} s" if stamps else "none"
