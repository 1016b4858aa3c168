"""EndoVis 2017, robotic instrument segmentation: left camera frames and one folder of part masks per instrument.

Below any root::

    instrument_dataset_N/left_frames/frame000.png
    instrument_dataset_N/ground_truth/<Instrument>_labels/frame000.png

or, as prepared by the winners' code, cropped and with the masks of all instruments combined::

    instrument_dataset_N/images/frame000.jpg
    instrument_dataset_N/binary_masks/frame000.png       # 255 (or 1) tool
    instrument_dataset_N/parts_masks/frame000.png        # 85, 170, 255 (or 1, 2, 3): shaft, wrist, clasper

The part masks are preferred to the binary masks. ``instruments_masks`` contain types, not instances, and are not read.

A frame has 1920x1080 px; the camera image is rows 28 to 1051 and columns 320 to 1599. Image and masks are cropped to it, so
coordinates are px of the 1280x1024 image. Frames of other sizes are assumed to be cropped already.

Masks are lossless: 10 shaft, 20 wrist, 30 claspers, 40 ultrasound probe. The probe is neither an articulated instrument nor
tissue and becomes 255 (ignored). ``Other_labels`` (non-robotic objects) counts as background, as in the challenge. A sequence
without ``ground_truth`` (test data) has no masks. The right camera has no labels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from csl_tracker.arrays import Image
from csl_tracker.datasets.coco_records import BACKGROUND, LONE_SLOT
from csl_tracker.datasets.folders import choose, is_clutter, unique_names, walk
from csl_tracker.datasets.image_folder import ImageSequence, check_root, numbered_images, take_labels
from csl_tracker.errors import DatasetError
from csl_tracker.instruments import IGNORE_LABEL

CLASSES = ("background", "shaft", "wrist", "clasper")
PARTS = {0: 0, 10: 1, 20: 2, 30: 3, 40: IGNORE_LABEL}
"""Gray value of a mask -> label."""
PREPARED: Mapping[str, tuple[tuple[str, ...], Mapping[int, int]]] = {
    "parts_masks": (CLASSES, {0: 0, 85: 1, 170: 2, 255: 3, 1: 1, 2: 2, 3: 3}),
    "binary_masks": (("background", "tool"), {0: 0, 255: 1, 1: 1}),
}
"""Folder of prepared masks -> (classes, gray value -> label); the first existing folder is read."""
TYPES = (
    "bipolar_forceps",
    "prograsp_forceps",
    "large_needle_driver",
    "vessel_sealer",
    "grasping_retractor",
    "monopolar_curved_scissors",
)
"""The challenge's instrument types, as in the names of the label folders."""
FPS = 2.0
"""Frame rate, 1/s, after subsampling the 30 Hz videos."""

RAW_SIZE = (1080, 1920)
PICTURE = (slice(28, 1052), slice(320, 1600))
"""Rows and columns of the camera image in a raw frame."""

FRAMES = "left_frames"
TRUTH = "ground_truth"
IMAGES = "images"
_MASK_FOLDERS = (*PREPARED, "instruments_masks")
_EXPECTED = (
    f"looked for folders instrument_dataset_N with {FRAMES}/frame000.png and {TRUTH}/<Instrument>_labels/frame000.png, or with"
    f" {IMAGES}/frame000.jpg and {' or '.join(PREPARED)}"
)


class EndoVis2017Sequence(ImageSequence):
    """One sequence; a :class:`csl_tracker.datasets.sample.Sequence` without landmarks.

    If the masks of two instruments overlap, the later one (by folder name) wins.

    Attributes:
        slots: The instruments, named after their label folders: ``left_prograsp_forceps``.
        types: The type of each instrument, one of ``TYPES``, or empty.
    """

    def __init__(self, name: str, folder: Path, crop: bool = True) -> None:
        """Collect the file names.

        Args:
            name: Name within the dataset.
            folder: ``instrument_dataset_N``.
            crop: Crop raw frames to the camera image.

        Raises:
            DatasetError: There is no frame, or a mask is missing.
        """
        self._cropped = crop
        images = numbered_images(folder / FRAMES)
        if not images:
            raise DatasetError(f"The folder {folder / FRAMES} has no image frameNNN.png; copy it again.")
        self._folders = _label_folders(folder / TRUTH)
        self._masks = [numbered_images(path) for path in self._folders]
        slots = [_slot(path) for path in self._folders]
        super().__init__(
            name,
            images,
            classes=CLASSES,
            slots=slots or [LONE_SLOT],
            fps=FPS,
            more_files=[mask for masks in self._masks for mask in masks.values()],
        )
        for path, masks in zip(self._folders, self._masks, strict=True):
            for number in images:
                self._require(number, masks, path)
        self.types = tuple(next((kind for kind in TYPES if kind in slot), "") for slot in slots)

    def _crop(self, image: Image) -> Image:
        return image[PICTURE] if self._cropped and image.shape[:2] == RAW_SIZE else image

    def _labels(self, number: int) -> tuple[Image | None, Image | None]:
        if not self._masks:
            return None, None
        labels, instances = np.zeros(self._raw_size, np.uint8), np.zeros(self._raw_size, np.uint8)
        for slot, masks in enumerate(self._masks, start=1):
            part = take_labels(
                self._read(masks[number], gray=True),
                PARTS,
                masks[number],
                "masks that were resized or stored as JPEG have others, copy the published ones",
            )
            np.copyto(labels, part, where=part > 0)
            np.copyto(instances, np.uint8(slot), where=part > 0)
        return labels, instances


