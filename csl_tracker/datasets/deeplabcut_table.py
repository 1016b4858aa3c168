"""CSV files of DeepLabCut, original or re-saved by a spreadsheet.

Separators are commas, semicolons or tabs, the latter two possibly with decimal commas. The text is UTF-8, or UTF-16 with a byte
order mark.
"""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.folders import path_parts
from csl_tracker.errors import DatasetError
from csl_tracker.text_files import decode

LIKELIHOOD_GATE = 0.6
"""DeepLabCut's default ``pcutoff``."""
LONE_SLOT = "instrument"
"""Name of the instrument in a file without individuals."""
MAX_BYTES = 64 << 20
"""Maximum size of a CSV."""
MAX_CELLS = 5_000_000
"""Maximum cells of a CSV."""
MAX_VALUES = 30_000_000
"""Maximum of rows times individuals times body parts times three."""

_COORDS = ("x", "y", "likelihood")
_HEADS = ("scorer", "individuals", "bodyparts", "coords")
_DELIMITERS = ",;\t"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_EMPTY = frozenset({"", "nan", "na", "n/a", "null", "none"})


@dataclass(frozen=True)
class LabelTable:
    """The contents of one CSV.

    Attributes:
        path: The file.
        individuals: Instruments, in the order of the columns.
        bodyparts: Landmarks, in the order of the columns.
        images: Image reference of each row: the parts of its path, or one number.
        lines: Line number of each row in the file, from 1.
        points: float64 (rows, individuals, bodyparts, 2), px; NaN if not labelled.
        columns: bool (individuals, bodyparts): whether the file has columns for it.
        names: Image reference of each row as written.
        predicted: It has likelihoods, which only network predictions have.
    """

    path: Path
    individuals: tuple[str, ...]
    bodyparts: tuple[str, ...]
    images: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    points: FloatArray
    columns: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    predicted: bool

    @property
    def numbered(self) -> bool:
        """Whether all rows refer to images by number, as predictions of a video do."""
        return bool(self.images) and all(len(parts) == 1 and parts[0].isdigit() for parts in self.images)


def read_table(path: Path) -> LabelTable:
    """Read one CSV.

    Raises:
        DatasetError: It cannot be read, or a header row or a cell is invalid.
    """
    rows, delimiter = _rows(path)
    heads = {row[0].strip().lower(): row for _, row in rows[:4] if row and row[0].strip().lower() in _HEADS}
    count = 4 if "individuals" in heads else 3
    if not {"scorer", "bodyparts", "coords"} <= set(heads) or len(rows) < count:
        raise DatasetError(
            f"The file {path} is not a CSV of DeepLabCut: its first rows must begin with scorer, bodyparts, coords."
        )
    # Ignore trailing separators, which spreadsheets write.
    width = max((index for head in heads.values() for index, cell in enumerate(head, 1) if cell.strip()), default=0)
    heads = {key: head[:width] for key, head in heads.items()}
    coords = [cell.strip().lower() for cell in heads["coords"]]
    first = next((index for index, cell in enumerate(coords[1:], 1) if cell), len(coords))
    parts = [cell.strip() for cell in heads["bodyparts"]]
    who = [cell.strip() for cell in heads["individuals"]] if count == 4 else [LONE_SLOT] * len(coords)
    if first not in (1, 3) or not len(coords) == len(parts) == len(who) or set(coords[first:]) - set(_COORDS):
        raise DatasetError(
            f"The header of {path} does not match: every column after the image's needs a body part and x, y or likelihood."
        )
    individuals = tuple(dict.fromkeys(who[first:]))
    bodyparts = tuple(dict.fromkeys(parts[first:]))
    if not all((*individuals, *bodyparts)):
        raise DatasetError(f"The header of {path} has a column without a name; name its body part, or remove the column.")
    if (len(rows) - count) * len(individuals) * len(bodyparts) * len(_COORDS) > MAX_VALUES:
        raise DatasetError(
            f"The file {path} has {len(rows) - count} rows of {len(individuals)} individuals with {len(bodyparts)} body parts,"
            f" and {MAX_VALUES} values are the limit; export the labels in parts."
        )
    values = np.full((len(rows) - count, len(individuals), len(bodyparts), 3), np.nan)
    columns = np.zeros((len(individuals), len(bodyparts)), bool)
    places = []
    for index in range(first, len(coords)):
        individual, bodypart = individuals.index(who[index]), bodyparts.index(parts[index])
        places.append((individual, bodypart, _COORDS.index(coords[index])))
        columns[individual, bodypart] = True
    if len(set(places)) != len(places):
        raise DatasetError(f"The header of {path} has two columns for one coordinate of one body part; remove one of them.")
    for number, (line, row) in enumerate(rows[count:]):
        row = row[: len(coords)] if not any(cell.strip() for cell in row[len(coords) :]) else row  # trailing separators
        if len(row) != len(coords):
            raise DatasetError(f"Line {line} of {path} has {len(row)} cells and its header {len(coords)}; correct that line.")
        for place, cell in zip(places, row[first:], strict=True):
            values[number][place] = _number(path, line, cell, delimiter)
    _refuse_half_points(path, rows[count:], values, bodyparts)
    points = values[..., :2].copy()
    points[values[..., 2] < LIKELIHOOD_GATE] = np.nan
    names = tuple("/".join(cell.strip() for cell in row[:first]) for _, row in rows[count:])
    images = tuple(path_parts(name) for name in names)
    lines = tuple(line for line, _ in rows[count:])
    return LabelTable(path, individuals, bodyparts, images, lines, points, columns, names, "likelihood" in coords)


