"""Tables and the heat map of ``csl-tracker robustness``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.datasets.corruptions import CORRUPTIONS
from csl_tracker.evaluation.robustness import CLEAN, drop
from csl_tracker.output import write_text
from csl_tracker.reporting.table import Cell, Column, Table

_WORST = 0.3
"""DICE drop at which the colour scale ends."""

COLUMNS = (
    Column("sequence", "sequence"),
    Column("corruption", "corruption"),
    Column("severity", "severity"),
    Column("frames", "frames"),
    Column("dice", "DICE"),
    Column("dice_drop", "DICE drop"),
    Column("visible", "visible landmarks"),
    Column("error_mean", "error, mean px", 1),
    Column("error_median", "median", 1),
    Column("within", "within 20 px"),
    Column("missed", "missed"),
    Column("extra", "false poses per frame"),
)


def table(sequences: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """All cells, one row each."""
    rows = [_row(name, cell, cells) for name, cells in sequences.items() for cell in cells]
    caption = "The same frames, clean and corrupted. A false pose is a reported instrument beyond the true number."
    return Table("robustness", "Cells", caption, COLUMNS, tuple(rows))


def _row(name: str, cell: str, cells: Mapping[str, Mapping[str, Any]]) -> tuple[Cell, ...]:
    kind, _, severity = cell.partition("/")
    found = cells[cell]
    error = found["landmark_error_px"]
    return (
        name,
        CORRUPTIONS[kind].title if cell != CLEAN else CLEAN,
        int(severity) if severity else None,
        found["frames"],
        found["dice"],
        None if cell == CLEAN else drop(cells, cell),
        found["visible"],
        error["mean"],
        error["median"],
        found["threshold_score_20px"],
        found["miss_rate"],
        found["extra_instruments_per_frame"],
    )


def summary(sequences: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    """Mean DICE drop over the sequences, kinds by severities."""
    severities = _severities(sequences)
    rows: list[tuple[Cell, ...]] = [
        (CORRUPTIONS[kind].title, *(_mean_drop(sequences, f"{kind}/{severity}") for severity in severities))
        for kind in _kinds(sequences)
    ]
    columns = (Column("corruption", "corruption"), *(Column(f"severity_{s}", f"severity {s}") for s in severities))
    clean = [cells[CLEAN]["dice"] for cells in sequences.values() if cells.get(CLEAN, {}).get("dice") is not None]
    of = f"Clean frames: DICE {np.mean(clean):.3f}, mean over {len(clean)} sequences." if clean else "No masks."
    return Table(
        "dice_drop",
        "DICE drop",
        f"{of} Cells: mean over the sequences of the clean DICE minus the cell's.",
        columns,
        tuple(rows),
    )


def write_report(data: Mapping[str, Any], out: Path) -> list[Path]:
    """Write README.md, two CSV files and the heat map as PNG and SVG.

    Returns:
        The files.

    Raises:
        DatasetError: A file cannot be written.
    """
    sequences = data["sequences"]
    tables = (summary(sequences), table(sequences))
    drawn = _draw(tables[0], out / "dice_drop") if tables[0].rows else []
    picture = "![DICE drop by corruption and severity](dice_drop.png)\n\n" if drawn else ""
    weights = f"{data['weights']} ({data['weights_sha256'][:8]})"
    head = f"# Robustness of {weights}\n\n`{data['command']}`\n\n{picture}"
    write_text(out / "README.md", head + "\n\n".join(found.section() for found in tables) + "\n")
    written = [out / "README.md"]
    for found in tables:
        path = out / f"{found.name}.csv"
        write_text(path, found.csv())
        written.append(path)
    return [*written, *drawn]


def _draw(found: Table, stem: Path) -> list[Path]:
    from csl_tracker.reporting.plot_style import panels, save, styled

    values = np.array([[np.nan if cell is None else cell for cell in row[1:]] for row in found.rows], np.float64)
    if not np.isfinite(values).any():
        return []
    with styled():
        figure, (axes,) = panels(1, 0.24 * len(values) + 0.5)
        axes.imshow(values, cmap="cividis_r", vmin=0.0, vmax=_WORST, aspect="auto")
        axes.set_yticks(range(len(values)), [str(row[0]) for row in found.rows])
        axes.set_xticks(range(values.shape[1]), [column.title.split()[-1] for column in found.columns[1:]])
        axes.set_xlabel("severity")
        axes.set_title("DICE drop")
        axes.grid(visible=False)
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = value > 0.6 * _WORST
                axes.text(
                    column,
                    row,
                    f"{round(value, 2) + 0.0:.2f}",
                    ha="center",
                    va="center",
                    color="white" if dark else "black",
                    fontsize=6.5,
                )
        return save(figure, stem)


def _kinds(sequences: Mapping[str, Mapping[str, Any]]) -> list[str]:
    met = {cell.partition("/")[0] for cells in sequences.values() for cell in cells if cell != CLEAN}
    return [kind for kind in CORRUPTIONS if kind in met]


def _severities(sequences: Mapping[str, Mapping[str, Any]]) -> list[int]:
    return sorted({int(cell.partition("/")[2]) for cells in sequences.values() for cell in cells if cell != CLEAN})


def _mean_drop(sequences: Mapping[str, Mapping[str, Mapping[str, Any]]], cell: str) -> float | None:
    drops: Sequence[float] = [found for cells in sequences.values() if (found := drop(cells, cell)) is not None]
    return float(np.mean(drops)) if drops else None
