"""Makes the tables of the committed experiments again from their committed runs: README.md and CSV files in docs/results.

python benchmark/remake_tables.py            writes them
python benchmark/remake_tables.py --check    exit status 1 and the names of files that differ

Runs that ``benchmark/collect_runs.py`` collected hold the error of every landmark; their tables are made completely. The first
committed runs hold the figures of each sequence only. Cells that need single frames (percentiles and KBB scores over several
sequences, the worst frames, the error by instrument) or the loss curve are kept from the existing CSV files, and the page says
so.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from csl_tracker.evaluation.protocols import load_protocol, shipped_protocols
from csl_tracker.evaluation.runs import FORMAT, parse_runs
from csl_tracker.output import write_text
from csl_tracker.reporting import summary
from csl_tracker.reporting.table import Cell, Column, Spread, Table

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
EXPERIMENTS = {
    "synthetic": "synthetic_strategies.json",
    "endovis_loso": "endovis_strategies.json",
    "endovis_loso_800": "endovis_strategies_800.json",
}
"""Folder with the tables -> file with the runs. Those of ``presets.json`` are made by ``benchmark/results_table.py``."""
KEYS: Mapping[str, tuple[str, ...]] = {
    "overview": ("model",),
    "per_landmark": ("landmark", "model"),
    "per_class": ("class", "model"),
    "table1": ("sequence", "model"),
    "training": ("model",),
}
"""Tables with cells that need single frames -> columns that name a row."""
TAIL = Table(
    "error_tail",
    "The tail of the errors",
    "The worst frames of every model, each with its worst landmark in its worst seed.",
    (
        *(Column(key, key) for key in ("model", "sequence", "frame", "instrument", "landmark")),
        Column("error_px", "error, px", 1),
        Column("seed", "seed"),
    ),
    (),
)
NOTE = (
    "The committed runs hold the figures of each sequence, not the error of every frame. These cells are kept from the first"
    " tables, and cannot be made again: {}. The comparisons rest on the means of the sequences; no frames are drawn."
)


def remake(data: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """The tables of an experiment.

    Args:
        data: Content of the file with the runs.
        folder: Folder of the existing tables, plots and panels.

    Returns:
        File name -> content.
    """
    raw = all("details" in part for run in data["runs"] for part in run["sequences"].values())
    runs = parse_runs(run if raw else {**run, "format": FORMAT, "figures_only": True} for run in data["runs"])
    protocol = runs[0].protocol
    planned = load_protocol(protocol).comparisons if protocol in shipped_protocols() else ()
    tables = summary.tables(runs, planned)
    kept: list[str] = []
    if not raw:
        tables, kept = _completed(tables, folder)
    drawn = {path.stem for path in folder.glob("*.svg")}
    files = {f"{table.name}.csv": table.csv() for table in tables.values()}
    note = NOTE.format("; ".join(kept)) if kept else ""
    return {**files, summary.PAGE: summary.page_text(runs, tables, drawn, folder, note=note)}


def _completed(tables: Mapping[str, Table], folder: Path) -> tuple[dict[str, Table], list[str]]:
    """The tables with the missing cells of existing CSV files, and the names of these columns."""
    done, kept = dict(tables), []
    for name, keys in KEYS.items():
        path = folder / f"{name}.csv"
        if name in tables and path.is_file():
            done[name], columns = _with_cells(tables[name], _rows(path), keys)
            if columns:
                kept.append(f"`{name}`: {', '.join(columns)}")
    tail = folder / f"{TAIL.name}.csv"
    if TAIL.name not in tables and tail.is_file():
        rows = tuple(tuple(_cell(row, column) for column in TAIL.columns) for row in _rows(tail))
        done[TAIL.name] = replace(TAIL, rows=rows)
        kept.append(f"`{TAIL.name}`: all")
    return done, kept


def _with_cells(table: Table, rows: Sequence[Mapping[str, str]], keys: Sequence[str]) -> tuple[Table, list[str]]:
    columns = [column.key for column in table.columns]
    known = {tuple(row[key] for key in keys): row for row in rows}
    kept: dict[str, None] = {}
    made = []
    for cells in table.rows:
        old = known.get(tuple(str(cells[columns.index(key)]) for key in keys), {})
        row = []
        for cell, column in zip(cells, table.columns, strict=True):
            if cell in (None, Spread(None)) and old.get(column.key):
                kept[column.title] = None
                row.append(_cell(old, column))
            else:
                row.append(cell)
        made.append(tuple(row))
    return replace(table, rows=tuple(made)), list(kept)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _cell(row: Mapping[str, str], column: Column) -> Cell:
    if not column.spread:
        return _value(row[column.key])
    mean, deviation = (_value(row[key]) for key in (column.key, f"{column.key}_sd"))
    assert isinstance(mean, int | float)
    return Spread(float(mean), None if deviation is None else float(str(deviation)))


def _value(text: str) -> str | int | float | None:
    if not text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def main() -> int:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file differs")
    args = parser.parse_args()
    differing = 0
    for name, file in EXPERIMENTS.items():
        data = json.loads((RESULTS / file).read_text(encoding="utf-8"))
        for path, text in ((RESULTS / name / file_name, text) for file_name, text in remake(data, RESULTS / name).items()):
            if path.is_file() and path.read_bytes() == text.encode("utf-8"):
                continue
            differing += 1
            print(f"{'differs' if args.check else 'wrote'}: {path.relative_to(RESULTS)}")
            if not args.check:
                write_text(path, text)
    return 1 if args.check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
