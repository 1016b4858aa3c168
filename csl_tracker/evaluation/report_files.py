"""Reads and validates the result files of ``evaluate-bag`` and ``evaluate``.

Both contain raw values; :func:`run_of` converts them for :mod:`csl_tracker.evaluation.statistics`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.errors import ConfigError
from csl_tracker.evaluation.paired_quantities import PAIRED
from csl_tracker.evaluation.runs import LandmarkErrors, Run, SequenceResult

EVALUATE_BAG = "evaluate-bag"
KINDS = {EVALUATE_BAG: "csl-tracker evaluate-bag", "evaluate": "csl-tracker evaluate"}
"""File kind -> command that writes it."""


@dataclass(frozen=True)
class Report:
    """A result file.

    Attributes:
        path: The file.
        name: Name in tables.
        kind: ``evaluate-bag`` or ``evaluate``.
        protocol: Properties that must be equal in comparable reports: description -> value.
        parts: Sequence -> plain results, in the form of ``evaluate-bag``.
    """

    path: Path
    name: str
    kind: str
    protocol: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]


def read_report(path: Path) -> Report:
    """Read a result file of ``csl-tracker evaluate-bag`` or ``csl-tracker evaluate``.

    Raises:
        ConfigError: It cannot be read, is not JSON, or is from another command.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The file {path} cannot be read ({error.strerror}); check its name and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"The file {path} is not valid JSON ({error}); name a file of {' or '.join(KINDS.values())}."
        ) from error
    try:
        if isinstance(data, dict) and data.get("kind") == EVALUATE_BAG:
            return _checked(_of_bag(path, data))
        if isinstance(data, dict) and "sequences" in data and "dataset" in data:
            return _checked(_of_dataset(path, data))
    except (IndexError, OverflowError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"The file {path} holds figures that do not fit together ({error}); evaluate again.") from error
    except KeyError as error:
        raise ConfigError(
            f"The file {path} lacks a part that the figures of this version have ({error}); evaluate again."
        ) from error
    raise ConfigError(f"The file {path} holds no figures of {' or '.join(KINDS.values())}; name one that does.")


def landmarks_of(report: Report, names: set[str]) -> set[str]:
    """Landmarks with raw values."""
    found = [(report.parts[name]["details"].get("landmarks") or {}).items() for name in names]
    return {landmark for items in found for landmark, values in items if values["frame"]}


def run_of(report: Report, model: str, names: set[str], landmarks: Sequence[str]) -> Run:
    """Convert sequences of a report for the statistics; each gets all the landmarks, in order."""
    sequences = {name: _sequence(name, part, landmarks) for name, part in report.parts.items() if name in names}
    return Run("", "", model, 0, sequences, {})


_NO_ENTRIES: Mapping[str, Sequence[Any]] = {"frame": (), "slot": (), "error_px": (), "box_px": (), "missed": ()}


def _sequence(name: str, part: Mapping[str, Any], names: Sequence[str]) -> SequenceResult:
    details = part["details"]
    stamps = np.array(details.get("stamp_ns", ()), np.int64)

    def unit(frames: Sequence[int]) -> Any:
        numbers = np.array(frames, np.int64)
        return stamps[numbers] if len(stamps) else numbers

    def errors(found: Mapping[str, Sequence[Any]]) -> LandmarkErrors:
        return LandmarkErrors(
            unit(found["frame"]),
            np.array(found["slot"], np.int64),
            _floats(found["error_px"]),
            _floats(found["box_px"]),
            np.array(found["missed"], bool),
        )

    raw = details.get("landmarks") or {}
    # Include landmarks without an entry, to keep the indices.
    landmarks = {landmark: errors(raw.get(landmark, _NO_ENTRIES)) for landmark in names}
    overlaps = {key: _floats(details.get(key) or ()) for key in ("dice", "precision", "recall")}
    return SequenceResult(name, part, unit(details.get("segmented_frame") or ()), overlaps, landmarks)


def _floats(values: Sequence[float | None]) -> FloatArray:
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _name(path: Path) -> str:
    """File and folder, since result files often have the same name."""
    return "/".join(part for part in path.parts[-2:] if part != path.anchor)


def _of_bag(path: Path, data: Mapping[str, Any]) -> Report:
    protocol = {
        "the ground truth (truth_sha256)": data["truth_sha256"],
        "the number of frames": data["frames"],
        "the set of scored landmarks": sorted(data["scored_landmarks"]),
    }
    # Do not compare bag names: copies of the same ground truth may differ in name.
    return Report(path, _name(path), EVALUATE_BAG, protocol, {"recording": data})


def _of_dataset(path: Path, data: Mapping[str, Any]) -> Report:
    sequences = data["sequences"]
    protocol: dict[str, Any] = {
        "the dataset": data["dataset"],
        "the set of sequences": sorted(sequences),
        "--partial": bool(data.get("partial")),
    }
    for name, part in sequences.items():
        protocol[f"the input of {name} (input_sha256)"] = part["input_sha256"]
        protocol[f"the number of frames of {name}"] = part["frames"]
        protocol[f"--reference-size of {name}"] = part["reference_size"]
        protocol[f"--max-instruments of {name}"] = part["max_instruments"]
        protocol[f"the set of scored landmarks of {name}"] = sorted(
            landmark for landmark, found in part["landmarks"].items() if found["visible"] or found["absent"]
        )
    parts = {name: {"accuracy": part, "details": part.get("details", {})} for name, part in sequences.items()}
    return Report(path, _name(path), "evaluate", protocol, parts)


def _checked(report: Report) -> Report:
    """Evaluate the raw values once, so that errors are reported with the file name."""
    names = set(report.parts)
    for part in run_of(report, "", names, sorted(landmarks_of(report, names))).sequences.values():
        for quantity in PAIRED:
            quantity.measure(part)
    return report
