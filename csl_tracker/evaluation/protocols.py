"""Protocols: which sequences train, validate and test. They are data; the shipped ones lie in the folder ``protocols``.

A file holds::

    name: my_protocol
    description: What it answers, what it needs, where it is from.
    dataset: endovis2015
    settings: {steps: 2000}                  # of every training; optional
    preset_settings:                         # of a training with that preset; optional
      paper: {heatmap: {sigma: 7.0}}
    folds:
      - name: only
        train: [{sequences: [A, B], last: 0.9}]
        validation: [{sequences: [A, B], first: 0.9}]
        test: [{sequences: [C]}]

``first`` and ``last`` are shares of a sequence's frames, 0 and 1 when they are left out. Instead of ``folds`` a file may have
one of the shorthands ``leave_one_out: [A, B, C]`` (every sequence is the test once) and ``leave_group_out: {GROUP: [A, B]}``
(every group is), with ``held_back: 0.1``: the last share of every training sequence, which validates. Where only the owner of
the data knows the groups, ``leave_group_out_from: FILE.yaml`` names a file in the data's folder, which has ``GROUP: [A, B]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from csl_tracker.datasets.folders import composed
from csl_tracker.datasets.sample import share_of_frames
from csl_tracker.errors import ConfigError
from csl_tracker.paths import user_path
from csl_tracker.yaml_files import read_yaml, spelled, text_keys

FOLDER = Path(__file__).parent / "protocols"
DEFAULT_HELD_BACK = 0.1
_KEYS = (
    "name",
    "description",
    "dataset",
    "settings",
    "preset_settings",
    "folds",
    "leave_one_out",
    "leave_group_out",
    "leave_group_out_from",
    "held_back",
    "synthesis",
)
_WAYS = ("folds", "leave_one_out", "leave_group_out", "leave_group_out_from")


@dataclass(frozen=True)
class Part:
    """Frames of some sequences.

    Attributes:
        sequences: Their names.
        first: Share of each sequence's frames that comes before, 0..1.
        last: Share of each sequence's frames at which the part ends, 0..1.
    """

    sequences: tuple[str, ...]
    first: float = 0.0
    last: float = 1.0

    def frames(self, count: int) -> range:
        """The frames of a sequence that has ``count`` of them."""
        return share_of_frames(count, self.first, self.last)


@dataclass(frozen=True)
class Fold:
    """One split.

    Attributes:
        name: Of the fold; a folder is called so.
        train: What is trained on.
        validation: What is held back to choose by.
        test: What is measured on, once.
    """

    name: str
    train: tuple[Part, ...]
    validation: tuple[Part, ...]
    test: tuple[Part, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts."""
        return (*self.train, *self.validation, *self.test)


@dataclass(frozen=True)
class SynthesisGroup:
    """Synthetic sequences whose names and seeds count up.

    Attributes:
        sequences: Their names.
        frames: Number of frames of each.
        seed: Of the first sequence; the others follow.
    """

    sequences: tuple[str, ...]
    frames: int
    seed: int


@dataclass(frozen=True)
class Synthesis:
    """What a synthetic dataset is made from.

    Attributes:
        size: (height, width), px; even numbers.
        fps: Frames a second.
        groups: The sequences.
    """

    size: tuple[int, int]
    fps: float
    groups: tuple[SynthesisGroup, ...]


