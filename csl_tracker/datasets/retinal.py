"""Retinal microsurgery (Sznitman et al. 2012, Rieke et al. 2016): 18 in-vivo sequences in the generic COCO layout.

The original annotation files are not publicly available, so the data must first be converted to the layout of
:mod:`csl_tracker.datasets.coco`: frames as image files, keypoints ``left_tip``, ``right_tip`` and ``center`` (the joint) of one
instrument, and optional masks. This module normalises names:

* a sequence name that ends in a number, such as ``seq_3``, ``Sequence 3`` or ``retina/03``, becomes ``Seq03``, as in the
  protocols ``rm_9_9``, ``rm_half_split`` and ``rm_cross_validation``;
* landmarks may use any spelling of :data:`LANDMARK_NAMES`; each class with masks becomes ``tool``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.coco import CocoSequence, open_coco
from csl_tracker.datasets.coco_records import BACKGROUND
from csl_tracker.datasets.folders import choose
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.instruments import IGNORE_LABEL, RETINAL

LANDMARKS = RETINAL.landmarks
CLASSES = RETINAL.classes
LANDMARK_NAMES = {
    "left_tip": ("left_tip", "tip_left", "lefttip", "tip_1", "tip1"),
    "right_tip": ("right_tip", "tip_right", "righttip", "tip_2", "tip2"),
    "center": ("center", "centre", "joint", "center_joint", "centre_joint", "center_point"),
}
"""Landmark -> accepted spellings, after replacing blanks and punctuation by ``_``."""


class RetinalSequence:
    """One sequence; a :class:`csl_tracker.datasets.sample.Sequence`.

    Attributes:
        name: ``Seq01`` to ``Seq18``.
        landmarks: ``LANDMARKS``.
        classes: ``CLASSES`` if there are masks, else only the background.
        slots: Names of the instruments.
        fps: Frame rate, 1/s.
        size: (height, width), px.
        files: All input files.
        notes: Harmless anomalies in the labels, one sentence each.
    """

    landmarks = LANDMARKS

    def __init__(self, name: str, sequence: CocoSequence) -> None:
        """Match the landmarks.

        Raises:
            DatasetError: A landmark is missing.
        """
        self.name = name
        self._sequence = sequence
        known = {re.sub(r"[\W_]+", "_", found.strip().lower()): index for index, found in enumerate(sequence.landmarks)}
        self._order = []
        for landmark in LANDMARKS:
            index = next((known[other] for other in LANDMARK_NAMES[landmark] if other in known), None)
            if index is None:
                raise DatasetError(
                    f"The sequence {sequence.name} of {sequence.files[0]} has the landmarks {', '.join(sequence.landmarks)}"
                    f" and no {landmark}; call the keypoints {', '.join(LANDMARKS)}."
                )
            self._order.append(index)
        self.classes = CLASSES if len(sequence.classes) > 1 else (BACKGROUND,)
        self.slots = sequence.slots
        self.fps = sequence.fps
        self.size = sequence.size
        self.files = sequence.files
        self.images = sequence.images
        self.notes = sequence.notes

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._sequence)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples.

        Raises:
            DatasetError: An image is broken or has another size than stated, or a mask cannot be decoded.
        """
        for sample in self._sequence:
            labels = sample.label_map
            yield replace(
                sample,
                label_map=None if labels is None else np.where(labels == IGNORE_LABEL, labels, labels > 0).astype(np.uint8),
                landmarks=sample.landmarks[:, self._order],
                labelled=sample.labelled[:, self._order],
                sequence=self.name,
            )

    @property
    def all_landmarks(self) -> FloatArray:
        """Landmarks of all frames, float64 (frames, instruments, landmarks, 2), px, without reading the images."""
        return self._sequence.all_landmarks[:, :, self._order]

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Annotation mask of all frames, bool (frames, instruments, landmarks)."""
        return self._sequence.all_labelled[:, :, self._order]


def open_retinal(root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[RetinalSequence]:
    """Open sequences of the retinal-microsurgery dataset.

    Args:
        root: A COCO file, or a folder with COCO files.
        sequences: Names such as ``Seq01``; None for all.

    Raises:
        DatasetError: See :func:`csl_tracker.datasets.coco.open_coco`; or two sequences have the same number, or a landmark
            is missing.
    """
    found: dict[str, CocoSequence] = {}
    for sequence in open_coco(root):
        number = re.search(r"(\d+)$", sequence.name)
        name = f"Seq{int(number[1]):02d}" if number else sequence.name
        if name in found:
            raise DatasetError(
                f"The sequences {found[name].name} and {sequence.name} in {root} are both {name}; give each its own number."
            )
        found[name] = sequence
    return [RetinalSequence(name, sequence) for name, sequence in choose(Path(root), dict(sorted(found.items())), sequences)]
