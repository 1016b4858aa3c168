"""What got better or worse from one evaluation to another: files of ``evaluate-bag`` or of ``evaluate``.

Values are paired by sequence, stamp (or frame number), instrument and landmark. The interval of a mean difference is that of
:mod:`csl_tracker.evaluation.statistics`: blocks of consecutive frames are drawn again, for neighbouring frames are not
independent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.errors import ConfigError
from csl_tracker.evaluation import statistics
from csl_tracker.evaluation.runs import LandmarkErrors, Run, SequenceResult
from csl_tracker.evaluation.statistics import BLOCK_FRAMES, QUANTITIES, RESAMPLES, Quantity
from csl_tracker.metrics import KBB_ALPHA
from csl_tracker.reporting.table import Cell, Column, Table, cell_text

EVALUATE_BAG = "evaluate-bag"
_KINDS = {EVALUATE_BAG: "csl-tracker evaluate-bag", "evaluate": "csl-tracker evaluate"}


def _missed(part: SequenceResult) -> dict[tuple[int, ...], float]:
    return {
        (int(frame), int(slot), index): float(value)
        for index, marks in enumerate(part.landmarks.values())
        for frame, slot, value in zip(marks.frame, marks.slot, marks.missed, strict=True)
    }


def _within_box(part: SequenceResult) -> dict[tuple[int, ...], float]:
    """As ``csl_tracker.metrics.kbb_score``: an instrument without a box does not enter, no guess is not below."""
    return {
        (int(frame), int(slot), index): float(error < KBB_ALPHA * side)
        for index, marks in enumerate(part.landmarks.values())
        for frame, slot, error, side in zip(marks.frame, marks.slot, marks.error, marks.box, strict=True)
        if math.isfinite(side)
    }


def _per_frame(part: SequenceResult, key: str) -> dict[tuple[int, ...], float]:
    details = part.report["details"]
    values = details.get(key) or ()
    return {
        (int(stamp),): float(value)
        for stamp, value in zip(details.get("stamp_ns", ()), values, strict=False)
        if value is not None
    }


PAIRED: tuple[Quantity, ...] = (
    *QUANTITIES,
    Quantity(f"kbb_{KBB_ALPHA:g}", "", True, _within_box),
    Quantity("miss_rate", "", False, _missed),
    Quantity("answered", "", True, lambda part: _per_frame(part, "answered")),
    Quantity("latency_ms", "ms", False, lambda part: _per_frame(part, "latency_ms")),
)
"""What has an interval; a quantity that either file lacks is left out."""

BY_LANDMARK = ("landmark_error_px", "threshold_score_20px", f"kbb_{KBB_ALPHA:g}", "miss_rate")
"""Of the paired quantities, those that every landmark has too, as ``QUANTITY LANDMARK``."""

PLAIN: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("landmark_error_px", ("accuracy", "landmark_error_px", "mean"), False),
    ("threshold_score_20px", ("accuracy", "threshold_score_20px"), True),
    ("dice", ("accuracy", "dice"), True),
    ("miss_rate", ("accuracy", "miss_rate"), False),
    ("landmark_error_px.median", ("accuracy", "landmark_error_px", "median"), False),
    ("landmark_error_px.p95", ("accuracy", "landmark_error_px", "p95"), False),
    ("kbb_0.15", ("accuracy", "kbb_0.15"), True),
    ("precision", ("accuracy", "precision"), True),
    ("recall", ("accuracy", "recall"), True),
    ("false_positive_rate", ("accuracy", "false_positive_rate"), False),
    ("jitter.position_px.rms", ("jitter", "position_px", "rms"), False),
    ("jitter.publishing_interval_ms.sd", ("jitter", "publishing_interval_ms", "sd"), False),
    ("latency_ms.p50", ("latency_ms", "p50"), False),
    ("latency_ms.p95", ("latency_ms", "p95"), False),
    ("latency_ms.p99", ("latency_ms", "p99"), False),
    ("latency_ms.max", ("latency_ms", "max"), False),
    ("calibration.ece", ("calibration", "ece"), False),
)
"""What is compared without an interval, unless it could be paired: its name, where it is, whether larger is better."""


@dataclass(frozen=True)
class Report:
    """A file of figures.

    Attributes:
        path: The file.
        name: What it is called in tables.
        kind: ``evaluate-bag`` or ``evaluate``.
        protocol: What has to be equal for two reports to be comparable, in words -> value.
        parts: Sequence -> plain figures, in the form of ``evaluate-bag``.
    """

    path: Path
    name: str
    kind: str
    protocol: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Change:
    """A quantity of report B against report A.

    Attributes:
        sequence: Name of the sequence, or ``all``.
        quantity: Its key.
        a: In A; of paired quantities the mean over what both have.
        b: In B.
        low: Lower end of the interval of ``b - a``; None without an interval.
        high: Upper end.
        verdict: ``better``, ``worse``, ``not separable``; without an interval ``better (no interval)`` and so on.
        units: Number of pairs; None without an interval.
        left_out: Values that only one of the two has, such as those of a frame that the other dropped; None as ``units``.
    """

    sequence: str
    quantity: str
    a: float
    b: float
    low: float | None
    high: float | None
    verdict: str
    units: int | None
    left_out: int | None = None


def read_report(path: Path) -> Report:
    """Read a file of ``csl-tracker evaluate-bag`` or ``csl-tracker evaluate``.

    Raises:
        ConfigError: It cannot be read, is no JSON, or is another command's.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The file {path} cannot be read ({error.strerror}); check its name and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The file {path} is no JSON ({error}); name a file of {' or '.join(_KINDS.values())}.") from error
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
    raise ConfigError(f"The file {path} holds no figures of {' or '.join(_KINDS.values())}; name one that does.")


