"""Decodes a sequence once into memory-mapped arrays, for random access in training."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from csl_tracker.datasets.registry import FileSequence
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.pixels import Resize, Size, resize_image
from csl_tracker.text import printable

FORMAT = 3
"""Format version; increment it when existing caches become invalid."""

_ARRAYS = ("images", "label_maps", "landmarks", "labelled", "stamps")


def resize_label_map(label_map: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    """Resize a uint8 (H, W) label map to (height, width) by majority vote per pixel; ties select the lowest label."""
    if label_map.shape == size:
        return label_map
    values = np.unique(label_map)
    shrinks = size[0] <= label_map.shape[0] and size[1] <= label_map.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    planes = (np.where(label_map == value, 255, 0).astype(np.uint8) for value in values)
    shares = [cv2.resize(plane, (size[1], size[0]), interpolation=interpolation) for plane in planes]
    return np.asarray(np.take(values, np.argmax(shares, axis=0)), np.uint8)


class FrameCache:
    """A decoded sequence on disk with random access; implements the sequence protocol.

    The folder name contains a hash of the source files, so that a changed source is decoded again. Arrays are opened lazily per
    process, so an instance can be pickled to data loader workers. A missing or fully ignored label map is returned as None.

    Attributes:
        name: Name of the sequence.
        landmarks: Landmark names.
        classes: Class names.
        slots: Names of the instruments.
        fps: Frame rate, 1/s.
        size: (height, width) of the cached frames, px.
        files: The source files.
        folder: Folder of the arrays.
    """

    def __init__(self, sequence: FileSequence, folder: str | os.PathLike[str], size: Size | None = None) -> None:
        """Decode the sequence unless it is cached.

        Args:
            sequence: The sequence.
            folder: Parent folder of all caches.
            size: (height, width) of the cached frames, px; None keeps the source size. Landmarks are scaled.

        Raises:
            DatasetError: The sequence cannot be decoded, or the folder is not writable.
            ValueError: The sequence has no source files to hash.
        """
        if not sequence.files:
            raise ValueError(f"the sequence {sequence.name} has no source files, whose hash identifies the cache")
        self.name = sequence.name
        self.landmarks = sequence.landmarks
        self.classes = sequence.classes
        self.slots = sequence.slots
        self.fps = sequence.fps
        self.size: Size = (int(size[0]), int(size[1])) if size is not None else sequence.size
        self.files = sequence.files
        self._length = len(sequence)
        safe_name = re.sub(r"\W+", "_", self.name)
        self.folder = Path(folder) / f"{safe_name}-{self.size[1]}x{self.size[0]}-{self._key(sequence)}"
        self._arrays: dict[str, npt.NDArray[Any]] | None = None
        if not self.folder.is_dir():
            self._decode(sequence)

    def __len__(self) -> int:
        """Number of frames."""
        return self._length

    def __getitem__(self, index: int) -> Sample:
        """Frame ``index`` as new, writable arrays.

        Raises:
            IndexError: There is no such frame.
        """
        if not -self._length <= index < self._length:
            raise IndexError(f"frame {index} of the {self._length} frames of {self.name}")
        index %= self._length
        arrays = self._open()
        label_map = np.array(arrays["label_maps"][index]) if len(arrays["label_maps"]) else None
        return Sample(
            image=np.array(arrays["images"][index]),
            label_map=None if label_map is None or (label_map == IGNORE_LABEL).all() else label_map,
            landmarks=np.array(arrays["landmarks"][index]),
            labelled=np.array(arrays["labelled"][index]),
            sequence=self.name,
            frame=index,
            stamp_ns=int(arrays["stamps"][index]),
        )

    def __iter__(self) -> Iterator[Sample]:
        """Yield the frames in order."""
        return (self[index] for index in range(self._length))

    @property
    def all_landmarks(self) -> npt.NDArray[np.float64]:
        """Landmarks of all frames, float64 (frames, instruments, landmarks, 2), px of the cached frames."""
        return np.array(self._open()["landmarks"])

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Annotation mask of all frames, bool (frames, instruments, landmarks)."""
        return np.array(self._open()["labelled"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": None}  # pickling a memory map would copy its data

    def _key(self, sequence: FileSequence) -> str:
        digest = hashlib.sha256()
        digest.update(json.dumps([FORMAT, self.size, self.landmarks, self.classes, self.slots, len(sequence)]).encode())
        digest.update(getattr(sequence, "mapping", "").encode())
        for path in self.files:
            with path.open("rb") as file:
                for chunk in iter(lambda file=file: file.read(1 << 20), b""):  # type: ignore[misc]
                    digest.update(chunk)
        return digest.hexdigest()[:16]

    def _open(self) -> dict[str, npt.NDArray[Any]]:
        if self._arrays is None:
            try:
                self._arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
            except (OSError, ValueError) as error:
                raise DatasetError(f"The cache {self.folder} is broken ({error}); remove that folder.") from error
        return self._arrays

    def _decode(self, sequence: FileSequence) -> None:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}-", dir=self.folder.parent))
        except OSError as error:
            raise DatasetError(
                f"The cache folder {self.folder.parent} cannot be written to ({error}); choose another."
            ) from error
        try:
            self._fill(sequence, temporary)
            temporary.chmod(0o755)
            try:
                os.replace(temporary, self.folder)
            except OSError:
                if not self.folder.is_dir():  # otherwise another process wrote the same content first
                    raise
        except OSError as error:
            raise DatasetError(f"The cache {self.folder} cannot be written ({error}); make room, or choose another.") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _fill(self, sequence: FileSequence, folder: Path) -> None:
        height, width = self.size
        count, points = self._length, (len(self.slots), len(self.landmarks))
        resize = Resize(sequence.size, self.size)
        images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (count, height, width, 3))
        label_maps: npt.NDArray[np.uint8] | None = None
        landmarks = np.full((count, *points, 2), np.nan)
        labelled = np.zeros((count, *points), bool)
        stamps = np.zeros(count, np.int64)
        bar = tqdm(sequence, total=count, desc=f"decoding {printable(self.name)}", unit="frame", leave=False, disable=None)
        for index, sample in enumerate(bar):
            images[index] = resize_image(sample.image, self.size)
            landmarks[index] = resize.points(sample.landmarks)
            labelled[index] = sample.labelled
            stamps[index] = sample.stamp_ns
            if sample.label_map is not None:
                if label_maps is None:
                    label_maps = np.lib.format.open_memmap(folder / "label_maps.npy", "w+", np.uint8, (count, height, width))
                    label_maps[:index] = IGNORE_LABEL
                label_maps[index] = resize_label_map(sample.label_map, self.size)
            elif label_maps is not None:
                label_maps[index] = IGNORE_LABEL
        if label_maps is None:
            np.save(folder / "label_maps.npy", np.empty((0, height, width), np.uint8))
        np.save(folder / "landmarks.npy", landmarks)
        np.save(folder / "labelled.npy", labelled)
        np.save(folder / "stamps.npy", stamps)
