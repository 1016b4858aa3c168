"""DeepLabCut: a CSV of labelled body parts beside the frames.

The CSV has three header rows (``scorer``, ``bodyparts``, ``coords``) or, with several animals, four (``individuals`` after
``scorer``). A row a frame follows; its first column is the image's path, or its first three are the parts of that path, or the
first is a number: that of the image in the CSV's folder, from 0. In ``labeled-data`` there is a folder with such a CSV and its
frames for every video; one CSV may also cover many folders.

An empty cell means that nobody labelled that point. Where there is a ``likelihood`` column, as in DeepLabCut's own predictions,
points below ``LIKELIHOOD_GATE`` count as not labelled. Integer coordinates are pixel centres, as in its labelling tools. Every
individual is an instrument; a body part that an individual has no column for is known to be absent in it. There are no masks.
"""

from __future__ import annotations

import csv
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.pixels import FloatArray, Size
from csl_tracker.video import DEFAULT_FPS, IMAGE_SUFFIXES, natural_order, read_image

LIKELIHOOD_GATE = 0.6
"""DeepLabCut's own default ``pcutoff``."""
LONE_SLOT = "instrument"
"""Name of the instrument in a file without individuals."""

_MAX_DEPTH = 4
_COORDS = ("x", "y", "likelihood")
_EXPECTED = "looked for CSV files whose first rows begin with scorer, bodyparts and coords, such as labeled-data/VIDEO/*.csv"


@dataclass(frozen=True)
class LabelTable:
    """The contents of one CSV.

    Attributes:
        path: The file.
        individuals: Instruments, in the order of the columns.
        bodyparts: Landmarks, in the order of the columns.
        images: What stands for the image in every row: the parts of its path, or one number.
        lines: Line of every row in the file, from 1.
        points: float64 (rows, individuals, bodyparts, 2), px; NaN where nobody labelled.
        columns: bool (individuals, bodyparts): whether the file has columns for it.
    """

    path: Path
    individuals: tuple[str, ...]
    bodyparts: tuple[str, ...]
    images: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    points: FloatArray
    columns: npt.NDArray[np.bool_]


def read_table(path: Path) -> LabelTable:
    """Read one CSV.

    Raises:
        DatasetError: It cannot be read, has other header rows, or a cell that is no number.
    """
    rows = _rows(path)
    heads = {row[0].strip().lower(): row for _, row in rows[:4] if row}
    count = 4 if "individuals" in heads else 3
    if not {"scorer", "bodyparts", "coords"} <= set(heads) or len(rows) < count:
        raise DatasetError(
            f"The file {path} is no CSV of DeepLabCut: its first rows must begin with scorer, bodyparts, coords."
        )
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
        if len(row) != len(coords):
            raise DatasetError(f"Line {line} of {path} has {len(row)} cells and its header {len(coords)}; correct that line.")
        for index, place in enumerate(places, first):
            values[number][place] = _number(path, line, row[index])
        half = np.isnan(values[number, :, :, 0]) != np.isnan(values[number, :, :, 1])
        if half.any():
            raise DatasetError(
                f"Line {line} of {path} has x without y, or y without x, for {bodyparts[int(np.nonzero(half)[1][0])]}; give"
                " both, or leave both empty."
            )
    points = values[..., :2].copy()
    points[values[..., 2] < LIKELIHOOD_GATE] = np.nan
    images = tuple(tuple(part for cell in row[:first] for part in _path_parts(cell)) for _, row in rows[count:])
    return LabelTable(path, individuals, bodyparts, images, tuple(line for line, _ in rows[count:]), points, columns)


@dataclass(frozen=True)
class _Row:
    """One labelled image, and its row among those of a table."""

    image: Path
    table: LabelTable
    index: int