@dataclass(frozen=True)
class Protocol:
    """An experiment's splits.

    Attributes:
        name: Of the protocol.
        description: Plain words.
        dataset: Name of the dataset.
        folds: The splits.
        settings: Settings of every training, as a training configuration has them.
        preset_settings: Preset -> settings of a training with it, laid over ``settings``.
        rotates: Made by a shorthand, so that it can be made again for fewer sequences.
        synthesis: What the dataset is made from where it is not there; None for real data.
        groups_file: Name of the file beside the data that has the groups; there are no folds until :meth:`with_groups` makes
            them.
        held_back: Share of every training sequence that validates, for a protocol with such a file.
    """

    name: str
    description: str
    dataset: str
    folds: tuple[Fold, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rotates: bool = False
    synthesis: Synthesis | None = None
    groups_file: str = ""
    held_back: float = DEFAULT_HELD_BACK

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of all sequences: those that are tested, then the others."""
        parts = [*(part for fold in self.folds for part in fold.test), *(part for fold in self.folds for part in fold.parts)]
        return tuple(dict.fromkeys(name for part in parts for name in part.sequences))

    def with_groups(self, root: Path | None) -> Protocol:
        """The protocol with its folds, where it reads their groups from a file beside the data.

        Args:
            root: Folder of the data.

        Raises:
            ConfigError: The file is not there, or holds no groups.
        """
        if not self.groups_file or self.folds:
            return self
        needs = f"The protocol {self.name} needs the file {self.groups_file} beside the data, which names the groups"
        example = "a line for every group, such as 'forceps: [Seq01, Seq02]' (docs/experiments.md)"
        if root is None:
            raise ConfigError(f"{needs}; give the folder of the data as --root, and write that file there: {example}.")
        path = root / self.groups_file
        if not path.is_file():
            raise ConfigError(f"{needs}, and {path} is not there; write it: {example}.")
        reader = _Reader(f"{self.name} with the groups {path}")
        data = read_yaml(path, f"The groups of the protocol {self.name} in")
        return replace(self, folds=reader.rotated(data, "the groups", self.held_back))

    def renamed(self, names: Mapping[str, str]) -> Protocol:
        """The protocol with other names for some of its sequences; the folds keep theirs."""

        def parts(of: tuple[Part, ...]) -> tuple[Part, ...]:
            return tuple(replace(part, sequences=tuple(names.get(name, name) for name in part.sequences)) for part in of)

        return replace(
            self,
            folds=tuple(Fold(fold.name, parts(fold.train), parts(fold.validation), parts(fold.test)) for fold in self.folds),
        )

    def restricted(self, names: Sequence[str]) -> Protocol:
        """The protocol over fewer sequences; for those that leave sequences out in turn.

        Raises:
            ConfigError: A name is unknown, the protocol has fixed folds, or what is left is too little.
        """
        self.with_groups(None)  # says what is missing
        names = [composed(name) for name in names]
        unknown = [name for name in names if name not in self.sequences]
        if unknown:
            raise ConfigError(f"The protocol {self.name} has no sequence {unknown[0]!r}; it has {', '.join(self.sequences)}.")
        if not self.rotates:
            raise ConfigError(
                f"The protocol {self.name} has fixed folds, which cannot be restricted to some sequences without becoming"
                " another protocol; copy its file, edit it, and give its path."
            )
        kept = set(names)
        folds = []
        for fold in self.folds:
            train, validation, test = (_restricted(parts, kept) for parts in (fold.train, fold.validation, fold.test))
            if train and test:
                folds.append(Fold(fold.name, train, validation, test))
        if len(folds) < 2:
            raise ConfigError(
                f"The protocol {self.name} needs at least two sequences of different folds, one to train on and one to test"
                f" on; {', '.join(names)} leaves {len(folds)} fold(s)."
            )
        return replace(self, folds=tuple(folds))


def shipped_protocols() -> dict[str, Path]:
    """Name -> file of the protocols that come with the package."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def load_protocol(name: str) -> Protocol:
    """Read a shipped protocol by its name, or a file by its path.

    Raises:
        ConfigError: There is no such protocol, or the file is no protocol.
    """
    shipped = shipped_protocols()
    path = shipped.get(name, user_path(name))
    if name not in shipped and path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"There is no protocol {name!r}; choose one of {', '.join(shipped)}, or give the path of a protocol file (.yaml)."
        )
    return parse_protocol(read_yaml(path, "The protocol file"), str(path))


