"""Datasets by name, and their landmarks in the order of a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from csl_tracker.datasets.coco import open_coco
from csl_tracker.datasets.deeplabcut import open_deeplabcut
from csl_tracker.datasets.endovis2015 import open_endovis2015
from csl_tracker.datasets.sample import Sample, Sequence
from csl_tracker.errors import DatasetError, WeightsError
from csl_tracker.instruments import IGNORE_LABEL, InstrumentSet
from csl_tracker.pixels import Size


@runtime_checkable
class FileSequence(Sequence, Protocol):
    """A sequence that lies on disk."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are read."""


Opener = Callable[[str | os.PathLike[str], Iterable[str] | None], Iterable[FileSequence]]

DATASETS: Mapping[str, Opener] = {
    "coco": open_coco,
    "deeplabcut": open_deeplabcut,
    "endovis2015": open_endovis2015,
    "synthetic": open_endovis2015,  # written in the same layout
}
"""Dataset name -> function that opens its sequences."""


def open_dataset(name: str, root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[FileSequence]:
    """Open a dataset by its name.

    Args:
        name: One of ``DATASETS``.
        root: Its folder.
        sequences: Names of the sequences; None for all of them.

    Raises:
        DatasetError: The name is unknown, or the folder does not hold that dataset.
    """
    if name not in DATASETS:
        raise DatasetError(f"There is no dataset {name!r}; known are {', '.join(sorted(DATASETS))}.")
    return list(DATASETS[name](root, sequences))


class SelectedSequence:
    """A sequence whose landmarks and labels stand in the order of an instrument set; made by :func:`select_landmarks`."""

    def __init__(self, sequence: Sequence, instruments: InstrumentSet) -> None:
        self._sequence = sequence
        self._order = _landmark_order(sequence, instruments)
        self._lut = _label_lut(sequence, instruments)
        self.name = sequence.name
        self.landmarks = instruments.landmarks
        self.classes = instruments.classes
        self.slots = sequence.slots
        self.fps = sequence.fps
        self.size: Size = sequence.size
        self.files: tuple[Path, ...] = sequence.files if isinstance(sequence, FileSequence) else ()

    def __len__(self) -> int:
        return len(self._sequence)

    def __iter__(self) -> Iterator[Sample]:
        for sample in self._sequence:
            yield self.convert(sample)

    def convert(self, sample: Sample) -> Sample:
        """Put a sample of the original sequence into the order of the instrument set."""
        return replace(
            sample,
            landmarks=sample.landmarks[:, self._order],
            labelled=sample.labelled[:, self._order],
            label_map=None if sample.label_map is None or self._lut is None else np.take(self._lut, sample.label_map),
        )


def select_landmarks(sequence: Sequence, instruments: InstrumentSet) -> SelectedSequence:
    """Reorder a sequence's landmarks and classes to those of a model.

    Landmarks that the model does not have are left out. Label maps are left out for a model without classes.

    Raises:
        WeightsError: The model has a landmark or a class that the sequence lacks.
    """
    return SelectedSequence(sequence, instruments)


def _landmark_order(sequence: Sequence, instruments: InstrumentSet) -> list[int]:
    missing = [name for name in instruments.landmarks if name not in sequence.landmarks]
    if missing:
        raise WeightsError(
            f"The weights are for other landmarks than the dataset's: they have {', '.join(missing)}, and the sequence"
            f" {sequence.name} has {', '.join(sequence.landmarks)}; use weights that were trained for this dataset."
        )
    return [sequence.landmarks.index(name) for name in instruments.landmarks]


def _label_lut(sequence: Sequence, instruments: InstrumentSet) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
    if len(instruments.classes) < 2:
        return None
    if set(instruments.classes) != set(sequence.classes):
        raise WeightsError(
            f"The weights are for other classes than the dataset's: they have {', '.join(instruments.classes)}, and the"
            f" sequence {sequence.name} has {', '.join(sequence.classes)}; use weights that were trained for this dataset."
        )
    lut = np.full(256, IGNORE_LABEL, np.uint8)
    for value, name in enumerate(sequence.classes):
        lut[value] = instruments.classes.index(name)
    return lut
