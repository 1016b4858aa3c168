"""DeepLabCut: CSV files with labelled body parts, next to the frames.

The CSV has three header rows (``scorer``, ``bodyparts``, ``coords``), or four with several animals (``individuals`` after
``scorer``), then one row per frame. The image is given by its path in the first column, by the parts of the path in the first
three columns, or by its index (from 0) in the CSV's folder. ``labeled-data`` has one folder with a CSV and frames per video;
one CSV may also cover several folders. In a project, only ``labeled-data`` is read. Machine labels are used only in folders
without manual labels.

An empty cell is an unlabelled point. With a ``likelihood`` column, as in DeepLabCut's predictions, points below
``LIKELIHOOD_GATE`` count as unlabelled. Integer coordinates are pixel centres, as in its labelling tools. Each individual is an
instrument; a body part without a column for an individual is known to be absent in it. There are no masks.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.deeplabcut_table import LabelTable, is_table, read_table
from csl_tracker.datasets.folders import FileFinder, choose, is_clutter, unique_names, walk
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.natural_order import natural_order
from csl_tracker.pixels import Size
from csl_tracker.video import DEFAULT_FPS, IMAGE_SUFFIXES, read_image

LABELED_DATA = "labeled-data"
"""Project folder with one folder per labelled video."""

_MAX_DEPTH = 4
_DERIVED = ("training-datasets", "dlc-models", "evaluation-results")
"""Name prefixes of derived project folders."""
_EXPECTED = "looked for CSV files whose first rows begin with scorer, bodyparts and coords, such as labeled-data/VIDEO/*.csv"


@dataclass(frozen=True)
class _Row:
    """One labelled image and its row in a table."""

    image: Path
    table: LabelTable
    index: int


class DeepLabCutSequence:
    """The labelled images of one folder; a :class:`csl_tracker.datasets.sample.Sequence`.

    Attributes:
        name: Name of the folder.
        landmarks: Body parts.
        classes: Only the background, since there are no masks.
        slots: Individuals.
        fps: ``DEFAULT_FPS``, since the frame rate is unknown.
        size: (height, width), px.
        files: The CSV files and all images.
        images: Image file of each frame.
        notes: Harmless anomalies in the labels, one sentence each.
    """

    classes = ("background",)
    fps = DEFAULT_FPS

    def __init__(self, name: str, rows: list[_Row], notes: Iterable[str] = ()) -> None:
        self.name = name
        self._rows = sorted(rows, key=lambda row: natural_order(row.image))
        tables = list({row.table.path: row.table for row in self._rows}.values())
        self.landmarks = tuple(dict.fromkeys(part for table in tables for part in table.bodyparts))
        self.slots = tuple(dict.fromkeys(slot for table in tables for slot in table.individuals))
        self.images = tuple(row.image for row in self._rows)
        self.files: tuple[Path, ...] = (*(table.path for table in tables), *self.images)
        shape = read_image(self.images[0]).shape
        self.size: Size = (shape[0], shape[1])
        known = list(notes)
        self._landmarks, self._labelled = self._collect(known)
        self.notes = tuple(known)

    def __len__(self) -> int:
        """Number of labelled images."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples, one image at a time.

        Raises:
            DatasetError: An image is broken or has another size.
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
        """Landmarks of all frames, float64 (frames, instruments, landmarks, 2), px, without reading the images."""
        return np.array(self._landmarks)

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Annotation mask of all frames, bool (frames, instruments, landmarks)."""
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
    """The label CSV files in a folder, or the given file; empty if there are none.

    In a project, only ``labeled-data`` and the folder itself are searched: training sets repeat the labels, and the CSV files
    of videos are predictions.
    """
    if root.is_file():
        return [root]
    found = []
    for folder, folders, names in walk(root, _MAX_DEPTH):
        labelled = [name for name in folders if name.lower() == LABELED_DATA]
        folders[:] = labelled or [name for name in folders if not name.lower().startswith(_DERIVED)]
        found += [folder / name for name in names if name.lower().endswith(".csv") and is_table(folder / name)]
    return found


def open_deeplabcut(root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[DeepLabCutSequence]:
    """Open the sequences of a DeepLabCut project, of one of its folders, or of one CSV.

    Args:
        root: The project, its folder ``labeled-data``, a folder in it, or a CSV.
        sequences: Names of the frame folders; None for all.

    Raises:
        DatasetError: There is no label CSV, it is broken, an image is missing or labelled twice, or a sequence is unknown.
    """
    root = Path(root)
    paths = find_tables(root) if root.exists() else []
    if not paths:
        raise DatasetError(f"The folder {root} holds no labels of DeepLabCut: {_EXPECTED}.")
    labels = _Labels(root)
    for table in sorted((read_table(path) for path in paths), key=is_machine):  # manual labels first
        labels.add(table)
    groups = labels.groups()
    if not groups:
        raise DatasetError(f"The file {paths[0]} {labels.why_empty()}")
    # Folders with the same name in several projects are separate sequences.
    names = unique_names(root if root.is_dir() else root.parent, groups)
    return [DeepLabCutSequence(name, groups[folder], labels.notes(folder)) for name, folder in choose(root, names, sequences)]


def is_machine(table: LabelTable) -> bool:
    """Whether a network wrote the labels: they have likelihoods, or the file is ``machinelabels*``."""
    return table.predicted or table.path.name.lower().startswith("machinelabels")


class _Labels:
    """The rows of all tables by image; manual labels take precedence over machine labels."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._rows: dict[Path, _Row] = {}
        self._by_hand: set[Path] = set()
        self._notes: dict[Path, list[str]] = defaultdict(list)
        self._general: list[str] = []

    def add(self, table: LabelTable) -> None:
        """Add a table; add tables of manual labels first.

        Raises:
            DatasetError: A labelled image is missing, or labelled twice.
        """
        path, machine = table.path, is_machine(table)
        folders = _Folders(self._root if self._root.is_dir() else self._root.parent, path.parent)
        if table.numbered and table.predicted and not folders.frames:
            self._general.append(f"{path} is a prediction of a whole video and no label; it is left out.")
            return
        own, missing, unlabelled = _find_images(table, folders)
        covered = sum(self._take(image, table, index, machine) for image, index in own.items())
        if missing and not (machine and self._by_hand):
            others = f", nor are {len(missing) - 1} others" if len(missing) > 1 else ""
            raise DatasetError(
                f"The image {table.names[missing[0]]!r} of line {table.lines[missing[0]]} of {path} is neither beside it nor"
                f" below {self._root}{others}; put the frames there."
            )
        if not machine:
            self._by_hand |= {image.parent for image in own}
        if unlabelled:
            self._notes[path].append(f"{unlabelled} row(s) of {path} have neither labels nor an image and are left out.")
        if covered:
            self._general.append(f"{covered} frame(s) in {path} have labels of a network alone and are left out.")

    def _take(self, image: Path, table: LabelTable, index: int, machine: bool) -> bool:
        """Add a row; returns True if it is skipped because its folder has manual labels."""
        known = self._rows.get(image)
        if machine and image.parent in self._by_hand:
            return known is None
        if known is None:
            self._rows[image] = _Row(image, table, index)
        elif not machine and not _same(known, table, index):
            raise DatasetError(
                f"The image {image} is labelled twice, in {known.table.path} and {table.path}; remove one of the rows."
            )
        return False

    def groups(self) -> dict[Path, list[_Row]]:
        """Folder -> its rows."""
        found: dict[Path, list[_Row]] = defaultdict(list)
        for row in self._rows.values():
            found[row.image.parent].append(row)
        return {folder: found[folder] for folder in sorted(found, key=natural_order)}

    def notes(self, folder: Path) -> list[str]:
        """Sentences about skipped rows of a folder's tables; the first folder also gets the general notes."""
        groups = self.groups()
        tables = {row.table.path for row in groups[folder]}
        own = [note for path, notes in self._notes.items() if path in tables for note in notes]
        return own + (self._general if folder == next(iter(groups)) else [])

    def why_empty(self) -> str:
        """Clause that says why there are no frames."""
        if self._general:
            return "is a prediction of a whole video and no label; give the project, or its folder labeled-data."
        return "has a header and no rows; label some frames first."


