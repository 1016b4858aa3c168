"""Published results for comparison: curves from a CSV file, and the numbers of the paper.

Published curves (FPBC, POSE, Online Adaptation, ...) can be digitised into a CSV file with the header ``name,kind,x,y`` and one
line per point: ``kind`` is ``threshold`` (x is a distance in px) or ``kbb`` (x is the factor alpha); y is the fraction of
landmarks below, 0 to 1. No such file is bundled, since the accuracy of digitised curves is not known.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.errors import DatasetError
from csl_tracker.text_files import read_text
from csl_tracker.yaml_files import read_yaml

HEADER = ["name", "kind", "x", "y"]
KINDS = ("threshold", "kbb")
_PAPER = Path(__file__).with_name("paper.yaml")


@dataclass(frozen=True)
class Comparator:
    """One published curve.

    Attributes:
        name: Name of the method.
        kind: ``threshold`` or ``kbb``.
        x: float64 (n,), ascending, px or alpha.
        y: float64 (n,), shares.
    """

    name: str
    kind: str
    x: FloatArray
    y: FloatArray


def read_comparators(path: Path) -> list[Comparator]:
    """Read published curves.

    Args:
        path: A CSV file, see the module's docstring.

    Returns:
        The curves in the order of the file, points sorted by x.

    Raises:
        DatasetError: The file cannot be read, or a line is invalid.
    """
    try:
        lines = list(csv.reader(io.StringIO(read_text(path), newline="")))
    except OSError as error:
        raise DatasetError(f"The file of curves {path} cannot be read ({error.strerror}); check the path.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"The file of curves {path} is not a CSV file in UTF-8 ({error}); save it as one.") from error
    if not lines or [cell.strip() for cell in lines[0]] != HEADER:
        found = ",".join(lines[0]) if lines else ""
        raise DatasetError(f"Line 1 of the file of curves {path} is {found!r}; it has to be the header '{','.join(HEADER)}'.")
    points: dict[tuple[str, str], dict[float, float]] = {}
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        name, kind, x, y = _point(path, number, [cell.strip() for cell in cells])
        curve = points.setdefault((name, kind), {})
        if x in curve:
            raise DatasetError(f"Line {number} of {path} gives the {kind} curve {name!r} a second point at x={x:g}; keep one.")
        curve[x] = y
    if not points:
        raise DatasetError(f"The file of curves {path} has a header and no points; add lines of {','.join(HEADER)}.")
    return [
        Comparator(name, kind, np.array(sorted(curve)), np.array([curve[x] for x in sorted(curve)]))
        for (name, kind), curve in points.items()
    ]


def paper() -> Mapping[str, Any]:
    """The paper's results from ``paper.yaml``, which also states their sources."""
    data: dict[str, Any] = read_yaml(_PAPER, "The file of the paper's figures")
    return data


def _point(path: Path, line: int, cells: list[str]) -> tuple[str, str, float, float]:
    where = f"Line {line} of {path}"
    if len(cells) != len(HEADER):
        raise DatasetError(f"{where} has {len(cells)} fields; it needs the four {','.join(HEADER)}.")
    name, kind, *texts = cells
    if not name:
        raise DatasetError(f"{where} has no name; write the name of the method first.")
    if kind not in KINDS:
        raise DatasetError(f"{where} has the kind {kind!r}; it has to be {' or '.join(KINDS)}.")
    numbers = []
    for axis, text in zip("xy", texts, strict=True):
        try:
            numbers.append(float(text))
        except ValueError:
            raise DatasetError(f"{where} has {axis}={text!r}; write a number with a decimal point.") from None
    x, y = numbers
    if not (math.isfinite(x) and x >= 0.0):
        raise DatasetError(f"{where} has x={texts[0]}; a distance in px or an alpha is a number from 0 on.")
    if not 0.0 <= y <= 1.0:
        raise DatasetError(f"{where} has y={texts[1]}; a share is from 0 to 1, so write 0.84 for 84 %.")
    return name, kind, x, y
