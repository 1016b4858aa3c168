"""What a bag's annotation names, as the sequence that evaluators expect."""

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

_LOOKED_AT = 20
"""Frames at the beginning of a bag in which an annotation is looked for."""


@dataclass(frozen=True)
class BagLabels:
    """Names in a bag's annotation; the frames are read by :meth:`csl_tracker.evaluation.recorded_bag.RecordedBag.frames`.

    Attributes:
        name: Of the bag.
        landmarks: Names; empty where none are annotated.
        classes: Names of the label values; empty where nobody says.
        slots: Names of the instruments.
        fps: Frames a second.
        size: (height, width) of the first image, px.
        frames: Their number.
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
        """There is nothing to iterate over."""
        raise TypeError("the frames of a bag are read by RecordedBag.frames")


def labels_at_beginning(path: Path, topic: str | None, decode: Callable[[Any], npt.NDArray[np.uint8]]) -> BagLabels:
    """What the first frames of a bag, before anything was tracked, say of its annotation.

    Args:
        path: The bag.
        topic: Topic of the images; None takes the only one.
        decode: From an image message to uint8 (H, W, 3), RGB.

    Raises:
        BagError: The bag cannot be read or has no images.
        ImageError: The first image cannot be used.
    """
    landmarks: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    size: Size = (0, 0)
    stamps: list[int] = []
    with BagReader(path) as bag:
        for frame in islice(bag.frames(topic), _LOOKED_AT):
            if not stamps:
                size = decode(bag.deserialize(frame.image)).shape[:2]
            stamps.append(frame.stamp_ns)
            if not landmarks and frame.truth_poses is not None:
                truth = read_truth_array(bag.deserialize(frame.truth_poses))
                landmarks, slots = truth.names, truth.slots
        count = bag.count(bag.image_topic(topic))
        return BagLabels(bag_name(bag), landmarks, noted_classes(bag), slots, frame_rate(stamps), size, count)


def bag_name(bag: BagReader) -> str:
    """What a bag is called in results."""
    return bag.path.name.split(".")[0]


def noted_classes(bag: BagReader) -> tuple[str, ...]:
    """Names of the label values as the bag's metadata have them; empty without."""
    note = bag.custom.get(CLASSES_NOTE)
    return () if not note else tuple(part.strip() for part in note.split(","))


def frame_rate(stamps: Iterable[int]) -> float:
    """Frames a second by the median distance of stamps, ns, within what a video can have."""
    steps = np.diff(np.array(sorted(stamps), np.int64))
    step = float(np.median(steps)) if len(steps) else 0.0
    return min(max(1e9 / step, 1.0), 240.0) if step > 0 else 25.0
