"""Comparison of two evaluations as a table, plain data and an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from csl_tracker.evaluation.bootstrap import BLOCK_FRAMES
from csl_tracker.evaluation.intervals import BOOTSTRAP_SEQUENCES
from csl_tracker.evaluation.report_changes import THESE_FRAMES, Change
from csl_tracker.evaluation.report_files import Report, landmarks_of
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
        Column("p_holm", "p (Holm)", 4),
        Column("verdict", "B is"),
        Column("units", "pairs"),
        Column("left_out", "left out"),
    )
    keys = [column.key for column in columns]
    rows: list[tuple[Cell, ...]] = [tuple(getattr(one, key) for key in keys) for one in changes]
    caption = (
        f"A is {a.name}, B is {b.name}. Paired by stamp or frame, instrument and landmark. A line of one sequence: interval"
        f" over blocks of consecutive frames (a fifth of them, at least {BLOCK_FRAMES}), which holds for {THESE_FRAMES}. `all`:"
        f" means over the sequences, each of which counts once; paired t interval below {BOOTSTRAP_SEQUENCES} sequences, block"
        " bootstrap from there on. The verdict rests on the p value after Holm's correction over the files compared with A, and"
        " over the landmarks where they have their own lines; the interval is that of one comparison. `pairs`: visible"
        " landmarks, images or frames behind a mean. A line without an interval says nothing about chance."
    )
    unpaired = [letter for letter, report in (("A", a), ("B", b)) if not landmarks_of(report, set(report.parts))]
    if unpaired:
        caption += f" {' and '.join(unpaired)}: no raw figures of landmarks, so that their errors cannot be paired."
    return Table("comparison", f"{b.name} against {a.name}", caption, columns, tuple(rows))


def as_data(a: Report, b: Report, changes: Sequence[Change]) -> dict[str, Any]:
    """The changes as plain data."""
    return {"a": a.name, "b": b.name, "changes": [vars(one) for one in changes]}


def as_html(tables: Sequence[Table]) -> str:
    """A self-contained HTML page of the tables."""
    return Page("Comparison", [Section.of(table) for table in tables]).html()