class PreparedSequence(ImageSequence):
    """One sequence with combined masks; a :class:`csl_tracker.datasets.sample.Sequence`."""

    def __init__(self, name: str, folder: Path) -> None:
        """Collect the file names.

        Args:
            name: Name within the dataset.
            folder: ``instrument_dataset_N``.

        Raises:
            DatasetError: There is no frame, or one has no mask.
        """
        images = numbered_images(folder / IMAGES)
        if not images:
            raise DatasetError(f"The folder {folder / IMAGES} has no image frameNNN.jpg or .png; copy it again.")
        kind = next((kind for kind in PREPARED if (folder / kind).is_dir()), None)
        classes, self._values = PREPARED[kind] if kind else ((BACKGROUND,), {})
        self._masks = numbered_images(folder / kind) if kind else {}
        super().__init__(name, images, classes=classes, fps=FPS, more_files=self._masks.values())
        if kind:
            for number in images:
                self._require(number, self._masks, folder / kind)

    def _labels(self, number: int) -> tuple[Image | None, Image | None]:
        if not self._masks:
            return None, None
        mask = self._read(self._masks[number], gray=True)
        remedy = "masks that were resized or stored as JPEG have others, prepare them again"
        return take_labels(mask, self._values, self._masks[number], remedy), None


def find_endovis2017(root: str | os.PathLike[str]) -> dict[str, Path]:
    """Find sequences: name -> folder. The root may be a sequence itself.

    Raises:
        DatasetError: No sequence was found.
    """
    root = Path(root)
    check_root(root, _EXPECTED)
    folders = [
        folder
        for folder, inside, _ in walk(root)
        if (FRAMES in inside and (TRUTH in inside or re.search(r"instrument_dataset", folder.resolve().name, re.IGNORECASE)))
        or _is_prepared(inside)
    ]
    if not folders:
        raise DatasetError(f"The folder {root} is not an EndoVis 2017 dataset: {_EXPECTED}.")
    return unique_names(root, folders)


def open_endovis2017(
    root: str | os.PathLike[str], sequences: Iterable[str] | None = None, crop: bool = True
) -> list[EndoVis2017Sequence | PreparedSequence]:
    """Open sequences of EndoVis 2017.

    Args:
        root: A sequence folder, or any parent folder.
        sequences: Sequence names; None for all.
        crop: Crop raw frames to the camera image.

    Raises:
        DatasetError: The folder is not such a dataset, a name is unknown, or a mask is missing.
    """
    chosen = choose(Path(root), find_endovis2017(root), sequences)
    return [
        PreparedSequence(name, folder)
        if not (folder / FRAMES).is_dir() and (folder / IMAGES).is_dir()
        else EndoVis2017Sequence(name, folder, crop)
        for name, folder in chosen
    ]


def _is_prepared(inside: Iterable[str]) -> bool:
    return IMAGES in inside and any(kind in inside for kind in _MASK_FOLDERS)


def _label_folders(truth: Path) -> list[Path]:
    """The mask folders of the robotic instruments; their names vary, but contain ``label``."""
    if not truth.is_dir():
        return []
    inside = [path for path in sorted(truth.iterdir()) if path.is_dir() and not is_clutter(path.name)]
    named = [path for path in inside if "label" in path.name.lower()]
    found = [path for path in named if "other" not in path.name.lower()]
    if not found:
        raise DatasetError(
            f"The folder {truth} has no folder <Instrument>_labels; copy it again, or remove it for a sequence without masks."
        )
    return found


def _slot(folder: Path) -> str:
    return re.sub(r"_*labels?$", "", re.sub(r"\W+", "_", folder.name.lower())) or LONE_SLOT