def check_comparable(a: Report, b: Report) -> None:
    """Make sure that two reports measure the same thing.

    Raises:
        ConfigError: They are of other commands, other truth, other landmarks or other protocols.
    """
    if a.kind != b.kind:
        raise ConfigError(
            f"The file {a.path} is of {_KINDS[a.kind]} and {b.path} of {_KINDS[b.kind]}; compare files of one command."
        )
    for what in dict.fromkeys([*a.protocol, *b.protocol]):
        values = a.protocol.get(what), b.protocol.get(what)
        if values[0] != values[1]:
            raise ConfigError(
                f"The files {a.path} and {b.path} cannot be compared, since {what} differs ({_short(values[0])} and"
                f" {_short(values[1])}); evaluate both in the same way on the same truth."
            )


def compare_reports(a: Report, b: Report, resamples: int = RESAMPLES) -> list[Change]:
    """What changed from ``a`` to ``b``.

    Args:
        a: The first report.
        b: The second report.
        resamples: Of the bootstrap.

    Raises:
        ConfigError: They cannot be compared.
    """
    check_comparable(a, b)
    changes: list[Change] = []
    sequences = {name: {name} for name in a.parts}
    if len(a.parts) > 1:
        sequences = {"all": set(a.parts), **sequences}
    for title, names in sequences.items():
        # One order for both files: units are told apart by the landmark's number, and publishers order theirs differently.
        landmarks = sorted(_landmarks(a, names) | _landmarks(b, names))
        runs = [_run(b, "b", names, landmarks), _run(a, "a", names, landmarks)]
        paired: set[str] = set()
        for quantity in (*PAIRED, *_by_landmark(landmarks)):
            if quantity.key == "answered" and not any(0 in _answered(report, names) for report in (a, b)):
                continue
            found = statistics.compare(runs, "b", "a", quantity, resamples)
            if found.difference is None or found.mean_a is None or found.mean_b is None:
                continue
            paired.add(quantity.key)
            difference = found.difference
            verdict = {"A better": "better", "B better": "worse"}.get(found.verdict, found.verdict)
            if difference.low == difference.high == 0.0:
                verdict = "equal"
            changes.append(
                Change(
                    title,
                    quantity.key,
                    found.mean_b,
                    found.mean_a,
                    difference.low,
                    difference.high,
                    verdict,
                    found.units,
                    found.left_out,
                )
            )
        if title != "all":
            changes += [one for one in _plain(title, a.parts[title], b.parts[title]) if one.quantity not in paired]
    return changes


def as_table(a: Report, b: Report, changes: Sequence[Change]) -> Table:
    """The changes as a table."""
    columns = (
        Column("sequence", "sequence"),
        Column("quantity", "quantity"),
        Column("a", "A"),
        Column("b", "B"),
        Column("difference", "B - A"),
        Column("low", "95 % from"),
        Column("high", "95 % to"),
        Column("verdict", "B is"),
        Column("units", "pairs"),
        Column("left_out", "left out"),
    )
    rows: list[tuple[Cell, ...]] = [
        (one.sequence, one.quantity, one.a, one.b, one.b - one.a, one.low, one.high, one.verdict, one.units, one.left_out)
        for one in changes
    ]
    caption = (
        f"A is {_cell(a.name)}, B is {_cell(b.name)}. Paired by stamp or frame, instrument and landmark; the interval draws"
        f" blocks of {BLOCK_FRAMES} consecutive frames again ({RESAMPLES} times; a fifth of a shorter sequence)."
        " A line without an interval is not paired and says nothing about chance."
    )
    unpaired = [letter for letter, report in (("A", a), ("B", b)) if not _landmarks(report, set(report.parts))]
    if unpaired:
        caption += f" {' and '.join(unpaired)}: no raw figures of landmarks, so that their errors cannot be paired."
    return Table("comparison", f"{_cell(b.name)} against {_cell(a.name)}", caption, columns, tuple(rows))


