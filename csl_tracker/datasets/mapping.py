"""The landmarks and classes of a dataset as those of a model, which may have others, in another order.

Names are compared. What a model has and a dataset lacks is refused, unless it is said that the dataset may be partial. Then

* a landmark that the dataset lacks is not labelled: it can be neither trained on nor scored;
* a class of the dataset that the model lacks becomes the model's class that it is a part of, by :data:`WHOLE`: wrist and
  clasper are ``manipulator``, and all of them are ``tool``. Where the model has no such class, or only parts of it (a mask of
  whole tools for a model that tells shaft from manipulator), its pixels become 255, ignored;
* background stays background.

A dataset without any masks is no contradiction: its label maps are None whatever the model's classes are.
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
"""Class -> the class that it is a part of."""
IGNORE = "ignore"
"""What a class can be called so that its pixels are neither trained on nor scored."""


@dataclass(frozen=True)
class Matching:
    """How strictly names are compared.

    Attributes:
        partial: The dataset may lack landmarks and classes.
        landmarks: Name of a landmark in the dataset -> in the model.
        classes: Name of a class in the dataset -> in the model, or ``ignore``.
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
    """Read renamings as configurations and commands have them.

    Args:
        landmarks: ``THEIRS=OURS`` each: the dataset's landmark is the one that the model calls so.
        classes: The same for classes; ``THEIRS=ignore`` leaves the pixels of one out.
        partial: The dataset may lack landmarks and classes.
        sequences: Of the dataset.
        instruments: The landmarks and classes of the model.
        what: Whose renamings they are, for the message.

    Raises:
        ConfigError: One is no ``THEIRS=OURS``, or names what neither has.
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
    """Where a sequence's landmarks and labels go.

    Attributes:
        order: For every landmark of the model the index in the sequence, -1 where it lacks it.
        labels: uint8 (256,), label of the sequence -> label of the model; None where there are no masks, or none are wanted.
        tools: uint8 (256,), label of the sequence -> 1 for what is a tool to the model, whichever of its classes, 0 background,
            255 unknown; None as ``labels``.
        key: Empty where names were compared strictly; else a text that differs where the outcome does.
    """

    order: tuple[int, ...]
    labels: npt.NDArray[np.uint8] | None
    tools: npt.NDArray[np.uint8] | None
    key: str


def map_names(sequence: Sequence, instruments: InstrumentSet, matching: Matching | None = None) -> NameMap:
    """Match the names of a sequence to those of a model.

    Landmarks that the model does not have are left out. Label maps are left out for a model without classes.

    Raises:
        WeightsError: The model has a landmark or a class that the sequence lacks, or the other way round a class, and the
            dataset may not be partial; or two landmarks of the sequence are to be one.
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
    """A class, and all that it is a part of, from the smallest on."""
    chain = [name]
    while chain[-1] in WHOLE:
        chain.append(WHOLE[chain[-1]])
    return chain
