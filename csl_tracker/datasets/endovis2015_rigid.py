"""EndoVis 2015, rigid instruments: numbered frames, part and instrument masks, and a CSV with the instruments' borders.

Supported layouts, below any root:

* segmentation: ``Segmentation_Rigid_Training/Training/OPn/{Raw/img_NN_raw.png, Masks/img_NN_class.png,
  Masks/img_NN_instrument.png}``;
* its test data: ``Segmentation_Rigid_Testing_Revision/Testing/OPn/img_NN_raw.png``, and the masks in
  ``Segmentation_Rigid_Testing_GT/OPn/img_NN_class.png``;
* tracking: ``Tracking_Rigid_Training/Training/OPn/{Raw, Masks, Instruments_OPn.csv}``.

The CSV has no header; its columns are the image and, for one or two instruments, ``center_x, center_y, axis_x, axis_y``. Frames
that are not listed are not labelled. A center of ``-1 -1`` or with empty cells is out of view. The center is on the border
between shaft and manipulator, not on the ring of the shaft as in the robotic data, hence the landmark name ``border``.

Masks are lossless: 0 background, 70 manipulator, 160 shaft. In the instrument masks, each instrument has its own gray value;
the lowest value of a sequence is the first slot. Frames of the segmentation data are single images, not a video.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.datasets.coco_records import LONE_SLOT
from csl_tracker.datasets.endovis2015_annotations import CLASSES, MASK_VALUES
from csl_tracker.datasets.folders import choose, unique_names, walk
from csl_tracker.datasets.image_folder import ImageSequence, check_root, drop_outside, numbered_images, take_labels
from csl_tracker.errors import DatasetError
from csl_tracker.text_files import read_text
from csl_tracker.video import read_image

LANDMARKS = ("border",)
_RAW, _CLASS, _INSTRUMENT = r"^img_?(\d+)_raw$", r"^img_?(\d+)_class$", r"^img_?(\d+)_instruments?$"
_OPERATION = re.compile(r"^op_?\d+$", re.IGNORECASE)
_CSV = re.compile(r"^instruments?_op_?\d+\.csv$", re.IGNORECASE)
_PER_INSTRUMENT = 4
_MAX_BYTES = 16 << 20
_EXPECTED = (
    "looked for folders OPn with img_NN_raw.png in them or in their folder Raw, such as"
    " Segmentation_Rigid_Training/Training/OP1/Raw/img_01_raw.png"
)


@dataclass(frozen=True)
class InstrumentTable:
    """One CSV.

    Attributes:
        path: The file.
        centers: Image number -> float64 (instruments, 2), px, NaN if out of view.
        axes: Image number -> float64 (instruments, 2), shaft direction towards the tip, NaN if out of view.
        instruments: Number of instruments.
    """

    path: Path
    centers: Mapping[int, FloatArray]
    axes: Mapping[int, FloatArray]
    instruments: int


def read_instruments(path: Path, images: Mapping[int, Path]) -> InstrumentTable:
    """Read a CSV of the tracking data.

    Args:
        path: The file.
        images: Number -> image of the sequence.

    Raises:
        DatasetError: A row is invalid, or its image is missing or listed twice.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DatasetError(f"The file {path} has {path.stat().st_size >> 20} MiB; it needs a line an image.")
        reader = csv.reader(io.StringIO(read_text(path), newline=""))
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"The file {path} cannot be read as a CSV ({error}); copy it again.") from error
    centers: dict[int, FloatArray] = {}
    axes: dict[int, FloatArray] = {}
    for line, row in rows:
        while len(row) > 1 and not row[-1] and (len(row) - 1) % _PER_INSTRUMENT:
            row = row[:-1]  # trailing comma
        number = re.search(r"(\d+)\D*$", row[0])
        values = [_number(cell) for cell in row[1:]]
        if number is None or len(values) not in (_PER_INSTRUMENT, 2 * _PER_INSTRUMENT) or None in values:
            raise DatasetError(
                f"Line {line} of {path} reads {','.join(row)[:100]!r}; write the image and center_x, center_y, axis_x, axis_y"
                " of one instrument or of two, with commas between them (-1, -1 first where one is not seen)."
            )
        index = int(number[1])
        if index not in images:
            raise DatasetError(
                f"Line {line} of {path} is about the image {row[0]}, which is not there; put it beside the others."
            )
        if index in centers:
            raise DatasetError(f"Line {line} of {path} lists the image {row[0]} again; remove one of the rows.")
        table = np.array(values, np.float64).reshape(-1, _PER_INSTRUMENT)
        table[(table[:, :2] == -1).all(axis=1) | np.isnan(table[:, :2]).any(axis=1)] = np.nan
        centers[index], axes[index] = table[:, :2], table[:, 2:]
    return InstrumentTable(path, centers, axes, max(map(len, centers.values()), default=1))