def parse_protocol(data: Any, where: str) -> Protocol:
    """Build and check a protocol.

    Args:
        data: Plain data, as YAML gives it.
        where: What to call it in messages.

    Raises:
        ConfigError: Something is missing, unknown or impossible, or a frame would be trained and tested on.
    """
    reader = _Reader(where)
    table = reader.mapping(data, "the file", _KEYS)
    name = reader.name(table.get("name"), "name")
    ways = [key for key in _WAYS if key in table]
    if len(ways) != 1:
        raise reader.error(f"has {' and '.join(ways) or 'no folds'}; give exactly one of {', '.join(_WAYS)}")
    if "held_back" in table and ways[0] == "folds":
        raise reader.error("has held_back beside folds; name the validation parts there instead")
    held_back = reader.share(table.get("held_back", DEFAULT_HELD_BACK), "held_back")
    groups_file = ""
    folds: tuple[Fold, ...] = ()
    if ways[0] == "leave_group_out_from":
        groups_file = reader.name(table[ways[0]], ways[0])
        if Path(groups_file).name != groups_file or Path(groups_file).suffix not in (".yaml", ".yml"):
            raise reader.error(f"holds {groups_file!r} as {ways[0]}; give the name of a .yaml file in the data's folder")
    elif ways[0] == "folds":
        folds = tuple(reader.fold(item, index) for index, item in enumerate(reader.list(table["folds"], "folds")))
    else:
        groups = table[ways[0]]
        if ways[0] == "leave_one_out":
            groups = {sequence: [sequence] for sequence in reader.names(groups, ways[0])}
        folds = reader.rotated(groups, ways[0], held_back)
    names = [fold.name for fold in folds]
    if len(set(names)) != len(names):
        raise reader.error("has two folds of one name; give each its own")
    for fold in folds:
        _check_apart(fold, reader)
    presets = reader.mapping(table.get("preset_settings") or {}, "preset_settings")
    return Protocol(
        name=name,
        description=" ".join(str(table.get("description", "")).split()),
        dataset=reader.name(table.get("dataset"), "dataset"),
        folds=folds,
        settings=reader.mapping(table.get("settings") or {}, "settings"),
        preset_settings={key: reader.mapping(value, f"preset_settings.{key}") for key, value in presets.items()},
        rotates=ways[0] != "folds",
        synthesis=reader.synthesis(table["synthesis"]) if "synthesis" in table else None,
        groups_file=groups_file,
        held_back=held_back,
    )


