"""Writes samples as COCO keypoints; :mod:`csl_tracker.datasets.coco` reads them back without loss.

Extensions to COCO, which other readers ignore: images have ``sequence``, ``frame``, ``stamp_ns`` and ``segmented`` (masks were
drawn), instrument annotations the attribute ``slot`` and ``keypoints_absent`` (known to be out of view), and the file the list
``sequences``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.coco_masks import encode_rle, polygons_for_people
from csl_tracker.datasets.coco_records import BACKGROUND, UNKNOWN_SLOT
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.output import AtomicOutput
from csl_tracker.pixels import from_corner

INSTRUMENT = "instrument"
"""Category of all instruments with landmarks."""
IGNORE = "ignore"
"""Category of pixels without a known class."""
FILE_NAME = "coco.json"
KEYPOINTS_FILE = "annotations/person_keypoints_default.json"
INSTANCES_FILE = "annotations/instances_default.json"
"""File names expected by CVAT and similar tools."""


class Described(Protocol):
    """Properties of a sequence stored in the file; a subset of :class:`csl_tracker.datasets.sample.Sequence`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def fps(self) -> float:
        """Frame rate, 1/s."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the instruments."""

    @property
    def landmarks(self) -> tuple[str, ...]:
        """Names of the landmarks."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the background first."""


