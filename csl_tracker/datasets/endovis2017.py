"""EndoVis 2017, robotic instrument segmentation: left camera frames and one folder of part masks for every instrument.

Below any root::

    instrument_dataset_N/left_frames/frame000.png
    instrument_dataset_N/ground_truth/<Instrument>_labels/frame000.png

or, as forks of the challenge's winners prepare it, cropped and with the masks of all instruments in one::

    instrument_dataset_N/images/frame000.jpg
    instrument_dataset_N/binary_masks/frame000.png       # 255 (or 1) tool
    instrument_dataset_N/parts_masks/frame000.png        # 85, 170, 255 (or 1, 2, 3): shaft, wrist, clasper

of which the parts are read where they are there, and else the tool. ``instruments_masks`` tell types and no instances, and are
left alone.

A frame is 1920x1080 px, in which the camera's picture is rows 28 to 1051 and columns 320 to 1599: image and masks are cropped
to that, so that coordinates are px of the 1280x1024 picture. Frames of any other size are taken as cropped before.

Masks are lossless: 10 shaft, 20 wrist, 30 claspers, and 40, an ultrasound probe, which is neither an articulated instrument
nor tissue and becomes 255, ignored. ``Other_labels`` (everything that is no robotic instrument) is left out, as in the
challenge: its pixels are background. A sequence without ``ground_truth``, as those of the test, has no masks. The right camera
has no labels.
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
"""Folder of prepared masks -> classes, and gray value -> label; the first that is there is read."""
TYPES = (
    "bipolar_forceps",
    "prograsp_forceps",
    "large_needle_driver",
    "vessel_sealer",
    "grasping_retractor",
    "monopolar_curved_scissors",
)
"""The challenge's instrument types, as they occur in the names of the label folders."""
FPS = 2.0
"""Frames a second: the videos of 30 Hz were sampled so."""

RAW_SIZE = (1080, 1920)
PICTURE = (slice(28, 1052), slice(320, 1600))
"""Rows and columns of a raw frame that the camera's picture takes."""

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

    Where the masks of two instruments overlap, the later one, by the name of its folder, wins.

    Attributes:
        slots: The instruments, by the names of their label folders: ``left_prograsp_forceps``.
        types: The type of every instrument, one of ``TYPES``; empty for a folder that names none.
    """

    def __init__(self, name: str, folder: Path, crop: bool = True) -> None:
        """Take in the names of all files.

        Args:
            name: Name within the dataset.
            folder: ``instrument_dataset_N``.
            crop: Crop raw frames to the picture.

        Raises:
            DatasetError: There is no frame, or one has no mask.
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
    """One sequence whose masks of all instruments were made one; a :class:`csl_tracker.datasets.sample.Sequence`."""

    def __init__(self, name: str, folder: Path) -> None:
        """Take in the names of all files.

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
    """Name -> folder of the sequences below a folder, or of the one that it is.

    Raises:
        DatasetError: There is none.
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
        raise DatasetError(f"The folder {root} is no EndoVis 2017 dataset: {_EXPECTED}.")
    return unique_names(root, folders)


def open_endovis2017(
    root: str | os.PathLike[str], sequences: Iterable[str] | None = None, crop: bool = True
) -> list[EndoVis2017Sequence | PreparedSequence]:
    """Open sequences of EndoVis 2017.

    Args:
        root: A folder above them, or one of them.
        sequences: Their names; None for all of them.
        crop: Crop raw frames to the camera's picture.

    Raises:
        DatasetError: The folder is no such dataset, a name is unknown, or a mask is missing.
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
    """The folders of the robotic instruments' masks; their names vary, but have ``label`` in them."""
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
