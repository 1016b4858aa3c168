"""Typed models of a protocol file: parts of sequences, folds, synthetic sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from csl_tracker.datasets.folders import composed
from csl_tracker.datasets.sample import share_of_frames
from csl_tracker.typed import NUMBER, PAIR, SETTINGS, WHOLE, Count, CountOrNone, Name, Positive, Section, Share, Text, mistake

WAYS = ("folds", "leave_one_out", "leave_group_out", "leave_group_out_from")
"""The ways to define folds; a file uses exactly one."""


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


def _two_models(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] == value[1]:
        raise mistake(f"has the comparison {value}; give two different models, [A, B]")
    return value


Names = Annotated[tuple[Annotated[Name, AfterValidator(composed)], ...], Field(min_length=1), AfterValidator(_each_once)]
"""Distinct sequence names in Unicode's composed form."""
Groups = dict[Text, Names]
"""Name of a group -> its sequences."""
EvenSide = Annotated[int, Field(ge=64, multiple_of=2), WHOLE]


@dataclass(frozen=True, config=SETTINGS)
class Part(Section):
    """A range of frames of some sequences."""

    sequences: Names
    """Names of the sequences."""
    first: Share = 0.0
    """Start of the part, as a fraction of each sequence."""
    last: Share = 1.0
    """End of the part, as a fraction of each sequence."""

    def __post_init__(self) -> None:
        """Reject an empty part."""
        if not self.first < self.last:
            raise mistake(f"goes from {self.first:g} to {self.last:g}; let first be less than last")

    def frames(self, count: int) -> range:
        """The frames of a sequence with ``count`` frames."""
        return share_of_frames(count, self.first, self.last)


Parts = Annotated[tuple[Part, ...], Field(min_length=1)]


@dataclass(frozen=True, config=SETTINGS)
class Fold(Section):
    """One split."""

    name: Name
    """Name of the fold and of its folder."""
    train: Parts
    """Training data."""
    validation: Parts
    """Validation data, for model selection."""
    test: Parts
    """Test data, used once."""

    def __post_init__(self) -> None:
        """Reject overlapping parts."""
        for a, b in (("train", "test"), ("validation", "test"), ("train", "validation")):
            shared = _shared(getattr(self, a), getattr(self, b))
            if shared is not None:
                raise mistake(f"has frames of {shared} both in {a} and in {b} of the fold {self.name}; keep them apart")

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts."""
        return (*self.train, *self.validation, *self.test)


def _shared(some: tuple[Part, ...], others: tuple[Part, ...]) -> str | None:
    """A sequence with frames in both, or None."""
    pairs = ((one, other) for one in some for other in others if one.first < other.last and other.first < one.last)
    return next((name for one, other in pairs for name in one.sequences if name in other.sequences), None)


@dataclass(frozen=True, config=SETTINGS)
class SynthesisGroup(Section):
    """Synthetic sequences with consecutive seeds."""

    sequences: Names
    """Names of the sequences."""
    frames: Count
    """Number of frames per sequence."""
    seed: CountOrNone
    """Seed of the first sequence; the others use the following numbers."""


@dataclass(frozen=True, config=SETTINGS)
class Synthesis(Section):
    """Definition of a synthetic dataset."""

    size: Annotated[tuple[EvenSide, EvenSide], PAIR]
    """Height and width, px; even numbers of at least 64."""
    groups: Annotated[tuple[SynthesisGroup, ...], Field(min_length=1)]
    """The sequences."""
    fps: Positive = 25.0
    """Frame rate, 1/s."""


@dataclass(
    frozen=True,
    config=SETTINGS | ConfigDict(json_schema_extra={"oneOf": [{"required": [way]} for way in WAYS]}),
)
class ProtocolFile(Section):
    """An experiment's splits: which sequences train, validate and test."""

    name: Name
    """Name of the protocol."""
    dataset: Name
    """Name of the dataset, one of those in docs/datasets.md."""
    description: Annotated[Text, AfterValidator(_one_line)] = ""
    """Purpose, requirements and source of the protocol."""
    settings: Mapping[Text, Any] = field(default_factory=dict)
    """Settings for all trainings."""
    preset_settings: Mapping[Text, Mapping[Text, Any]] = field(default_factory=dict)
    """Preset -> settings for trainings with this preset; override ``settings``."""
    folds: Annotated[tuple[Fold, ...], Field(min_length=1)] | None = None
    """The splits."""
    leave_one_out: Names | None = None
    """Sequences; each one is the test set of one fold."""
    leave_group_out: Groups | None = None
    """Groups of sequences; each one is the test set of one fold."""
    leave_group_out_from: Annotated[Name, AfterValidator(_file_name)] | None = None
    """File in the data folder that defines the groups."""
    held_back: Annotated[float, Field(gt=0, lt=1), NUMBER] | None = None
    """Fraction at the end of each training sequence used for validation, with the leave-out options."""
    synthesis: Synthesis | None = None
    """Definition of synthetic data, rendered if missing."""
    comparisons: tuple[Annotated[tuple[Name, Name], BeforeValidator(_two_models)], ...] = ()
    """Pairs of models to compare, planned before the first run. By default, the paper's claims and each variant against its
    model."""

    def __post_init__(self) -> None:
        """Reject a file without folds, or with several definitions of them."""
        ways = [way for way in WAYS if getattr(self, way) is not None]
        if len(ways) != 1:
            raise mistake(f"has {' and '.join(ways) or 'no folds'}; give exactly one of {', '.join(WAYS)}")
        if self.folds is None:
            return
        if self.held_back is not None:
            raise mistake("has held_back beside folds; name the validation parts there instead")
        if len({fold.name for fold in self.folds}) != len(self.folds):
            raise mistake("has two folds of one name; give each its own")
