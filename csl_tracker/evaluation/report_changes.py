"""Compares two evaluations.

Values are paired by sequence, stamp (or frame number), instrument and landmark. Confidence intervals of mean differences come
from :mod:`csl_tracker.evaluation.statistics`, which resamples blocks of consecutive frames, since neighbouring frames are not
independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csl_tracker.errors import ConfigError
from csl_tracker.evaluation import statistics
from csl_tracker.evaluation.paired_quantities import PAIRED, by_landmark
from csl_tracker.evaluation.report_files import KINDS, Report, landmarks_of, run_of
from csl_tracker.evaluation.runs import Run
from csl_tracker.evaluation.statistics import RESAMPLES, Quantity

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
"""Quantities compared without an interval unless paired: (name, path in the report, larger is better)."""


@dataclass(frozen=True)
class Change:
    """Change of a quantity from report A to report B.

    Attributes:
        sequence: Name of the sequence, or ``all``.
        quantity: Its key.
        a: Value in A; for paired quantities, the mean over the common values.
        b: Value in B, likewise.
        low: Lower bound of ``b - a``; None without an interval.
        high: Upper bound of ``b - a``; None without an interval.
        verdict: ``better``, ``worse``, ``not separable``; without an interval ``better (no interval)`` and so on.
        units: Number of pairs; None without an interval.
        left_out: Number of values in only one report, such as those of dropped frames; None without an interval.
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


def check_comparable(a: Report, b: Report) -> None:
    """Check that two reports are comparable.

    Raises:
        ConfigError: They differ in command, ground truth, landmarks or protocol.
    """
    if a.kind != b.kind:
        raise ConfigError(
            f"The file {a.path} is of {KINDS[a.kind]} and {b.path} of {KINDS[b.kind]}; compare files of one command."
        )
    for what in dict.fromkeys([*a.protocol, *b.protocol]):
        values = a.protocol.get(what), b.protocol.get(what)
        if values[0] != values[1]:
            raise ConfigError(
                f"The files {a.path} and {b.path} cannot be compared, since {what} differs ({_short(values[0])} and"
                f" {_short(values[1])}); evaluate both in the same way on the same truth."
            )


def compare_reports(a: Report, b: Report, resamples: int = RESAMPLES) -> list[Change]:
    """The changes from ``a`` to ``b``.

    Args:
        a: The first report.
        b: The second report.
        resamples: Number of bootstrap resamples.

    Raises:
        ConfigError: They are not comparable.
    """
    check_comparable(a, b)
    changes: list[Change] = []
    sequences = {name: {name} for name in a.parts}
    if len(a.parts) > 1:
        sequences = {"all": set(a.parts), **sequences}
    for title, names in sequences.items():
        # Use one landmark order for both files: units are identified by landmark index, and the files' orders may differ.
        landmarks = sorted(landmarks_of(a, names) | landmarks_of(b, names))
        runs = [run_of(b, "b", names, landmarks), run_of(a, "a", names, landmarks)]
        dropped = any(0 in _answered(report, names) for report in (a, b))
        quantities = [one for one in (*PAIRED, *by_landmark(landmarks)) if one.key != "answered" or dropped]
        paired = list(_paired(title, runs, quantities, resamples))
        changes += paired
        if title != "all":
            known = {change.quantity for change in paired}
            changes += [one for one in _plain(title, a.parts[title], b.parts[title]) if one.quantity not in known]
    return changes


def _paired(sequence: str, runs: Sequence[Run], quantities: Sequence[Quantity], resamples: int) -> Iterator[Change]:
    for quantity in quantities:
        found = statistics.compare(runs, "b", "a", quantity, resamples)
        if found.difference is None or found.mean_a is None or found.mean_b is None:
            continue
        low, high = found.difference.low, found.difference.high
        verdict = {"A better": "better", "B better": "worse"}.get(found.verdict, found.verdict)
        if low == high == 0.0:
            verdict = "equal"
        yield Change(sequence, quantity.key, found.mean_b, found.mean_a, low, high, verdict, found.units, found.left_out)


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
