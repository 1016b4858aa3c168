"""What a protocol file holds, as typed models: parts of sequences, folds, synthetic sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from csl_tracker.datasets.folders import composed
from csl_tracker.datasets.sample import share_of_frames
from csl_tracker.typed import NUMBER, PAIR, SETTINGS, WHOLE, Count, CountOrNone, Name, Positive, Section, Share, Text, mistake

WAYS = ("folds", "leave_one_out", "leave_group_out", "leave_group_out_from")
"""How a file states its folds: by one of these."""


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise mistake(f"names the sequence {twice} twice; name each once")
    return names


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _file_name(name: str) -> str:
    if Path(name).name != name or Path(name).suffix not in (".yaml", ".yml"):
        raise mistake(f"is {name!r}; give the name of a .yaml file in the data's folder")
    return name


Names = Annotated[tuple[Annotated[Name, AfterValidator(composed)], ...], Field(min_length=1), AfterValidator(_each_once)]
"""Names of sequences, each once, in the form in which they are compared."""
Groups = dict[Text, Names]
"""Name of a group -> its sequences."""
EvenSide = Annotated[int, Field(ge=64, multiple_of=2), WHOLE]


@dataclass(frozen=True, config=SETTINGS)
class Part(Section):
    """Frames of some sequences."""

    sequences: Names
    """Names of the sequences."""
    first: Share = 0.0
    """Share of each sequence's frames that comes before."""
    last: Share = 1.0
    """Share of each sequence's frames at which the part ends."""

    def __post_init__(self) -> None:
        """Refuse a part without frames."""
        if not self.first < self.last:
            raise mistake(f"goes from {self.first:g} to {self.last:g}; let first be less than last")

    def frames(self, count: int) -> range:
        """The frames of a sequence that has ``count`` of them."""
        return share_of_frames(count, self.first, self.last)


Parts = Annotated[tuple[Part, ...], Field(min_length=1)]


@dataclass(frozen=True, config=SETTINGS)
class Fold(Section):
    """One split."""

    name: Name
    """Of the fold; a folder is called so."""
    train: Parts
    """What is trained on."""
    validation: Parts
    """What is held back to choose by."""
    test: Parts
    """What is measured on, once."""

    def __post_init__(self) -> None:
        """Refuse frames that serve two purposes."""
        for a, b in (("train", "test"), ("validation", "test"), ("train", "validation")):
            shared = _shared(getattr(self, a), getattr(self, b))
            if shared is not None:
                raise mistake(f"has frames of {shared} both in {a} and in {b} of the fold {self.name}; keep them apart")

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts."""
        return (*self.train, *self.validation, *self.test)


def _shared(some: tuple[Part, ...], others: tuple[Part, ...]) -> str | None:
    """A sequence of which both have the same frames."""
    pairs = ((one, other) for one in some for other in others if one.first < other.last and other.first < one.last)
    return next((name for one, other in pairs for name in one.sequences if name in other.sequences), None)


@dataclass(frozen=True, config=SETTINGS)
class SynthesisGroup(Section):
    """Synthetic sequences whose names and seeds count up."""

    sequences: Names
    """Names of the sequences."""
    frames: Count
    """Number of frames of each."""
    seed: CountOrNone
    """Of the first sequence; the others follow."""


@dataclass(frozen=True, config=SETTINGS)
class Synthesis(Section):
    """What a synthetic dataset is made from."""

    size: Annotated[tuple[EvenSide, EvenSide], PAIR]
    """Height and width, px; even numbers from 64 on."""
    groups: Annotated[tuple[SynthesisGroup, ...], Field(min_length=1)]
    """The sequences."""
    fps: Positive = 25.0
    """Frames a second."""


@dataclass(
    frozen=True,
    config=SETTINGS | ConfigDict(json_schema_extra={"oneOf": [{"required": [way]} for way in WAYS]}),
)
class ProtocolFile(Section):
    """An experiment's splits: which sequences train, validate and test."""

    name: Name
    """Of the protocol."""
    dataset: Name
    """Name of the dataset, one of those in docs/datasets.md."""
    description: Annotated[Text, AfterValidator(_one_line)] = ""
    """What it answers, what it needs, where it is from."""
    settings: Mapping[Text, Any] = field(default_factory=dict)
    """Settings of every training."""
    preset_settings: Mapping[Text, Mapping[Text, Any]] = field(default_factory=dict)
    """Preset -> settings of a training with it, laid over ``settings``."""
    folds: Annotated[tuple[Fold, ...], Field(min_length=1)] | None = None
    """The splits."""
    leave_one_out: Names | None = None
    """Sequences; each is the test once."""
    leave_group_out: Groups | None = None
    """Groups of sequences; each is the test once."""
    leave_group_out_from: Annotated[Name, AfterValidator(_file_name)] | None = None
    """File in the data's folder that names the groups."""
    held_back: Annotated[float, Field(gt=0, lt=1), NUMBER] | None = None
    """Last share of every training sequence, which validates where sequences are left out in turn."""
    synthesis: Synthesis | None = None
    """What the dataset is made from where it is not there."""

    def __post_init__(self) -> None:
        """Refuse a file that states its folds in no way, or in several."""
        ways = [way for way in WAYS if getattr(self, way) is not None]
        if len(ways) != 1:
            raise mistake(f"has {' and '.join(ways) or 'no folds'}; give exactly one of {', '.join(WAYS)}")
        if self.folds is None:
            return
        if self.held_back is not None:
            raise mistake("has held_back beside folds; name the validation parts there instead")
        if len({fold.name for fold in self.folds}) != len(self.folds):
            raise mistake("has two folds of one name; give each its own")
