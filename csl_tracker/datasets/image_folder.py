"""Base for layouts of numbered image files with label images in parallel folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.datasets.coco_records import BACKGROUND, LONE_SLOT
from csl_tracker.datasets.folders import is_clutter
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.natural_order import natural_order
from csl_tracker.pixels import Size
from csl_tracker.video import DEFAULT_FPS, IMAGE_SUFFIXES, read_image


def numbered_images(folder: Path, pattern: str = r"^frame_?(\d+)$") -> dict[int, Path]:
    """Number -> image of a folder, sorted; the pattern matches the stem, its first group is the number.

    Raises:
        DatasetError: Two images have the same number.
    """
    compiled = re.compile(pattern, re.IGNORECASE)
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir(), key=natural_order) if folder.is_dir() else ():
        is_image = path.suffix.lower() in IMAGE_SUFFIXES and not is_clutter(path.name)
        match = compiled.search(path.stem) if is_image else None
        if match is None:
            continue
        number = int(match[1])
        if number in found:
            raise DatasetError(f"The images {found[number]} and {path} have the same number {number}; remove one of them.")
        found[number] = path
    return dict(sorted(found.items()))


def check_root(root: Path, expected: str) -> None:
    """Raise a DatasetError if the dataset folder does not exist."""
    if not root.is_dir():
        raise DatasetError(f"The dataset folder {root} does not exist; {expected}.")


def take_labels(gray: npt.NDArray[np.uint8], table: Mapping[int, int], path: Path, remedy: str) -> Image:
    """Convert the gray values of a lossless label image to labels.

    Args:
        gray: uint8 (H, W).
        table: Gray value -> label.
        path: Path of the image, for the message.
        remedy: Remedy for an unknown value, for the message.

    Raises:
        DatasetError: The image has an unknown value.
    """
    lut = np.zeros(256, np.uint8)
    for value, label in table.items():
        lut[value] = label
    unknown = set(np.flatnonzero(np.bincount(gray.ravel(), minlength=256)).tolist()) - set(table)
    if unknown:
        raise DatasetError(
            f"The label image {path} has the value {min(unknown)}; known are {', '.join(map(str, sorted(table)))}: {remedy}."
        )
    return np.asarray(lut[gray], np.uint8)


def drop_outside(landmarks: FloatArray, size: Size) -> int:
    """Set landmarks (float64 (..., 2), px) outside an image of (height, width) to NaN, in place; return their number."""
    with np.errstate(invalid="ignore"):
        outside = ((landmarks <= -0.5) | (landmarks >= (size[1] - 0.5, size[0] - 0.5))).any(axis=-1)
    landmarks[outside] = np.nan
    return int(outside.sum())


class ImageSequence:
    """A sequence of numbered image files; a :class:`csl_tracker.datasets.sample.Sequence`.

    Subclasses implement :meth:`_labels`.

    Attributes:
        name: Name within the dataset.
        landmarks: Landmark names; empty for a dataset of masks.
        classes: Class names.
        slots: Names of the instruments; at least one.
        fps: Frame rate, 1/s.
        size: (height, width) of the samples, px.
        files: All input files.
        notes: Harmless anomalies in the labels, one sentence each.
    """

    def __init__(
        self,
        name: str,
        images: Mapping[int, Path],
        *,
        landmarks: Sequence[str] = (),
        classes: Sequence[str] = (BACKGROUND,),
        slots: Sequence[str] = (LONE_SLOT,),
        fps: float = DEFAULT_FPS,
        more_files: Iterable[Path] = (),
    ) -> None:
        """Store the frames; reads only the first image, for its size.

        Args:
            name: Name within the dataset.
            images: Number -> file, in temporal order; at least one.
            landmarks: Landmark names.
            classes: Class names.
            slots: Names of the instruments.
            fps: Frame rate, 1/s.
            more_files: Input files other than the images.

        Raises:
            DatasetError: The first image is broken.
        """
        self.name = name
        self.landmarks = tuple(landmarks)
        self.classes = tuple(classes)
        self.slots = tuple(slots)
        self.fps = fps
        self.notes: tuple[str, ...] = ()
        self._images = dict(images)
        self._first = next(iter(self._images))
        self._raw_size: Size = read_image(self._images[self._first]).shape[:2]
        self.size: Size = self._crop(np.empty((*self._raw_size, 0), np.uint8)).shape[:2]
        shape = (len(self._images), len(self.slots), len(self.landmarks))
        self._points = np.full((*shape, 2), np.nan)
        self._labelled = np.zeros(shape, bool)
        self.files: tuple[Path, ...] = (*self._images.values(), *more_files)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._images)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples, one image at a time.

        Raises:
            DatasetError: An image or a label image is missing, broken, or differs in size from the first image.
        """
        for index, (number, path) in enumerate(self._images.items()):
            label_map, instances = self._labels(number)
            yield Sample(
                image=np.ascontiguousarray(self._crop(self._read(path))),
                label_map=None if label_map is None else np.ascontiguousarray(self._crop(label_map)),
                landmarks=self._points[index].copy(),
                labelled=self._labelled[index].copy(),
                sequence=self.name,
                frame=number,
                stamp_ns=round((number - self._first) * 1e9 / self.fps),
                instances=None if instances is None else np.ascontiguousarray(self._crop(instances)),
            )

    @property
    def all_landmarks(self) -> FloatArray:
        """Landmarks of all frames, float64 (frames, instruments, landmarks, 2), px, without reading the images."""
        return np.array(self._points)

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Annotation mask of all frames, bool (frames, instruments, landmarks)."""
        return np.array(self._labelled)

    def _labels(self, number: int) -> tuple[Image | None, Image | None]:
        """Uncropped label map and instances of a frame; see :class:`Sample`."""
        return None, None

    def _crop(self, image: Image) -> Image:
        """Crop an image (H, W, ...) to the part used."""
        return image

    def _read(self, path: Path, *, gray: bool = False) -> Image:
        """Read an image or a label image.

        Raises:
            DatasetError: It is broken, or its size differs from the first image.
        """
        image = read_image(path, gray=gray)
        if image.shape[:2] != self._raw_size:
            raise DatasetError(
                f"{path} has {image.shape[1]}x{image.shape[0]} px and {self._images[self._first]}"
                f" {self._raw_size[1]}x{self._raw_size[0]}; all images and label images of a sequence need one size: copy it"
                " again."
            )
        return image

    def _require(self, number: int, masks: Mapping[int, Path], folder: Path) -> None:
        """Raise a DatasetError if a frame has no label image."""
        if number not in masks:
            raise DatasetError(
                f"The frame {self._images[number]} has no label image in {folder}; copy that folder again, or remove the frame."
            )