def _refuse_half_points(path: Path, rows: list[tuple[int, list[str]]], values: FloatArray, bodyparts: tuple[str, ...]) -> None:
    half = np.isnan(values[..., 0]) != np.isnan(values[..., 1])
    if half.any():
        row, _, bodypart = (int(place[0]) for place in np.nonzero(half))
        raise DatasetError(
            f"Line {rows[row][0]} of {path} has x without y, or y without x, for {bodyparts[bodypart]}; give both, or leave"
            " both empty."
        )


def is_table(path: Path) -> bool:
    """Whether a file starts like a DeepLabCut CSV."""
    try:
        with path.open("rb") as file:
            text = decode(file.read(1 << 16), errors="replace")
        lines = _without_hint(text).splitlines()[:4]
        delimiter = _delimiter(lines)
        heads = [next(csv.reader([line], delimiter=delimiter), [""])[0].strip().lower() for line in lines if line.strip()]
    except (OSError, csv.Error):
        return False
    return bool(heads) and heads[0] == "scorer" and ("coords" in heads or "bodyparts" in heads)


def _rows(path: Path) -> tuple[list[tuple[int, list[str]]], str]:
    """(line, cells) of each non-empty row, and the delimiter.

    Raises:
        DatasetError: The file cannot be read, is too large, or is not a CSV.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DatasetError(f"The file {path} has {size >> 20} MiB and {MAX_BYTES >> 20} are the limit; export it in parts.")
        text = decode(path.read_bytes())
        shift = text.count("\n", 0, len(text) - len(_without_hint(text)))
        text = _without_hint(text)
        delimiter = _delimiter(text[: 1 << 16].splitlines()[:4])
        cells = text.count(delimiter) + text.count("\n") + text.count("\r")
        if cells > MAX_CELLS:
            raise DatasetError(f"The file {path} has {cells} cells and {MAX_CELLS} are the limit; export it in parts.")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [(reader.line_num + shift, row) for row in reader if any(cell.strip() for cell in row)], delimiter
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"The file {path} cannot be read as a CSV (byte {error.start} is not UTF-8); save it as CSV in UTF-8."
        ) from error
    except (OSError, csv.Error) as error:
        raise DatasetError(f"The file {path} cannot be read as a CSV ({error}); export it again.") from error


def _without_hint(text: str) -> str:
    """The text without Excel's ``sep=;`` line."""
    return re.sub(r'^"?sep=.?"?\r?\n', "", text, count=1, flags=re.IGNORECASE)


def _delimiter(lines: list[str]) -> str:
    """The delimiter: the character after the first word, ``scorer``."""
    found = re.match(r'\s*"?scorer"?\s*([,;\t])', lines[0], re.IGNORECASE) if lines else None
    return found[1] if found else _DELIMITERS[0]


def _number(path: Path, line: int, cell: str, delimiter: str) -> float:
    text = cell.strip()
    if text.lower() in _EMPTY:
        return math.nan
    plain = text.replace(",", ".") if delimiter != "," and text.count(",") == 1 and "." not in text else text
    if not _NUMBER.fullmatch(plain) or not math.isfinite(float(plain)):
        raise DatasetError(f"Line {line} of {path} has the cell {text[:40]!r}; write a number, or leave it empty.")
    return float(plain)