class CocoWriter(AtomicOutput):
    """Writes samples to a folder atomically: ``images/SEQUENCE/FRAME.png`` and the JSON.

    With ``editable``, the output suits labelling tools: polygons instead of run lengths, keypoints measured from the image
    corner, and separate JSON files for skeletons and masks, as CVAT requires.
    """

    def __init__(
        self,
        folder: Path,
        sequences: Iterable[Described],
        skeleton: Iterable[tuple[str, str]] = (),
        *,
        editable: bool = False,
        description: str = "",
    ) -> None:
        """Prepare the folder.

        Args:
            folder: Output folder.
            sequences: Sequences of the samples; their frames are not read here.
            skeleton: Pairs of joined landmarks; unknown names are ignored.
            editable: Write for labelling tools rather than for training.
            description: Text for the JSON's ``info``.

        Raises:
            DatasetError: The folder is not empty or not writable, or two sequences have the same name.
        """
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(f"The output {folder} exists and is not empty; remove it, or choose another folder.")
        self.folder = folder
        self.editable = editable
        self._partial = folder.with_name(f".{folder.name}.partial")
        self._info = {"description": description, "keypoint_origin": "corner" if editable else "center"}
        self._sequences: dict[str, dict[str, Any]] = {}
        for sequence in sequences:
            if sequence.name in self._sequences:
                raise DatasetError(f"Two sequences are called {sequence.name}; write them into folders of their own.")
            self._sequences[sequence.name] = {
                "name": sequence.name,
                "fps": sequence.fps,
                "slots": list(sequence.slots),
                "landmarks": list(sequence.landmarks),
                "classes": list(sequence.classes),
            }
        described = self._sequences.values()
        self._keypoints: list[str] = list(dict.fromkeys(name for item in described for name in item["landmarks"]))
        classes = dict.fromkeys(name for item in described for name in item["classes"] if name != BACKGROUND)
        self._masked = (*classes, IGNORE)
        names = dict.fromkeys([*([INSTRUMENT] if self._keypoints else []), *self._masked])
        self._categories: dict[str, dict[str, Any]] = {name: {"id": id_, "name": name} for id_, name in enumerate(names, 1)}
        if self._keypoints:
            joined = [pair for pair in skeleton if set(pair) <= set(self._keypoints)]
            self._categories[INSTRUMENT] |= {
                "supercategory": "",
                "keypoints": self._keypoints,
                "skeleton": [[self._keypoints.index(name) + 1 for name in pair] for pair in joined],
            }
        self._images: list[dict[str, Any]] = []
        self._instruments: list[dict[str, Any]] = []
        self._masks: list[dict[str, Any]] = []
        with self._refusals():
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)

    def write(self, sample: Sample, image_file: Path | None = None) -> str:
        """Add a sample of one of the sequences.

        Args:
            sample: The sample.
            image_file: A file with exactly the sample's image; it is linked or copied instead of encoding the image.

        Returns:
            The image path relative to the folder.

        Raises:
            DatasetError: The disk is full, or the label map has a value without a class.
        """
        sequence = self._sequences[sample.sequence]
        height, width = sample.image.shape[:2]
        name = self._image_name(sample, ".png" if image_file is None else image_file.suffix.lower())
        with self._refusals():
            _put_image(self._partial / name, sample.image, image_file)
        image_id = len(self._images) + 1
        record = {
            "id": image_id,
            "file_name": name.removeprefix("images/") if self.editable else name,
            "width": width,
            "height": height,
            "sequence": sample.sequence,
            "frame": sample.frame,
            "stamp_ns": sample.stamp_ns,
            "segmented": sample.label_map is not None,
            "instances": sample.instances is not None,
        }
        self._images.append(record)
        if sample.labelled.any():
            for slot, points, labelled in zip(sequence["slots"], sample.landmarks, sample.labelled, strict=True):
                seen = np.asarray(labelled & np.isfinite(points).all(axis=-1))
                if self.editable and not seen.any():
                    continue
                annotation = self._instrument(sequence["landmarks"], points, labelled, seen)
                self._instruments.append({"image_id": image_id, "attributes": {"slot": slot}, **annotation})
        if sample.label_map is not None:
            self._add_masks(image_id, sample, sequence, name)
        return name

    def close(self) -> None:
        """Write the JSON and rename the folder to its final name.

        Raises:
            DatasetError: The disk is full; the partial output is deleted.
        """
        skeletons = [item for item in self._categories.values() if "keypoints" in item]
        masked = [{key: self._categories[name][key] for key in ("id", "name")} for name in self._masked]
        try:
            with self._refusals():
                if self.editable:
                    self._dump(KEYPOINTS_FILE, skeletons, self._instruments)
                    self._dump(INSTANCES_FILE, masked, self._masks)
                else:
                    self._dump(FILE_NAME, list(self._categories.values()), [*self._instruments, *self._masks])
                if self.folder.is_dir():
                    self.folder.rmdir()  # it was empty at the start
                os.replace(self._partial, self.folder)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Delete the partial output. May be called twice."""
        shutil.rmtree(self._partial, ignore_errors=True)

    @property
    def partial(self) -> Path:
        """The temporary folder until :meth:`close`; other files can be added there."""
        return self._partial

    def _image_name(self, sample: Sample, suffix: str) -> str:
        # Names from files must not escape the folder.
        folders = [part for part in re.split(r"[\\/]", sample.sequence) if part.strip(". ")]
        if self.editable:  # CVAT tasks use file names without folders
            return f"images/{'_'.join(folders)}_{sample.frame:06d}{suffix}"
        return "/".join(["images", *folders, f"{sample.frame:06d}{suffix}"])

    def _instrument(
        self, names: list[str], points: FloatArray, labelled: npt.NDArray[np.bool_], seen: npt.NDArray[np.bool_]
    ) -> dict[str, Any]:
        shown = from_corner(points) if self.editable else points
        values: list[float | int] = []
        for name in self._keypoints:
            index = names.index(name) if name in names else -1
            values += [float(shown[index, 0]), float(shown[index, 1]), 2] if index >= 0 and seen[index] else [0, 0, 0]
        absent = [name for name, known, visible in zip(names, labelled, seen, strict=True) if known and not visible]
        box = _box(from_corner(points[seen]))
        return {
            "category_id": self._categories[INSTRUMENT]["id"],
            "keypoints": values,
            "num_keypoints": int(seen.sum()),
            "keypoints_absent": absent,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
            "segmentation": [],
        }

    def _add_masks(self, image_id: int, sample: Sample, sequence: dict[str, Any], name: str) -> None:
        """Add one annotation per class and instrument."""
        assert sample.label_map is not None
        codes = sample.label_map.astype(np.uint16)
        if sample.instances is not None:
            codes += sample.instances.astype(np.uint16) << 8
        for code in np.unique(codes).tolist():
            instance, label = divmod(code, 256)
            if code == 0:
                continue
            mask = codes == code
            segmentation: Any = polygons_for_people(mask) if self.editable else encode_rle(mask)
            if not segmentation:
                continue
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            self._masks.append(
                {
                    "image_id": image_id,
                    "category_id": self._category(label, sequence["classes"], name)["id"],
                    "segmentation": segmentation,
                    "bbox": [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "attributes": {} if not instance else {"slot": _slot_name(instance, sequence["slots"])},
                }
            )

    def _category(self, label: int, classes: list[str], name: str) -> dict[str, Any]:
        if label == IGNORE_LABEL:
            return self._categories[IGNORE]
        if label >= len(classes):
            raise DatasetError(
                f"The label map of {name.removeprefix('images/')} has the value {label}, which none of the classes"
                f" {', '.join(classes)} owns; correct its mask."
            )
        if not label and BACKGROUND not in self._categories:  # background pixels of an instrument
            self._categories[BACKGROUND] = {"id": len(self._categories) + 1, "name": BACKGROUND}
            self._masked = (*self._masked, BACKGROUND)
        return self._categories[classes[label]]

    def _dump(self, name: str, categories: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
        data = {
            "info": self._info,
            "licenses": [],
            "sequences": list(self._sequences.values()),
            "images": self._images,
            "categories": categories,
            "annotations": [{"id": number, **item} for number, item in enumerate(annotations, 1)],
        }
        path = self._partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data, allow_nan=False), encoding="utf-8")

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abort()
            raise DatasetError(
                f"The dataset {self.folder} cannot be written ({error.strerror or error}); make room on the disk, or choose"
                " another folder."
            ) from error


def _put_image(path: Path, image: npt.NDArray[np.uint8], source: Path | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise ValueError(f"the frame {path.name} was written before")
    if source is None:
        encoded, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if not encoded:
            raise ValueError(f"the frame {path.name} cannot be encoded")
        path.write_bytes(data.tobytes())
        return
    try:
        os.link(source.resolve(), path)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, path)


def _box(points: FloatArray) -> list[float]:
    """[x, y, width, height] around points, px from the corner; zeros without any."""
    if not len(points):
        return [0.0, 0.0, 0.0, 0.0]
    low, high = points.min(axis=0), points.max(axis=0)
    return [float(value) for value in (*low, *(high - low))]


def _slot_name(instance: int, slots: list[str]) -> str:
    return slots[instance - 1] if instance <= len(slots) else UNKNOWN_SLOT
