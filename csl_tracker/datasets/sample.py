"""The sample and sequence types of all datasets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Image
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.pixels import Size


@dataclass(frozen=True)
class Sample:
    """One labelled frame.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        label_map: uint8 (H, W), 0 background, then the classes in the dataset's order, 255 ignore; None without masks.
        landmarks: float64 (instruments, landmarks, 2), (x, y) in px of this image; NaN if not visible or not labelled.
        labelled: bool (instruments, landmarks), annotation mask; False excludes a landmark from training and evaluation. A
            landmark that is labelled and NaN is known to be absent.
        sequence: Name of the sequence.
        frame: Number of the frame in its sequence, from 0.
        stamp_ns: Time since the start of the sequence, ns.
        instances: uint8 (H, W), instrument of each pixel: 0 none, k for slot k - 1, 255 unknown; None if not available.
        anchors: float64 (instruments, 2), px, anchor landmark of each instrument (:attr:`InstrumentSet.anchor`), also if hidden
            or out of view, NaN if unknown; None if not available.
    """

    image: Image
    label_map: Image | None
    landmarks: npt.NDArray[np.float64]
    labelled: npt.NDArray[np.bool_]
    sequence: str
    frame: int
    stamp_ns: int
    instances: Image | None = None
    anchors: npt.NDArray[np.float64] | None = None

    @property
    def all_anchors(self) -> npt.NDArray[np.float64]:
        """The anchors, float64 (instruments, 2), px; NaN if unknown or not available."""
        return np.full((len(self.landmarks), 2), np.nan) if self.anchors is None else self.anchors

    @property
    def visible(self) -> npt.NDArray[np.bool_]:
        """Bool (instruments, landmarks): labelled and in view."""
        return np.asarray(self.labelled & np.isfinite(self.landmarks).all(axis=-1))


@runtime_checkable
class Sequence(Protocol):
    """A stream of samples of equal size; can be iterated repeatedly and does not hold all frames in memory."""

    @property
    def name(self) -> str:
        """Name within its dataset, such as ``Dataset3``."""

    @property
    def landmarks(self) -> tuple[str, ...]:
        """Landmark names, in the order of ``Sample.landmarks``."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the label values."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the instruments, in the order of ``Sample.landmarks``: ``left``, ``right``, ...; at least one."""

    @property
    def fps(self) -> float:
        """Frame rate, 1/s."""

    @property
    def size(self) -> Size:
        """(height, width) of each frame, px."""

    def __len__(self) -> int:
        """Number of frames."""

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples in temporal order."""


def renumbered(instances: Image, before: int) -> Image:
    """Instances that follow ``before`` others in one frame; unknown (255) where their number exceeds uint8."""
    numbered = (instances > 0) & (instances != IGNORE_LABEL)
    return np.where(numbered, np.minimum(instances.astype(np.int64) + before, IGNORE_LABEL), instances).astype(np.uint8)


def share_of_frames(count: int, first: float, last: float) -> range:
    """The frames between two fractions (0..1) of a sequence; adjacent ranges neither overlap nor leave gaps."""
    # 1 - (1 - 0.3) != 0.3: the inner rounding makes values at .5 round consistently.
    return range(round(round(count * first, 6)), round(round(count * last, 6)))
