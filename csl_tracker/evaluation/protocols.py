"""Protocols define the training, validation and test sequences. They are YAML files; the bundled ones are in ``protocols``.

Format::

    name: my_protocol
    description: What it answers, what it needs, where it is from.
    dataset: endovis2015
    settings: {steps: 2000}                  # for all trainings; optional
    preset_settings:                         # for trainings with that preset; optional
      paper: {heatmap: {sigma: 7.0}}
    folds:
      - name: only
        train: [{sequences: [A, B], last: 0.9}]
        validation: [{sequences: [A, B], first: 0.9}]
        test: [{sequences: [C]}]

``first`` and ``last`` are fractions of a sequence, by default 0 and 1. Instead of ``folds``, a file may use a shorthand,
``leave_one_out: [A, B, C]`` or ``leave_group_out: {GROUP: [A, B]}``: each sequence or group is the test set of one fold.
``held_back: 0.1`` is the fraction at the end of each training sequence used for validation. If the groups are defined with the
data, ``leave_group_out_from: FILE.yaml`` names a file in the data folder with entries ``GROUP: [A, B]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from csl_tracker.datasets.folders import composed
from csl_tracker.errors import ConfigError
from csl_tracker.evaluation.protocol_models import Fold, Groups, Part, ProtocolFile, Synthesis
from csl_tracker.paths import user_path
from csl_tracker.typed import checked
from csl_tracker.yaml_files import read_yaml

FOLDER = Path(__file__).parent / "protocols"
DEFAULT_HELD_BACK = 0.1


@dataclass(frozen=True)
class Protocol:
    """An experiment's splits.

    Attributes:
        name: Name of the protocol.
        description: Description.
        dataset: Name of the dataset.
        folds: The splits.
        settings: Settings for all trainings, as in a training configuration.
        preset_settings: Preset -> settings for trainings with this preset; override ``settings``.
        rotates: Defined by a shorthand, so that it can be restricted to fewer sequences.
        synthesis: Definition of synthetic data, rendered if missing; None for real data.
        groups_file: Name of the groups file in the data folder; folds are empty until :meth:`with_groups`.
        held_back: Fraction of each training sequence used for validation, with a groups file.
        comparisons: Planned pairs of models; empty for the default pairs.
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
    comparisons: tuple[tuple[str, str], ...] = ()

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of all sequences, test sequences first."""
        parts = [*(part for fold in self.folds for part in fold.test), *(part for fold in self.folds for part in fold.parts)]
        return tuple(dict.fromkeys(name for part in parts for name in part.sequences))

    def with_groups(self, root: Path | None) -> Protocol:
        """The protocol with the folds from its groups file, if it has one.

        Args:
            root: Folder of the data.

        Raises:
            ConfigError: The file is missing or invalid.
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
        where = f"The protocol {self.name} with the groups {path}"
        groups = checked(Groups, read_yaml(path, f"The groups of the protocol {self.name} in"), where)
        return replace(self, folds=rotated(groups, where, self.held_back))

    def renamed(self, names: Mapping[str, str]) -> Protocol:
        """The protocol with renamed sequences."""

        def parts(of: tuple[Part, ...]) -> tuple[Part, ...]:
            return tuple(replace(part, sequences=tuple(names.get(name, name) for name in part.sequences)) for part in of)

        return replace(
            self,
            folds=tuple(Fold(fold.name, parts(fold.train), parts(fold.validation), parts(fold.test)) for fold in self.folds),
        )

    def restricted(self, names: Sequence[str]) -> Protocol:
        """The protocol over fewer sequences, for the leave-out shorthands.

        Raises:
            ConfigError: A name is unknown, the protocol has fixed folds, or too few sequences remain.
        """
        self.with_groups(None)  # raises if the groups are missing
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
            if train and validation and test:
                folds.append(Fold(fold.name, train, validation, test))
        if len(folds) < 2:
            raise ConfigError(
                f"The protocol {self.name} needs at least two sequences of different folds, one to train on and one to test"
                f" on; {', '.join(names)} leaves {len(folds)} fold(s)."
            )
        return replace(self, folds=tuple(folds))


def shipped_protocols() -> dict[str, Path]:
    """Name -> file of the bundled protocols."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def load_protocol(name: str) -> Protocol:
    """Read a bundled protocol by name, or a file by path.

    Raises:
        ConfigError: The protocol is unknown, or the file is invalid.
    """
    shipped = shipped_protocols()
    path = shipped.get(name, user_path(name))
    if name not in shipped and path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"There is no protocol {name!r}; choose one of {', '.join(shipped)}, or give the path of a protocol file (.yaml)."
        )
    return parse_protocol(read_yaml(path, "The protocol file"), str(path))


def parse_protocol(data: Any, where: str) -> Protocol:
    """Build and validate a protocol.

    Args:
        data: Plain data from YAML.
        where: Name of the protocol in messages.

    Raises:
        ConfigError: A setting is missing, unknown or invalid, or training and test frames overlap.
    """
    where = f"The protocol {where}"
    file = checked(ProtocolFile, data, where)
    held_back = DEFAULT_HELD_BACK if file.held_back is None else file.held_back
    groups = file.leave_group_out
    if file.leave_one_out is not None:
        groups = {sequence: (sequence,) for sequence in file.leave_one_out}
    return Protocol(
        name=file.name,
        description=file.description,
        dataset=file.dataset,
        folds=(file.folds or ()) if groups is None else rotated(groups, where, held_back),
        settings=file.settings,
        preset_settings=file.preset_settings,
        rotates=file.folds is None,
        synthesis=file.synthesis,
        groups_file=file.leave_group_out_from or "",
        held_back=held_back,
        comparisons=file.comparisons,
    )


def rotated(groups: Mapping[str, tuple[str, ...]], where: str, held_back: float) -> tuple[Fold, ...]:
    """One fold per group, with that group as the test set.

    Args:
        groups: Name of a group -> its sequences.
        where: Name of the protocol in messages.
        held_back: Fraction at the end of each training sequence used for validation.

    Raises:
        ConfigError: There are fewer than two groups, or they share a sequence.
    """
    if len(groups) < 2:
        raise ConfigError(f"{where} leaves out groups in turn and has {len(groups)} of them; give at least two.")
    everything = [name for names in groups.values() for name in names]
    twice = next((name for index, name in enumerate(everything) if name in everything[:index]), None)
    if twice is not None:
        raise ConfigError(f"{where} has the sequence {twice} in two groups; give each one group.")
    split = round(1 - held_back, 9)
    folds = []
    for group, names in groups.items():
        rest = tuple(name for name in everything if name not in names)
        folds.append(Fold(group, (Part(rest, 0.0, split),), (Part(rest, split, 1.0),), (Part(names),)))
    return tuple(folds)


def _restricted(parts: tuple[Part, ...], kept: set[str]) -> tuple[Part, ...]:
    left = ((part, tuple(name for name in part.sequences if name in kept)) for part in parts)
    return tuple(replace(part, sequences=names) for part, names in left if names)
