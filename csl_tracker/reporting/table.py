"""A table, as data that can be written as Markdown for eyes and as CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from csl_tracker.text import csv_cell, markdown_cell


@dataclass(frozen=True)
class Spread:
    """Mean over the seeds, and their standard deviation; None with one seed, or where nothing was measured."""

    mean: float | None
    deviation: float | None = None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread:
        """Of the values of the seeds; those without a value are left out."""
        numbers = [value for value in values if value is not None]
        if not numbers:
            return cls(None)
        return cls(float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None)


Cell = str | int | float | Spread | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: Its name in CSV.
        title: Its name in Markdown.
        digits: After the decimal point, in Markdown.
        spread: Its cells are ``Spread``: CSV has a second column ``KEY_sd``.
    """

    key: str
    title: str
    digits: int = 3
    spread: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Stem of its files.
        title: Heading.
        caption: What it shows, in sentences.
        columns: Its columns.
        rows: Cells in the columns' order.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self) -> str:
        """A Markdown table; what was not measured is a dash."""
        lines = [
            f"| {' | '.join(column.title for column in self.columns)} |",
            f"|{'|'.join(' --- ' for _ in self.columns)}|",
        ]
        for row in self.rows:
            cells = (markdown_cell(cell_text(cell, column.digits)) for cell, column in zip(row, self.columns, strict=True))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def csv(self) -> str:
        """Comma-separated values with a header; what was not measured is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([csv_cell(key) for column in self.columns for key in _keys(column)])
        for row in self.rows:
            values = [value for cell, column in zip(row, self.columns, strict=True) for value in _values(cell, column)]
            writer.writerow([csv_cell(value) for value in values])
        return text.getvalue()


def cell_text(cell: Cell, digits: int) -> str:
    """A cell for eyes; what was not measured is a dash."""
    if isinstance(cell, Spread):
        if cell.mean is None:
            return "-"
        return f"{cell.mean:.{digits}f}" + ("" if cell.deviation is None else f" ± {cell.deviation:.{digits}f}")
    if isinstance(cell, float):
        return f"{cell:.{digits}f}"
    return "-" if cell is None else str(cell)


def _keys(column: Column) -> tuple[str, ...]:
    return (column.key, f"{column.key}_sd") if column.spread else (column.key,)


def _values(cell: Cell, column: Column) -> tuple[Any, ...]:
    if not column.spread:
        return (_plain(cell),)
    return (_plain(cell.mean), _plain(cell.deviation)) if isinstance(cell, Spread) else (_plain(cell), "")


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    return round(value, 6) if isinstance(value, float) else value
