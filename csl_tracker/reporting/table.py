"""Formats tables as Markdown, CSV and plain text."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from csl_tracker.text import csv_cell, markdown_cell, printable


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over the seeds; the deviation is None with one seed, both are None without data."""

    mean: float | None
    deviation: float | None = None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread:
        """Compute the spread over the seeds, ignoring None."""
        numbers = [value for value in values if value is not None]
        if not numbers:
            return cls(None)
        return cls(float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None)


Cell = str | int | float | Spread | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: Name in CSV.
        title: Name in Markdown.
        digits: Decimals in Markdown.
        spread: The cells are ``Spread``; CSV gets a second column ``KEY_sd``.
    """

    key: str
    title: str
    digits: int = 3
    spread: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Stem of the file names.
        title: Heading.
        caption: Description in sentences.
        columns: The columns.
        rows: Cells in column order.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self) -> str:
        """The Markdown table; missing values are dashes."""
        return markdown([column.title for column in self.columns], self.texts())

    def section(self) -> str:
        """Heading, caption and table as Markdown."""
        return f"## {markdown_cell(self.title)}\n\n{markdown_cell(self.caption)}\n\n{self.markdown()}"

    def texts(self) -> list[list[str]]:
        """The cells as text; missing values are dashes."""
        return [[cell_text(cell, column.digits) for cell, column in zip(row, self.columns, strict=True)] for row in self.rows]

    def csv(self) -> str:
        """The table as CSV with a header; missing values are empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([csv_cell(key) for column in self.columns for key in _keys(column)])
        for row in self.rows:
            values = [value for cell, column in zip(row, self.columns, strict=True) for value in _values(cell, column)]
            writer.writerow([csv_cell(value) for value in values])
        return text.getvalue()


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[int] = ()) -> str:
    """Format a Markdown table; cells are escaped.

    Args:
        head: Column titles.
        rows: Cells of each row.
        right: Indices of right-aligned columns.
    """
    rule = ["---:" if index in right else "---" for index in range(len(head))]
    lines = [rule, *([markdown_cell(cell) for cell in row] for row in rows)]
    titles = " | ".join(head).lstrip()  # a first column without a title
    return "\n".join([f"| {titles} |", *(f"| {' | '.join(cells)} |" for cells in lines)])


def plain(rows: Iterable[Sequence[object]], right: Collection[int] = (), indent: str = "") -> list[str]:
    """Format aligned columns for a terminal; control characters are escaped.

    Args:
        rows: Rows with equal numbers of cells.
        right: Indices of right-aligned columns.
        indent: Prefix of each line.
    """
    texts = [[printable(cell, lines=False) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]

    def aligned(row: Sequence[str]) -> str:
        cells = zip(row, widths, strict=True)
        return "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width) for index, (cell, width) in enumerate(cells)
        )

    return [f"{indent}{aligned(row)}".rstrip() for row in texts]


def cell_text(cell: Cell, digits: int) -> str:
    """Format a cell; missing values are dashes."""
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