def as_data(a: Report, b: Report, changes: Sequence[Change]) -> dict[str, Any]:
    """The changes as plain data."""
    return {"a": a.name, "b": b.name, "changes": [{**vars(one), "difference": one.b - one.a} for one in changes]}


def as_html(tables: Sequence[Table]) -> str:
    """A page of the tables that needs nothing from elsewhere."""
    from csl_tracker.reporting.report import page_style

    parts = []
    for table in tables:
        head = "".join(f'<th scope="col">{escape(column.title)}</th>' for column in table.columns)
        texts = [[cell_text(cell, 3) for cell in row] for row in table.rows]
        body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in texts)
        parts.append(
            f'<h2>{escape(table.title)}</h2><p>{escape(table.caption)}</p><div class="scroll" tabindex="0">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        f"<title>Comparison</title><style>\n{page_style()}</style></head><body><h1>Comparison</h1>{''.join(parts)}</body></html>\n"
    )


def _name(path: Path) -> str:
    """File and folder: files of figures often have the same name."""
    return "/".join(part for part in path.parts[-2:] if part != path.anchor)


def _of_bag(path: Path, data: Mapping[str, Any]) -> Report:
    protocol = {
        "the ground truth (truth_sha256)": data["truth_sha256"],
        "the number of frames": data["frames"],
        "the set of scored landmarks": sorted(data["scored_landmarks"]),
    }
    # Not by the name of the bag: the same truth may lie in a file of another name.
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
    """Take the raw figures apart once, so that damaged ones are refused with the name of their file."""
    names = set(report.parts)
    for part in _run(report, "", names, sorted(_landmarks(report, names))).sequences.values():
        for quantity in PAIRED:
            quantity.measure(part)
    return report


def _landmarks(report: Report, names: set[str]) -> set[str]:
    """The landmarks with raw figures."""
    found = [(report.parts[name]["details"].get("landmarks") or {}).items() for name in names]
    return {landmark for items in found for landmark, values in items if values["frame"]}


def _by_landmark(landmarks: Sequence[str]) -> list[Quantity]:
    """The quantities of each landmark by itself, where there is more than one."""

    def of(quantity: Quantity, landmark: str) -> Quantity:
        return replace(
            quantity,
            key=f"{quantity.key} {landmark}",
            measure=lambda part: quantity.measure(replace(part, landmarks={landmark: part.landmarks[landmark]})),
        )

    chosen = [quantity for quantity in PAIRED if quantity.key in BY_LANDMARK]
    return [of(quantity, landmark) for landmark in landmarks for quantity in chosen] if len(landmarks) > 1 else []


def _run(report: Report, model: str, names: set[str], landmarks: Sequence[str]) -> Run:
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
    # Every name, those without an entry too: they keep their place.
    landmarks = {landmark: errors(raw.get(landmark, _NO_ENTRIES)) for landmark in names}
    overlaps = {key: _floats(details.get(key) or ()) for key in ("dice", "precision", "recall")}
    return SequenceResult(name, part, unit(details.get("segmented_frame") or ()), overlaps, landmarks)


def _floats(values: Sequence[float | None]) -> FloatArray:
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _answered(report: Report, names: set[str]) -> set[int]:
    return {value for name in names for value in report.parts[name]["details"].get("answered", ())}


def _plain(sequence: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    changes = []
    for key, place, larger_is_better in PLAIN:
        before, after = _find(a, place), _find(b, place)
        if before is None or after is None:
            continue
        verdict = "equal" if before == after else "better" if (after > before) == larger_is_better else "worse"
        changes.append(Change(sequence, key, before, after, None, None, f"{verdict} (no interval)", None))
    return changes


def _find(data: Any, place: Sequence[str]) -> float | None:
    for key in place:
        data = data.get(key) if isinstance(data, Mapping) else None
    return float(data) if isinstance(data, int | float) else None


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:16]}..." if len(text) > 60 else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
