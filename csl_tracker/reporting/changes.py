"""Comparison of two evaluations as a table, plain data and an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from csl_tracker.evaluation.report_changes import Change
from csl_tracker.evaluation.report_files import Report, landmarks_of
from csl_tracker.evaluation.statistics import BLOCK_FRAMES, RESAMPLES
from csl_tracker.reporting.page import Page, Section
from csl_tracker.reporting.table import Cell, Column, Table


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
        f"A is {a.name}, B is {b.name}. Paired by stamp or frame, instrument and landmark; the interval draws"
        f" blocks of {BLOCK_FRAMES} consecutive frames again ({RESAMPLES} times; a fifth of a shorter sequence)."
        " A line without an interval is not paired and says nothing about chance."
    )
    unpaired = [letter for letter, report in (("A", a), ("B", b)) if not landmarks_of(report, set(report.parts))]
    if unpaired:
        caption += f" {' and '.join(unpaired)}: no raw figures of landmarks, so that their errors cannot be paired."
    return Table("comparison", f"{b.name} against {a.name}", caption, columns, tuple(rows))


def as_data(a: Report, b: Report, changes: Sequence[Change]) -> dict[str, Any]:
    """The changes as plain data."""
    return {"a": a.name, "b": b.name, "changes": [{**vars(one), "difference": one.b - one.a} for one in changes]}


def as_html(tables: Sequence[Table]) -> str:
    """A self-contained HTML page of the tables."""
    return Page("Comparison", [Section.of(table) for table in tables]).html()