@dataclass
class OperationFiles:
    """File paths of one sequence.

    Attributes:
        folder: ``OPn``.
        images: Number -> frame.
        parts: Number -> class mask.
        instruments: Number -> instrument mask.
        table: The CSV, or None.
    """

    folder: Path
    images: dict[int, Path] = field(default_factory=dict)
    parts: dict[int, Path] = field(default_factory=dict)
    instruments: dict[int, Path] = field(default_factory=dict)
    table: Path | None = None


class EndoVis2015RigidSequence(ImageSequence):
    """One sequence; a :class:`csl_tracker.datasets.sample.Sequence`.

    Attributes:
        slots: ``instrument_1`` and ``instrument_2`` in the order of the CSV, or ``instrument``.
        table: The CSV, or None.
    """

    def __init__(self, name: str, files: OperationFiles) -> None:
        """Read the file names, the CSV, and the gray values of the instruments.

        Raises:
            DatasetError: The CSV is broken, or a frame of a segmentation sequence has no mask.
        """
        self.table = None if files.table is None else read_instruments(files.table, files.images)
        self._parts, self._instruments = files.parts, files.instruments
        self._gray = sorted(
            {int(v) for path in self._instruments.values() for v in np.unique(read_image(path, gray=True)) if v}
        )
        count = max(1, len(self._gray), self.table.instruments if self.table else 1)
        super().__init__(
            name,
            files.images,
            landmarks=LANDMARKS if self.table else (),
            classes=CLASSES,
            slots=[LONE_SLOT] if count == 1 else [f"{LONE_SLOT}_{number}" for number in range(1, count + 1)],
            more_files=[*self._parts.values(), *self._instruments.values(), *([files.table] if files.table else [])],
        )
        if self._parts and self.table is None:
            for number in files.images:
                self._require(number, self._parts, next(iter(self._parts.values())).parent)
        self._collect()

    def _collect(self) -> None:
        if self.table is None:
            return
        for index, number in enumerate(self._images):
            if number in self.table.centers:
                found = self.table.centers[number]
                self._points[index, : len(found), 0] = found
                self._labelled[index] = True
        outside = drop_outside(self._points, self.size)
        if outside:
            self.notes += (f"{outside} center(s) in {self.table.path} lie outside their image and count as out of view.",)

    def _labels(self, number: int) -> tuple[Image | None, Image | None]:
        labels = instances = None
        remedy = "masks that were resized or stored as JPEG have others, copy the published ones"
        if number in self._parts:
            values = {value: label for label, value in enumerate(MASK_VALUES)}
            labels = take_labels(self._read(self._parts[number], gray=True), values, self._parts[number], remedy)
        if number in self._instruments:
            values = {0: 0, **{value: slot for slot, value in enumerate(self._gray, start=1)}}
            instances = take_labels(self._read(self._instruments[number], gray=True), values, self._instruments[number], remedy)
        return labels, instances


def find_endovis2015_rigid(root: str | os.PathLike[str]) -> dict[str, OperationFiles]:
    """Find sequences: name -> files. The root may be a sequence itself.

    Raises:
        DatasetError: No sequence was found.
    """
    root = Path(root)
    check_root(root, _EXPECTED)
    found: dict[Path, OperationFiles] = {}
    truth: list[OperationFiles] = []
    for folder, inside, names in walk(root):
        if not _OPERATION.match((folder.resolve() if folder == root else folder).name):
            continue
        frames = next((name for name in inside if name.lower() == "raw"), ".")
        masks = next((name for name in inside if name.lower() == "masks"), ".")
        files = OperationFiles(
            folder,
            numbered_images(folder / frames, _RAW),
            numbered_images(folder / masks, _CLASS),
            numbered_images(folder / masks, _INSTRUMENT),
            next((folder / name for name in names if _CSV.match(name)), None),
        )
        if files.images:
            found[folder] = files
        elif files.parts:
            truth.append(files)
    if not found:
        raise DatasetError(f"The folder {root} is not a dataset of EndoVis 2015's rigid instruments: {_EXPECTED}.")
    for masks_alone in truth:
        for files in found.values():
            same = files.folder.name.lower() == masks_alone.folder.name.lower()
            if same and not files.parts and files.table is None and "test" in files.folder.as_posix().lower():
                files.parts, files.instruments = masks_alone.parts, masks_alone.instruments
    return {name: found[folder] for name, folder in unique_names(root, found).items()}


def open_endovis2015_rigid(
    root: str | os.PathLike[str], sequences: Iterable[str] | None = None
) -> list[EndoVis2015RigidSequence]:
    """Open sequences of EndoVis 2015's rigid instruments.

    Args:
        root: A sequence folder, or any parent folder.
        sequences: Sequence names; None for all.

    Raises:
        DatasetError: The folder is not such a dataset, a name is unknown, or a file is broken or missing.
    """
    chosen = choose(Path(root), find_endovis2015_rigid(root), sequences)
    return [EndoVis2015RigidSequence(name, files) for name, files in chosen]


def _number(cell: str) -> float | None:
    """Parse a cell; NaN if empty, None if invalid."""
    if not cell or cell.lower() == "nan":
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
