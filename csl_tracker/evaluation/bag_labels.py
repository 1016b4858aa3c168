"""Names in a bag's ground truth, in the form of a sequence for the evaluators."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.bags.notes import CLASSES_NOTE
from csl_tracker.bags.reader import BagReader
from csl_tracker.datasets.sample import Sample
from csl_tracker.messages.poses import read_truth_array
from csl_tracker.pixels import Size

_PROBED_FRAMES = 20
"""Number of first frames searched for ground truth."""


@dataclass(frozen=True)
class BagLabels:
    """Names in a bag's ground truth; :meth:`csl_tracker.evaluation.recorded_bag.RecordedBag.frames` reads the frames.

    Attributes:
        name: Name of the bag.
        landmarks: Landmark names; empty without annotations.
        classes: Names of the label values; empty if unknown.
        slots: Names of the instruments.
        fps: Frame rate, 1/s.
        size: (height, width) of the first image, px.
        frames: Number of frames.
    """

    name: str
    landmarks: tuple[str, ...]
    classes: tuple[str, ...]
    slots: tuple[str, ...]
    fps: float
    size: Size
    frames: int

    def __len__(self) -> int:
        """Number of frames."""
        return self.frames

    def __iter__(self) -> Iterator[Sample]:
        """Not supported."""
        raise TypeError("the frames of a bag are read by RecordedBag.frames")


def labels_at_beginning(path: Path, topic: str | None, decode: Callable[[Any], npt.NDArray[np.uint8]]) -> BagLabels:
    """Read the names in the ground truth from the first frames of a bag.

    Args:
        path: The bag.
        topic: Topic of the images; None selects the only one.
        decode: Converts an image message to uint8 (H, W, 3), RGB.

    Raises:
        BagError: The bag cannot be read or has no images.
        ImageError: The first image cannot be used.
    """
    landmarks: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    size: Size = (0, 0)
    stamps: list[int] = []
    with BagReader(path) as bag:
        for frame in islice(bag.frames(topic), _PROBED_FRAMES):
            if not stamps:
                size = decode(bag.deserialize(frame.image)).shape[:2]
            stamps.append(frame.stamp_ns)
            if not landmarks and frame.truth_poses is not None:
                truth = read_truth_array(bag.deserialize(frame.truth_poses))
                landmarks, slots = truth.names, truth.slots
        count = bag.count(bag.image_topic(topic))
        return BagLabels(bag_name(bag), landmarks, noted_classes(bag), slots, frame_rate(stamps), size, count)


def bag_name(bag: BagReader) -> str:
    """Name of a bag in results."""
    return bag.path.name.split(".")[0]


def noted_classes(bag: BagReader) -> tuple[str, ...]:
    """Names of the label values from the bag's metadata; may be empty."""
    note = bag.custom.get(CLASSES_NOTE)
    return () if not note else tuple(part.strip() for part in note.split(","))


def frame_rate(stamps: Iterable[int]) -> float:
    """Frame rate, 1/s, from the median interval of stamps in ns, clipped to 1..240; 25 if unknown."""
    steps = np.diff(np.array(sorted(stamps), np.int64))
    step = float(np.median(steps)) if len(steps) else 0.0
    return min(max(1e9 / step, 1.0), 240.0) if step > 0 else 25.0