class DeepLabCutSequence:
    """The labelled images of one folder; a :class:`csl_tracker.datasets.sample.Sequence`.

    Attributes:
        name: Name of the folder.
        landmarks: Body parts.
        classes: The background alone, since there are no masks.
        slots: Individuals.
        fps: Frames a second; not known, hence ``DEFAULT_FPS``.
        size: (height, width), px.
        files: The CSV files and all images.
        images: The image file of every frame.
        notes: What is odd about the labels and does no harm, a sentence each.
    """

    classes = ("background",)
    fps = DEFAULT_FPS

    def __init__(self, name: str, rows: list[_Row]) -> None:
        self.name = name
        self._rows = sorted(rows, key=lambda row: natural_order(row.image))
        tables = list({row.table.path: row.table for row in self._rows}.values())
        self.landmarks = tuple(dict.fromkeys(part for table in tables for part in table.bodyparts))
        self.slots = tuple(dict.fromkeys(slot for table in tables for slot in table.individuals))
        self.images = tuple(row.image for row in self._rows)
        self.files: tuple[Path, ...] = (*(table.path for table in tables), *self.images)
        shape = read_image(self.images[0]).shape
        self.size: Size = (shape[0], shape[1])
        notes: list[str] = []
        self._landmarks, self._labelled = self._collect(notes)
        self.notes = tuple(notes)

    def __len__(self) -> int:
        """Number of labelled images."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples, one image at a time.

        Raises:
            DatasetError: An image is broken or has a size of its own.
        """
        for index, path in enumerate(self.images):
            image = read_image(path)
            if image.shape[:2] != self.size:
                raise DatasetError(
                    f"The image {path} has {image.shape[1]}x{image.shape[0]} px and {self.images[0].name} has"
                    f" {self.size[1]}x{self.size[0]}; the images of a folder need one size."
                )
            yield Sample(
                image=image,
                label_map=None,
                landmarks=self._landmarks[index].copy(),
                labelled=self._labelled[index].copy(),
                sequence=self.name,
                frame=index,
                stamp_ns=round(index * 1e9 / self.fps),
            )

    @property
    def all_landmarks(self) -> FloatArray:
        """float64 (frames, instruments, landmarks, 2), px: every frame's landmarks, without reading the images."""
        return np.array(self._landmarks)

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Whether somebody looked: bool (frames, instruments, landmarks)."""
        return np.array(self._labelled)

    def _collect(self, notes: list[str]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        shape = (len(self._rows), len(self.slots), len(self.landmarks))
        landmarks, labelled = np.full((*shape, 2), np.nan), np.zeros(shape, bool)
        for index, row in enumerate(self._rows):
            table = row.table
            parts = [self.landmarks.index(part) for part in table.bodyparts]
            where = np.ix_([self.slots.index(slot) for slot in table.individuals], parts)
            points = table.points[row.index]
            given = np.isfinite(points).all(axis=-1)
            landmarks[index][where] = points
            labelled[index][:, parts] = bool(given.any())
            labelled[index][where] = given | (~table.columns & given.any())
        height, width = self.size
        with np.errstate(invalid="ignore"):
            outside = ((landmarks <= -0.5) | (landmarks >= (width - 0.5, height - 0.5))).any(axis=-1)
        if outside.any():
            index, _, part = (int(place[0]) for place in np.nonzero(outside))
            notes.append(
                f"{int(outside.sum())} landmark(s) lie outside their image of {width}x{height} px and count as out of view,"
                f" such as {self.landmarks[part]} of {self.images[index].name}."
            )
            landmarks[outside] = np.nan
        return landmarks, labelled


def find_tables(root: Path) -> list[Path]:
    """The CSV files of DeepLabCut in a folder, or the one that is named; empty where there are none."""
    if root.is_file():
        return [root]
    found = []
    for current, folders, names in os.walk(root, followlinks=True):
        folder = Path(current)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(folder.relative_to(root).parts) >= _MAX_DEPTH:
            folders.clear()
        found += [folder / name for name in sorted(names) if name.lower().endswith(".csv") and _is_table(folder / name)]
    return found


def open_deeplabcut(root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[DeepLabCutSequence]:
    """Open the sequences of a DeepLabCut project, of one of its folders, or of one CSV.

    Args:
        root: The project, its folder ``labeled-data``, a folder in that, or a CSV.
        sequences: Names of the folders with the frames; None for all of them.

    Raises:
        DatasetError: There is no such CSV, it is broken, or an image is missing or labelled twice; or a sequence is unknown.
    """
    root = Path(root)
    tables = find_tables(root) if root.exists() else []
    if not tables:
        raise DatasetError(f"The folder {root} holds no labels of DeepLabCut: {_EXPECTED}.")
    groups: dict[str, list[_Row]] = defaultdict(list)
    seen: dict[Path, Path] = {}
    for path in tables:
        table = read_table(path)
        folders = _Folders(root if root.is_dir() else root.parent, path.parent)
        for index, (parts, line) in enumerate(zip(table.images, table.lines, strict=True)):
            image = folders.find(parts)
            if image is None:
                raise DatasetError(
                    f"The image {'/'.join(parts)!r} of line {line} of {path} is neither beside it nor below {root}; put the"
                    " frames there."
                )
            if image in seen:
                raise DatasetError(f"The image {image} is labelled twice, in {seen[image]} and {path}; remove one of the rows.")
            seen[image] = path
            groups[image.parent.resolve().name].append(_Row(image, table, index))
    if not groups:
        raise DatasetError(f"The file {tables[0]} has a header and no rows; label some frames first.")
    wanted = sorted(groups, key=lambda name: natural_order(Path(name))) if sequences is None else list(sequences)
    for name in wanted:
        if name not in groups:
            raise DatasetError(f"The dataset {root} has no sequence {name!r}; it has {', '.join(sorted(groups))}.")
    return [DeepLabCutSequence(name, groups[name]) for name in wanted]


class _Folders:
    """Finds the images of one CSV."""

    def __init__(self, root: Path, beside: Path) -> None:
        self.bases = (beside, root, root.parent, beside.parent, beside.parent.parent)
        self.beside = beside
        self._frames: list[Path] | None = None

    def find(self, parts: tuple[str, ...]) -> Path | None:
        """The image of a row, whatever of its path is there."""
        if len(parts) == 1 and parts[0].isdigit():
            if self._frames is None:
                images = (path for path in self.beside.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
                self._frames = sorted((path for path in images if not path.name.startswith(".")), key=natural_order)
            number = int(parts[0])
            return self._frames[number] if number < len(self._frames) else None
        if not parts:
            return None
        choices = (base.joinpath(*parts[skip:]) for skip in range(len(parts)) for base in self.bases[: 1 if skip else None])
        return next((path for path in (self.beside / parts[-1], *choices) if path.is_file()), None)


def _path_parts(cell: str) -> list[str]:
    parts = cell.strip().replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..") and not part.endswith(":")]


def _is_table(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            heads = [file.readline(1 << 20).partition(",")[0].strip().lower() for _ in range(4)]
    except OSError:
        return False
    return heads[0] == "scorer" and "coords" in heads


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"The file {path} cannot be read as a CSV ({error}); export it again.") from error


def _number(path: Path, line: int, cell: str) -> float:
    if not cell.strip() or cell.strip().lower() == "nan":
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise DatasetError(f"Line {line} of {path} has the cell {cell.strip()[:40]!r}; write a number, or leave it empty.")
    return value
