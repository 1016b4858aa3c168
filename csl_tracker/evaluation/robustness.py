"""Accuracy of weights on corrupted frames: one cell for each kind and severity, beside the clean frames.

The same frames of a labelled sequence are tracked clean and corrupted (:mod:`csl_tracker.datasets.corruptions`). A cell is kept
in the JSON file as soon as it is measured, so that a stopped run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csl_tracker.datasets.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from csl_tracker.datasets.json_file import load_json
from csl_tracker.datasets.mapping import Matching
from csl_tracker.datasets.registry import FileSequence
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.evaluation.sequence import SequenceEvaluator
from csl_tracker.output import write_json

if TYPE_CHECKING:
    from csl_tracker.tracker import Tracker

CLEAN = "clean"
KEPT = ("dice", "landmark_error_px", "threshold_score_20px", "miss_rate", "false_positive_rate", "extra_instruments_per_frame")
"""Figures of a cell, as in ``csl-tracker evaluate``; ``visible`` and ``frames`` are the counts behind them."""
SAME = ("weights_sha256", "input_sha256", "frames", "engine", "precision", "max_instruments")
"""What all cells of a file have in common, beside ``versions``: the versions of the packages."""


@dataclass(frozen=True)
class Bench:
    """What is measured.

    Attributes:
        kinds: Keys of ``CORRUPTIONS``.
        severities: Severities, 1 to 5.
        frames: Number of frames of a sequence, evenly spaced; 0 for all.
    """

    kinds: tuple[str, ...] = tuple(CORRUPTIONS)
    severities: tuple[int, ...] = SEVERITIES
    frames: int = 40

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ConfigError: A kind or severity is unknown.
        """
        unknown = [kind for kind in self.kinds if kind not in CORRUPTIONS]
        if unknown:
            raise ConfigError(f"There is no corruption {unknown[0]!r}; choose from {', '.join(CORRUPTIONS)}.")
        wrong = [severity for severity in self.severities if severity not in SEVERITIES]
        if wrong:
            raise ConfigError(f"There is no severity {wrong[0]}; give numbers from {SEVERITIES[0]} to {SEVERITIES[-1]}.")
        if self.frames < 0:
            raise ConfigError(f"The number of frames is {self.frames}; give one from 1, or 0 for all.")

    def cells(self) -> list[str]:
        """Names of the cells: ``clean`` and ``KIND/SEVERITY``."""
        return [CLEAN, *(f"{kind}/{severity}" for kind in self.kinds for severity in self.severities)]


def chosen_frames(sequence: FileSequence, number: int) -> list[Sample]:
    """A number of evenly spaced frames of a sequence, from the first; 0 for all."""
    length = len(sequence)
    kept = length if number == 0 else min(number, length)
    wanted = {index * length // kept for index in range(kept)}
    return [sample for index, sample in enumerate(sequence) if index in wanted]


def measure(
    tracker: Tracker, sequence: FileSequence, samples: Sequence[Sample], cell: str, matching: Matching
) -> dict[str, Any]:
    """Track the frames of a cell, and score them.

    Args:
        tracker: A tracker with ``always_report``.
        sequence: The sequence of the samples.
        samples: The clean frames.
        cell: ``clean`` or ``KIND/SEVERITY``.
        matching: Rules for differing names.
    """
    evaluator = SequenceEvaluator(sequence, tracker.model.instruments, matching=matching)
    tracker.reset()
    for sample in _corrupted(samples, cell):
        result = tracker.track(sample.image, sample.stamp_ns * 1e-9, segmentation=sample.label_map is not None)
        evaluator.add(sample, result)
    report = evaluator.report()
    error = report["landmark_error_px"]
    kept = {key: report[key] for key in KEPT} | {"landmark_error_px": {key: error[key] for key in ("mean", "median")}}
    return {"frames": report["frames"], "visible": report["visible"], **kept}


def _corrupted(samples: Sequence[Sample], cell: str) -> Iterator[Sample]:
    kind, _, severity = cell.partition("/")
    for sample in samples:
        yield sample if cell == CLEAN else corrupt(sample, kind, int(severity))


class CellFile:
    """The JSON file with the measured cells.

    Args:
        path: The file; an existing one is continued.
        common: Facts about all cells (``SAME``) and their provenance.

    Raises:
        ConfigError: The file is of another kind, or its cells were measured with something else.
        DatasetError: The file cannot be read.
    """

    def __init__(self, path: Path, common: Mapping[str, Any]) -> None:
        self.path = path
        self.data: dict[str, Any] = {**common, "sequences": {}}
        if not path.is_file():
            return
        before = load_json(path, "The file of measured cells")
        if not isinstance(before, dict) or not isinstance(before.get("sequences"), dict):
            raise ConfigError(f"{path} is no file of 'csl-tracker robustness'; give another folder as --out.")
        for key, then, now in self._facts(before, common):
            if then != now:
                raise ConfigError(
                    f"{path} was measured with {key} {then} and not with {now}; give another folder as --out, or remove the"
                    " file."
                )
        self.data["sequences"] = before["sequences"]

    @staticmethod
    def _facts(before: Mapping[str, Any], common: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        """(name, value in the file, value now) of all facts that must be equal."""
        yield from ((key, before.get(key), common[key]) for key in SAME)
        then, now = before.get("versions", {}), common["versions"]
        yield from ((f"version of {name}", then.get(name), now.get(name)) for name in {**now, **then})

    def missing(self, sequence: str, cells: Sequence[str]) -> list[str]:
        """Names of the cells that are not measured yet."""
        known = self.data["sequences"].get(sequence, {})
        return [cell for cell in cells if cell not in known]

    def add(self, sequence: str, cell: str, figures: Mapping[str, Any]) -> None:
        """Keep a cell, on the disk at once."""
        self.data["sequences"].setdefault(sequence, {})[cell] = dict(figures)
        write_json(self.path, self.data)


def run_bench(
    tracker_for: Callable[[int], Tracker],
    sequences: Sequence[FileSequence],
    bench: Bench,
    file: CellFile,
    matching: Matching,
    progress: Callable[[str, str], None],
) -> None:
    """Measure the missing cells of all sequences.

    Args:
        tracker_for: Returns a tracker for a number of instruments.
        sequences: The labelled sequences.
        bench: What is measured.
        file: Where the cells are kept.
        matching: Rules for differing names.
        progress: Called with sequence and cell after each cell.

    Raises:
        DatasetError: A sequence has no frames.
    """
    for sequence in sequences:
        missing = file.missing(sequence.name, bench.cells())
        if not missing:
            continue
        samples = chosen_frames(sequence, bench.frames)
        if not samples:
            raise DatasetError(f"The sequence {sequence.name} has no frames; name another one.")
        tracker = tracker_for(len(sequence.slots))
        for cell in missing:
            file.add(sequence.name, cell, measure(tracker, sequence, samples, cell, matching))
            progress(sequence.name, cell)


def drop(cells: Mapping[str, Mapping[str, Any]], cell: str) -> float | None:
    """DICE of the clean frames minus that of a cell; None without masks."""
    clean, found = cells.get(CLEAN, {}).get("dice"), cells.get(cell, {}).get("dice")
    return None if clean is None or found is None else float(clean - found)
