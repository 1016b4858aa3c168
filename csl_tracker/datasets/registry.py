"""Dataset registry, and reordering of landmarks for a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from csl_tracker.datasets.coco import open_coco
from csl_tracker.datasets.deeplabcut import open_deeplabcut
from csl_tracker.datasets.endovis2015 import open_endovis2015
from csl_tracker.datasets.endovis2015_files import find_sequences
from csl_tracker.datasets.endovis2015_joints import find_endovis2015_joints, open_endovis2015_joints
from csl_tracker.datasets.endovis2015_rigid import find_endovis2015_rigid, open_endovis2015_rigid
from csl_tracker.datasets.endovis2017 import find_endovis2017, open_endovis2017
from csl_tracker.datasets.endovis2018 import find_endovis2018, open_endovis2018
from csl_tracker.datasets.mapping import Matching, map_names
from csl_tracker.datasets.retinal import open_retinal
from csl_tracker.datasets.sample import Sample, Sequence
from csl_tracker.datasets.surgpose import find_surgpose, open_surgpose
from csl_tracker.errors import DatasetError
from csl_tracker.instruments import IGNORE_LABEL, InstrumentSet
from csl_tracker.pixels import Size


@runtime_checkable
class FileSequence(Sequence, Protocol):
    """A sequence stored on disk."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All input files."""


Opener = Callable[[str | os.PathLike[str], Iterable[str] | None], Iterable[FileSequence]]

DATASETS: Mapping[str, Opener] = {
    "coco": open_coco,
    "deeplabcut": open_deeplabcut,
    "endovis2015": open_endovis2015,
    "endovis2015_joints": open_endovis2015_joints,
    "endovis2015_rigid": open_endovis2015_rigid,
    "endovis2017": open_endovis2017,
    "endovis2018": open_endovis2018,
    "retinal": open_retinal,
    "surgpose": open_surgpose,
    "synthetic": open_endovis2015,  # written in the same layout
}
"""Dataset name -> function that opens its sequences."""


def open_dataset(name: str, root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[FileSequence]:
    """Open a dataset by name.

    Args:
        name: One of ``DATASETS``.
        root: Its folder.
        sequences: Sequence names; None for all.

    Raises:
        DatasetError: The name is unknown, or the folder does not contain that dataset.
    """
    if name not in DATASETS:
        raise DatasetError(f"There is no dataset {name!r}; known are {', '.join(sorted(DATASETS))}.")
    return list(DATASETS[name](root, sequences))


FINDERS: Mapping[str, Callable[[str | os.PathLike[str]], Iterable[str]]] = {
    "endovis2015": find_sequences,
    "endovis2015_joints": find_endovis2015_joints,
    "endovis2015_rigid": find_endovis2015_rigid,
    "endovis2017": find_endovis2017,
    "endovis2018": find_endovis2018,
    "surgpose": find_surgpose,
    "synthetic": find_sequences,
}
"""Dataset name -> function that lists its sequence names without opening them."""


def sequence_names(name: str, root: str | os.PathLike[str]) -> list[str]:
    """Sequence names of a dataset, without opening the sequences if possible.

    Args:
        name: One of ``DATASETS``.
        root: Its folder.

    Raises:
        DatasetError: See :func:`open_dataset`.
    """
    return list(FINDERS[name](root)) if name in FINDERS else [sequence.name for sequence in open_dataset(name, root)]


class SelectedSequence:
    """A sequence with landmarks and labels in the order of an instrument set; see :func:`select_landmarks`.

    Attributes:
        mapping: Key of the name mapping, for caches; empty for strict matching.
    """

    def __init__(self, sequence: Sequence, instruments: InstrumentSet, matching: Matching | None = None) -> None:
        self._sequence = sequence
        names = map_names(sequence, instruments, matching)
        self._there = np.array([index >= 0 for index in names.order], bool)
        self._order = [index for index in names.order if index >= 0]
        self._lut = names.labels
        self._tools = names.tools
        self.mapping = names.key
        self.name = sequence.name
        self.landmarks = instruments.landmarks
        self.classes = instruments.classes
        self.slots = sequence.slots
        self.fps = sequence.fps
        self.size: Size = sequence.size
        self.files: tuple[Path, ...] = sequence.files if isinstance(sequence, FileSequence) else ()

    @property
    def labelled(self) -> tuple[str, ...]:
        """Landmarks of the set that exist in the sequence."""
        return tuple(name for name, there in zip(self.landmarks, self._there, strict=True) if there)

    @property
    def segmented(self) -> frozenset[int]:
        """Labels of the set's classes (without background) for which the sequence has masks."""
        return frozenset() if self._lut is None else frozenset(self._lut.tolist()) - {0, IGNORE_LABEL}

    @property
    def tells_tools(self) -> bool:
        """Whether the sequence has tool masks, of any class."""
        return self._tools is not None and bool((self._tools == 1).any())

    def tools(self, sample: Sample) -> npt.NDArray[np.uint8] | None:
        """Binary tool map of an original sample.

        Whole-tool masks count here even if the set has only parts, where :meth:`convert` must ignore them.

        Returns:
            uint8 (H, W), 1 tool, 0 background, 255 unknown; None without masks.
        """
        if sample.label_map is None or self._tools is None or not self.tells_tools:
            return None
        return np.asarray(np.take(self._tools, sample.label_map), np.uint8)

    def __len__(self) -> int:
        return len(self._sequence)

    def __iter__(self) -> Iterator[Sample]:
        for sample in self._sequence:
            yield self.convert(sample)

    def convert(self, sample: Sample) -> Sample:
        """Reorder a sample of the original sequence."""
        shape = (len(sample.landmarks), len(self.landmarks))
        landmarks, labelled = np.full((*shape, 2), np.nan), np.zeros(shape, bool)
        landmarks[:, self._there] = sample.landmarks[:, self._order]
        labelled[:, self._there] = sample.labelled[:, self._order]
        return replace(
            sample,
            landmarks=landmarks,
            labelled=labelled,
            label_map=None if sample.label_map is None or self._lut is None else np.take(self._lut, sample.label_map),
        )


def select_landmarks(sequence: Sequence, instruments: InstrumentSet, matching: Matching | None = None) -> SelectedSequence:
    """Reorder a sequence's landmarks and classes to those of a model; see :mod:`csl_tracker.datasets.mapping`.

    Args:
        sequence: Any sequence.
        instruments: The landmarks and classes of the model.
        matching: Rules for differing names; None for strict matching.

    Raises:
        WeightsError: The sequence lacks a landmark or a class of the model.
    """
    return SelectedSequence(sequence, instruments, matching)