class _Reader:
    """Turns plain data into the parts of a protocol, and says where it cannot."""

    def __init__(self, where: str) -> None:
        self.where = where

    def error(self, what: str) -> ConfigError:
        return ConfigError(f"The protocol {self.where} {what}.")

    def mapping(self, data: Any, what: str, known: Iterable[str] = ()) -> dict[str, Any]:
        if not isinstance(data, Mapping):
            raise self.error(f"holds {data!r} as {what}; give a mapping of names to values")
        known = tuple(known)
        table = text_keys(data, f"{what} of the protocol {self.where}")
        unknown = [key for key in table if known and key not in known]
        if unknown:
            raise self.error(f"has the unknown key {unknown[0]!r} in {what}; known are {', '.join(known)}")
        return table

    def list(self, data: Any, what: str) -> list[Any]:
        if not isinstance(data, list) or not data:
            raise self.error(f"holds {data!r} as {what}; give a list that is not empty")
        return data

    def name(self, data: Any, what: str) -> str:
        if data is None or isinstance(data, list | Mapping) or not str(data).strip():
            raise self.error(f"holds {data!r} as {what}; give a text")
        return spelled(data, f"{what} of the protocol {self.where}")

    def names(self, data: Any, what: str) -> tuple[str, ...]:
        names = tuple(composed(self.name(item, what)) for item in self.list(data, what))
        if len(set(names)) != len(names):
            raise self.error(f"names a sequence twice in {what}; name each once")
        return names

    def share(self, data: Any, what: str) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float) or not 0 <= data <= 1:
            raise self.error(f"holds {data!r} as {what}; give a share from 0 to 1")
        return float(data)

    def whole(self, data: Any, what: str, lowest: int) -> int:
        if isinstance(data, bool) or not isinstance(data, int) or data < lowest:
            raise self.error(f"holds {data!r} as {what}; give a whole number from {lowest} on")
        return data

    def part(self, data: Any, what: str) -> Part:
        table = self.mapping(data, what, ("sequences", "first", "last"))
        first, last = self.share(table.get("first", 0.0), f"{what}.first"), self.share(table.get("last", 1.0), f"{what}.last")
        if not first < last:
            raise self.error(f"has a part from {first:g} to {last:g} in {what}; let first be less than last")
        return Part(self.names(table.get("sequences"), f"{what}.sequences"), first, last)

    def fold(self, data: Any, index: int) -> Fold:
        table = self.mapping(data, f"folds[{index}]", ("name", "train", "validation", "test"))
        name = self.name(table.get("name"), f"folds[{index}].name")
        parts = {
            key: tuple(self.part(item, f"{name}.{key}") for item in self.list(table.get(key), f"{name}.{key}"))
            for key in ("train", "validation", "test")
        }
        return Fold(name, **parts)

    def rotated(self, data: Any, what: str, held_back: float) -> tuple[Fold, ...]:
        if not 0 < held_back < 1:
            raise self.error(f"holds {held_back:g} as held_back; give a share between 0 and 1")
        groups = {key: self.names(value, f"{what}.{key}") for key, value in self.mapping(data, what).items()}
        if len(groups) < 2:
            raise self.error(f"leaves out of {len(groups)} in {what}; give at least two")
        everything = [name for names in groups.values() for name in names]
        if len(set(everything)) != len(everything):
            raise self.error(f"has a sequence in two groups of {what}; give each one group")
        split = round(1 - held_back, 9)
        folds = []
        for group, names in groups.items():
            rest = tuple(name for name in everything if name not in names)
            folds.append(Fold(group, (Part(rest, 0.0, split),), (Part(rest, split, 1.0),), (Part(names),)))
        return tuple(folds)

    def synthesis(self, data: Any) -> Synthesis:
        table = self.mapping(data, "synthesis", ("size", "fps", "groups"))
        size = self.list(table.get("size"), "synthesis.size")
        if len(size) != 2 or any(self.whole(side, "synthesis.size", 64) % 2 for side in size):
            raise self.error(f"holds {size!r} as synthesis.size; give height and width, even numbers from 64 on")
        fps = table.get("fps", 25.0)
        if isinstance(fps, bool) or not isinstance(fps, int | float) or not (math.isfinite(fps) and fps > 0):
            raise self.error(f"holds {fps!r} as synthesis.fps; give a positive number")
        groups = []
        for index, item in enumerate(self.list(table.get("groups"), "synthesis.groups")):
            what = f"synthesis.groups[{index}]"
            group = self.mapping(item, what, ("sequences", "frames", "seed"))
            groups.append(
                SynthesisGroup(
                    self.names(group.get("sequences"), f"{what}.sequences"),
                    self.whole(group.get("frames"), f"{what}.frames", 1),
                    self.whole(group.get("seed"), f"{what}.seed", 0),
                )
            )
        return Synthesis((size[0], size[1]), float(fps), tuple(groups))


def _restricted(parts: tuple[Part, ...], kept: set[str]) -> tuple[Part, ...]:
    less = (replace(part, sequences=tuple(name for name in part.sequences if name in kept)) for part in parts)
    return tuple(part for part in less if part.sequences)


def _check_apart(fold: Fold, reader: _Reader) -> None:
    """No frame serves two purposes."""
    for a, b in (("train", "test"), ("validation", "test"), ("train", "validation")):
        for one in getattr(fold, a):
            for other in getattr(fold, b):
                shared = [name for name in one.sequences if name in other.sequences]
                if shared and one.first < other.last and other.first < one.last:
                    raise reader.error(
                        f"has frames of {shared[0]} both in {a} and in {b} of the fold {fold.name}; keep them apart"
                    )
