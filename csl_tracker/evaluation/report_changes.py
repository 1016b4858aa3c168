"""Compares evaluations.

Values are paired by sequence, stamp (or frame number), instrument and landmark. A line over all sequences has the interval of
:func:`csl_tracker.evaluation.intervals.over_sequences`. A line of one sequence has the block bootstrap over its frames, since
neighbouring frames are not independent; its verdict holds for these frames only, not for other videos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from csl_tracker.errors import ConfigError
from csl_tracker.evaluation.bootstrap import RESAMPLES
from csl_tracker.evaluation.paired_quantities import PAIRED, by_landmark
from csl_tracker.evaluation.report_files import KINDS, Report, landmarks_of, run_of
from csl_tracker.evaluation.statistics import Comparison, adjust, compare

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


THESE_FRAMES = "these frames only"
ALL_SEQUENCES = "all"


@dataclass(frozen=True)
class Change:
    """Change of a quantity from report A to report B.

    Attributes:
        sequence: Name of the sequence, or ``all``.
        quantity: Its key.
        a: Value in A; for paired quantities, the mean over the common values, and for ``all`` over the sequences.
        b: Value in B, likewise.
        difference: ``b - a``.
        low: Lower bound of the difference; None without an interval.
        high: Upper bound of the difference; None without an interval.
        verdict: ``better``, ``worse``, ``equal`` or ``not separable``, by the adjusted p value; for one sequence
            ``better (these frames only)`` and so on; without an interval ``better (no interval)`` and so on.
        units: Number of pairs; None if not paired.
        left_out: Number of values in only one report, such as those of dropped frames; None if not paired.
        p: p value of the difference; None without an interval.
        p_holm: The same after Holm's correction.
    """

    sequence: str
    quantity: str
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    verdict: str
    units: int | None
    left_out: int | None = None
    p: float | None = None
    p_holm: float | None = None


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


def compare_reports(first: Report, others: Sequence[Report], resamples: int = RESAMPLES) -> list[list[Change]]:
    """The changes from the first report to each of the others.

    The p values of a quantity are adjusted over the other reports, in each sequence and over all of them; those of single
    landmarks over the landmarks, too.

    Args:
        first: The baseline.
        others: Reports to compare with it.
        resamples: Number of bootstrap resamples.

    Returns:
        One list per other report.

    Raises:
        ConfigError: They are not comparable.
    """
    for other in others:
        check_comparable(first, other)
    titles = [*([ALL_SEQUENCES] if len(first.parts) > 1 else []), *sorted(first.parts)]
    changes: list[list[Change]] = [[] for _ in others]
    for title in titles:
        found = [_paired(first, other, title, resamples) for other in others]
        for index, (other, paired) in enumerate(zip(others, _adjusted(found), strict=True)):
            of_title = [_change(title, one) for one in paired]
            changes[index] += of_title
            if title != ALL_SEQUENCES:
                known = {change.quantity for change in of_title}
                plain = _plain(title, first.parts[title], other.parts[title])
                changes[index] += [one for one in plain if one.quantity not in known]
    return changes


def _paired(a: Report, b: Report, title: str, resamples: int) -> list[Comparison]:
    """Comparisons of B with A in one sequence or in all, with at least one common unit."""
    names = set(a.parts) if title == ALL_SEQUENCES else {title}
    # Use one landmark order for both files: units are identified by landmark index, and the files' orders may differ.
    landmarks = sorted(landmarks_of(a, names) | landmarks_of(b, names))
    runs = [run_of(b, "b", names, landmarks), run_of(a, "a", names, landmarks)]
    dropped = any(0 in _answered(report, names) for report in (a, b))
    quantities = [one for one in (*PAIRED, *by_landmark(landmarks)) if one.key != "answered" or dropped]
    found = [compare(runs, "b", "a", quantity, resamples, these_frames_only=len(names) == 1) for quantity in quantities]
    return [one for one in found if one.difference is not None]


def _adjusted(found: Sequence[Sequence[Comparison]]) -> list[list[Comparison]]:
    """Adjust the p values of each family: a quantity in all reports, or its landmarks in all reports."""

    def family(place: tuple[int, int]) -> tuple[str, bool]:
        key, _, landmark = found[place[0]][place[1]].quantity.key.partition(" ")
        return key, bool(landmark)

    adjusted = [list(row) for row in found]
    places = sorted(((i, j) for i, row in enumerate(found) for j in range(len(row))), key=family)
    for _, group in groupby(places, key=family):
        members = list(group)
        for (i, j), one in zip(members, adjust([found[i][j] for i, j in members]), strict=True):
            adjusted[i][j] = one
    return adjusted


def _change(title: str, found: Comparison) -> Change:
    assert found.difference is not None
    assert found.mean_a is not None
    assert found.mean_b is not None
    interval = found.difference
    verdict = {"A better": "better", "B better": "worse"}.get(found.verdict, found.verdict)
    if verdict in ("better", "worse") and title != ALL_SEQUENCES:
        verdict = f"{verdict} ({THESE_FRAMES})"
    if interval.low == interval.high == 0.0:
        verdict = "equal"
    return Change(
        sequence=title,
        quantity=found.quantity.key,
        a=found.mean_b,
        b=found.mean_a,
        difference=interval.estimate,
        low=interval.low,
        high=interval.high,
        verdict=verdict,
        units=found.units,
        left_out=found.left_out,
        p=interval.p,
        p_holm=found.adjusted_p,
    )


def _answered(report: Report, names: set[str]) -> set[int]:
    return {value for name in names for value in report.parts[name]["details"].get("answered", ())}


def _plain(sequence: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    changes = []
    for key, place, larger_is_better in PLAIN:
        before, after = _find(a, place), _find(b, place)
        if before is None or after is None:
            continue
        verdict = "equal" if before == after else "better" if (after > before) == larger_is_better else "worse"
        changes.append(Change(sequence, key, before, after, after - before, None, None, f"{verdict} (no interval)", None))
    return changes


def _find(data: Any, place: Sequence[str]) -> float | None:
    for key in place:
        data = data.get(key) if isinstance(data, Mapping) else None
    return float(data) if isinstance(data, int | float) else None


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:16]}..." if len(text) > 60 else text