def _find_images(table: LabelTable, folders: _Folders) -> tuple[dict[Path, int], list[int], int]:
    """Image -> row, labelled rows without an image, and the number of rows with neither labels nor image.

    Raises:
        DatasetError: Two rows have the same image.
    """
    given = [bool(row.any()) for row in np.isfinite(table.points)]
    own: dict[Path, int] = {}
    missing: list[int] = []
    unlabelled = 0
    for index in range(len(table.images)):
        image = folders.find(table.names[index], table.images[index])
        if image is None:
            missing += [index] if given[index] else []
            unlabelled += not given[index]
            continue
        if image in own:
            raise DatasetError(
                f"The image {image} is labelled twice, in {table.path} and {table.path}; remove one of the rows."
            )
        own[image] = index
    return own, missing, unlabelled


def _same(known: _Row, table: LabelTable, index: int) -> bool:
    other = known.table
    return (other.individuals, other.bodyparts) == (table.individuals, table.bodyparts) and np.array_equal(
        other.points[known.index], table.points[index], equal_nan=True
    )


class _Folders:
    """Finds the images of one CSV.

    Attributes:
        frames: The images next to the CSV, in natural order.
    """

    def __init__(self, root: Path, beside: Path) -> None:
        images = (path for path in beside.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not is_clutter(path.name))
        self.frames = sorted(images, key=natural_order)
        self._beside = FileFinder(root, (beside,))
        self._anywhere = FileFinder(root, (beside, root, root.parent, beside.parent, beside.parent.parent))

    def find(self, name: str, parts: tuple[str, ...]) -> Path | None:
        """The image of a row; accepts partially matching paths."""
        if len(parts) == 1 and parts[0].isdigit():
            number = int(parts[0]) if len(parts[0]) < 10 else len(self.frames)
            return self.frames[number] if number < len(self.frames) else None
        if not parts:
            return None
        return self._beside.find(parts[-1]) or self._anywhere.find(name, whole=True) or self._beside.find(name)
