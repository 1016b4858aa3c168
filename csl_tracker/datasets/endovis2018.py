"""EndoVis 2018, robotic scene segmentation: left camera frames and RGB label images with instrument parts and tissue.

Below any root, in one release folder or in several::

    miccai_challenge_2018_release_1/labels.json
    miccai_challenge_2018_release_1/seq_1/left_frames/frame000.png
    miccai_challenge_2018_release_1/seq_1/labels/frame000.png

``labels.json`` is a list of ``{"name", "color", "classid"}``; the one in the nearest parent folder is used, else any below the
root, else :data:`COLORS`. The parts of the robotic instruments are classes. Suction instruments and ultrasound probes are
neither articulated instruments nor tissue and become 255 (ignored). All other names (tissue, thread, needles, clamps) are
background. Unknown colours become 255. Images are 1280x1024 px; the right camera has no labels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from csl_tracker.arrays import Image
from csl_tracker.datasets.folders import choose, unique_names, walk
from csl_tracker.datasets.image_folder import ImageSequence, check_root, numbered_images
from csl_tracker.datasets.json_file import load_json
from csl_tracker.errors import DatasetError
from csl_tracker.instruments import IGNORE_LABEL, Color

CLASSES = ("background", "shaft", "wrist", "clasper")
COLORS: Mapping[str, Color] = {
    "instrument-shaft": (0, 255, 0),
    "instrument-clasper": (0, 255, 255),
    "instrument-wrist": (125, 255, 12),
}
"""Default colours without a ``labels.json``; the background is black."""
FPS = 2.0
"""Frame rate, 1/s, after subsampling the 60 Hz videos; removed stretches without motion are not visible in the numbering."""

FRAMES = "left_frames"
LABELS = "labels"
TABLE = "labels.json"
_TOOLS = ("suction", "probe")
_EXPECTED = f"looked for folders seq_N with {FRAMES}/frame000.png, and {LABELS}/frame000.png where there are labels"


class EndoVis2018Sequence(ImageSequence):
    """One sequence; a :class:`csl_tracker.datasets.sample.Sequence` without landmarks."""

    def __init__(self, name: str, folder: Path, table: Path | None) -> None:
        """Collect the file names.

        Args:
            name: Name within the dataset.
            folder: ``seq_N``.
            table: The ``labels.json``, or None.

        Raises:
            DatasetError: There is no frame, a label image is missing, or the table is broken.
        """
        images = numbered_images(folder / FRAMES)
        if not images:
            raise DatasetError(f"The folder {folder / FRAMES} has no image frameNNN.png; copy it again.")
        self._masks = numbered_images(folder / LABELS)
        colors = {(0, 0, 0): 0, **{color: _label_of(part) for part, color in COLORS.items()}}
        self._values = {_packed(color): label for color, label in (colors if table is None else read_colors(table)).items()}
        files = [*self._masks.values(), *([] if table is None else [table])]
        super().__init__(name, images, classes=CLASSES, fps=FPS, more_files=files)
        if (folder / LABELS).is_dir():
            for number in images:
                self._require(number, self._masks, folder / LABELS)

    def _labels(self, number: int) -> tuple[Image | None, Image | None]:
        if not self._masks:
            return None, None
        rgb = self._read(self._masks[number]).astype(np.uint32)
        packed = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
        labels = np.full(packed.shape, IGNORE_LABEL, np.uint8)
        for value, label in self._values.items():
            labels[packed == value] = label
        return labels, None


def read_colors(path: Path) -> dict[Color, int]:
    """Read a ``labels.json``.

    Returns:
        Colour -> label in the order of ``CLASSES``, 255 for ignored.

    Raises:
        DatasetError: It is broken, or an entry lacks a name or colour, or a colour has two names.
    """
    data = load_json(path)
    if not isinstance(data, list):
        raise DatasetError(f"The file {path} holds a {type(data).__name__}; it needs a list of name, color and classid.")
    colors: dict[Color, int] = {}
    for index, entry in enumerate(data):
        name = entry.get("name") if isinstance(entry, dict) else None
        color = entry.get("color") if isinstance(entry, dict) else None
        valid = isinstance(color, list) and len(color) == 3 and all(type(part) is int and 0 <= part <= 255 for part in color)
        if not isinstance(name, str) or not isinstance(color, list) or not valid:
            raise DatasetError(f"Entry {index} of {path} is {entry!r}; give a name and a color of three numbers from 0 to 255.")
        key = (color[0], color[1], color[2])
        if colors.get(key, _label_of(name)) != _label_of(name):
            raise DatasetError(f"Entry {index} of {path} gives the colour {color} to {name!r}, which another class has.")
        colors[key] = _label_of(name)
    return colors


def find_endovis2018(root: str | os.PathLike[str]) -> dict[str, Path]:
    """Find sequences: name -> folder. The root may be a sequence itself.

    Raises:
        DatasetError: No sequence was found.
    """
    root = Path(root)
    check_root(root, _EXPECTED)
    folders = [
        folder
        for folder, inside, _ in walk(root)
        if FRAMES in inside and (LABELS in inside or folder.resolve().name.lower().startswith("seq"))
    ]
    if not folders:
        raise DatasetError(f"The folder {root} is not an EndoVis 2018 dataset: {_EXPECTED}.")
    return unique_names(root, folders)


def open_endovis2018(root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[EndoVis2018Sequence]:
    """Open sequences of EndoVis 2018.

    Args:
        root: A sequence folder, or any parent folder.
        sequences: Sequence names; None for all.

    Raises:
        DatasetError: The folder is not such a dataset, a name is unknown, a label image is missing, or ``labels.json`` is
            broken.
    """
    root = Path(root)
    chosen = choose(root, find_endovis2018(root), sequences)
    tables = [folder / TABLE for folder, _, names in walk(root) if TABLE in names]
    return [EndoVis2018Sequence(name, folder, _table_of(root, folder, tables)) for name, folder in chosen]


def _table_of(root: Path, folder: Path, tables: list[Path]) -> Path | None:
    """The table in the nearest parent folder of a sequence (which may be the root itself), else any."""
    above = [path / TABLE for path in (folder, *folder.parents) if root == path or root in path.parents]
    above += [root.resolve().parent / TABLE] if folder == root else []
    return next((path for path in above if path.is_file()), next(iter(tables), None))


def _label_of(name: str) -> int:
    """Label of a challenge class."""
    words = name.lower()
    if any(tool in words for tool in _TOOLS):
        return IGNORE_LABEL
    return next((CLASSES.index(part) for part in CLASSES[1:] if words in (part, f"instrument-{part}")), 0)


def _packed(color: Color) -> int:
    return (color[0] << 16) | (color[1] << 8) | color[2]
