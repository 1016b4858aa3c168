"""Maps the landmarks and classes of a dataset to those of a model, by name.

Landmarks or classes of the model that the dataset lacks are an error, unless the dataset is declared partial. Then

* a missing landmark counts as unlabelled and is ignored in training and evaluation;
* a class that the model lacks is mapped to the model's class that contains it, by :data:`WHOLE`: wrist and clasper are part of
  ``manipulator``, all of them of ``tool``. If there is no such class (such as whole-tool masks for a model with shaft and
  manipulator), the pixels become 255 (ignored);
* background stays background.

A dataset without masks is always accepted; its label maps are None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from csl_tracker.datasets.folders import composed
from csl_tracker.datasets.sample import Sequence
from csl_tracker.errors import ConfigError, WeightsError
from csl_tracker.instruments import IGNORE_LABEL, InstrumentSet

WHOLE: Mapping[str, str] = {"wrist": "manipulator", "clasper": "manipulator", "shaft": "tool", "manipulator": "tool"}
"""Class -> the class that contains it."""
IGNORE = "ignore"
"""Target name of classes to ignore in training and evaluation."""


@dataclass(frozen=True)
class Matching:
    """Rules for matching names.

    Attributes:
        partial: The dataset may lack landmarks and classes.
        landmarks: Landmark name in the dataset -> in the model.
        classes: Class name in the dataset -> in the model, or ``ignore``.
    """

    partial: bool = False
    landmarks: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)


def parse_matching(
    landmarks: Iterable[str],
    classes: Iterable[str],
    partial: bool,
    sequences: Iterable[Sequence],
    instruments: InstrumentSet,
    what: str,
) -> Matching:
    """Parse the renamings of a configuration or a command line.

    Args:
        landmarks: ``THEIRS=OURS`` entries: name in the dataset and in the model.
        classes: The same for classes; ``THEIRS=ignore`` ignores a class.
        partial: The dataset may lack landmarks and classes.
        sequences: Sequences of the dataset.
        instruments: The landmarks and classes of the model.
        what: Name of the dataset, for the message.

    Raises:
        ConfigError: An entry is not ``THEIRS=OURS``, or a name is unknown.
    """
    known = list(sequences)
    renamed = []
    for key, entries in (("landmarks", landmarks), ("classes", classes)):
        theirs = {composed(name): name for sequence in known for name in getattr(sequence, key)}
        ours = {*getattr(instruments, key), *((IGNORE,) if key == "classes" else ())}
        table: dict[str, str] = {}
        for entry in entries:
            name, _, other = (part.strip() for part in entry.rpartition("="))
            if composed(name) not in theirs or other not in ours:
                raise ConfigError(
                    f"The {key} {what} hold {entry!r}; write THEIRS=OURS with theirs of"
                    f" {', '.join(sorted(theirs)) or '(none)'} and ours of {', '.join(sorted(ours))}."
                )
            table[theirs[composed(name)]] = other
        renamed.append(table)
    return Matching(partial, *renamed)


@dataclass(frozen=True)
class NameMap:
    """Mapping of a sequence's landmarks and labels to those of a model.

    Attributes:
        order: Index in the sequence of each landmark of the model; -1 if missing.
        labels: uint8 (256,), label of the sequence -> label of the model; None if there are no masks or the model has no
            classes.
        tools: uint8 (256,), label of the sequence -> 1 tool (any class), 0 background, 255 unknown; None like ``labels``.
        key: Empty for strict matching; else a text that identifies the mapping.
    """

    order: tuple[int, ...]
    labels: npt.NDArray[np.uint8] | None
    tools: npt.NDArray[np.uint8] | None
    key: str


def map_names(sequence: Sequence, instruments: InstrumentSet, matching: Matching | None = None) -> NameMap:
    """Match the names of a sequence to those of a model.

    Landmarks unknown to the model are dropped, as are label maps if the model has no classes.

    Raises:
        WeightsError: The sequence lacks a landmark or the classes differ, and the dataset is not partial; or two landmarks
            are mapped to one.
    """
    matching = matching or Matching()
    known = [matching.landmarks.get(name, name) for name in sequence.landmarks]
    twice = next((name for name in instruments.landmarks if known.count(name) > 1), None)
    if twice is not None:
        raise WeightsError(f"Two landmarks of the sequence {sequence.name} are to be {twice!r}; rename only one of them so.")
    missing = [name for name in instruments.landmarks if name not in known]
    if missing and not matching.partial:
        raise WeightsError(
            f"The weights are for other landmarks than the dataset's: they have {', '.join(missing)}, and the sequence"
            f" {sequence.name} has {', '.join(known) or 'none'}; use weights that were trained for this dataset."
        )
    order = tuple(known.index(name) if name in known else -1 for name in instruments.landmarks)
    labels, tools = _label_tables(sequence, instruments, matching) or (None, None)
    loose = matching.partial or matching.landmarks or matching.classes
    key = json.dumps([order, None if labels is None else labels.tolist()]) if loose else ""
    return NameMap(order, labels, tools, key)


def _label_tables(
    sequence: Sequence, instruments: InstrumentSet, matching: Matching
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None:
    if len(instruments.classes) < 2 or len(sequence.classes) < 2:
        return None
    known = [matching.classes.get(name, name) for name in sequence.classes]
    if set(known) - {IGNORE} != set(instruments.classes) and not matching.partial:
        raise WeightsError(
            f"The weights are for other classes than the dataset's: they have {', '.join(instruments.classes)}, and the"
            f" sequence {sequence.name} has {', '.join(known)}; use weights that were trained for this dataset."
        )
    labels, tools = np.full((2, 256), IGNORE_LABEL, np.uint8)
    has_parts_of = {whole for name in instruments.classes for whole in _wholes(name)}
    for value, name in enumerate(known):
        found = next((whole for whole in _wholes(name) if whole in instruments.classes), None)
        if found is not None:
            labels[value] = instruments.classes.index(found)
        if found is not None or name in has_parts_of:
            tools[value] = found != instruments.classes[0]
    return labels, tools


def _wholes(name: str) -> list[str]:
    """A class and all classes that contain it, smallest first."""
    chain = [name]
    while chain[-1] in WHOLE:
        chain.append(WHOLE[chain[-1]])
    return chain
