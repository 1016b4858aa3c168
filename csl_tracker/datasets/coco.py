"""COCO keypoints, as exported by CVAT, Label Studio and other labelling tools.

A dataset is a JSON file, or a folder with JSON files in it or in ``annotations/``. Several files are merged by image, so that
CVAT's separate exports of keypoints and masks form one dataset. Images may be anywhere below the folder.

Interpretation of the format:

* A category with ``keypoints`` is an instrument; its keypoints are landmarks. A category whose annotations have a
  ``segmentation`` is a class, except ``ignore``, ``ignored``, ``void`` and ``unlabeled``, whose pixels become 255. Later
  annotations cover earlier ones.
* A keypoint with ``v`` 1 (occluded) or 2 is labelled. One with ``v`` 0 is not labelled, unless ``keypoints_absent`` of the
  annotation lists it: then it is known to be out of view. In an image with annotations, an instrument without one is known to
  be absent. An image without annotations is unlabelled, unless it has ``"labelled": true``.
* Polygons are in px from the image corner, as in COCO. COCO keypoints are pixel indices (integers are pixel centres); CVAT and
  Label Studio measure from the corner. ``info.keypoint_origin`` is ``center`` or ``corner``; without it, files of these two
  tools are detected by their ``info``, and all others use ``center``.
* The slot of an instrument is its attribute ``slot``, ``side`` or ``instrument``, or left/right in its category name; else
  given by its track (CVAT's ``track_id``), ordered by mean x; else by position: the leftmost of two is ``left``, and a single
  one is ``left`` in the left half of the image if the sequence has two instruments elsewhere.
* The sequence of an image is its key ``sequence``, else the folder in its ``file_name``, else the name of the JSON file. If
  JSON files in several folders use one name for images of different folders, the name gets the folder as a prefix. Frames are
  ordered by the key ``frame``, else by natural order of the names. The list ``sequences`` may define ``fps``, ``slots``,
  ``landmarks`` and ``classes`` of a ``name``, as files written by this package do.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.datasets.coco_file import CocoFiles, read_coco_files
from csl_tracker.datasets.coco_masks import decode_segmentation
from csl_tracker.datasets.coco_records import BACKGROUND, IGNORE_NAMES, Frame
from csl_tracker.datasets.coco_slots import assign_slots
from csl_tracker.datasets.folders import choose
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.natural_order import natural_path_order
from csl_tracker.pixels import Size
from csl_tracker.video import DEFAULT_FPS, read_image

_MAX_POINTS = 10_000_000


class CocoSequence:
    """The images of one sequence; a :class:`csl_tracker.datasets.sample.Sequence`.

    Attributes:
        name: Name within the dataset.
        landmarks: Keypoint names of all categories, in order.
        classes: ``background``, then the categories with masks.
        slots: Names of the instruments.
        fps: Frame rate, 1/s.
        size: (height, width), px.
        skeleton: Pairs of landmarks joined by the categories.
        files: The JSON files and all images.
        notes: Harmless anomalies in the labels, one sentence each.
    """

    def __init__(
        self,
        name: str,
        frames: list[Frame],
        landmarks: tuple[str, ...],
        classes: tuple[str, ...],
        skeleton: tuple[tuple[str, str], ...] = (),
        fps: float = DEFAULT_FPS,
        slots: tuple[str, ...] | None = None,
    ) -> None:
        self.name = name
        self.landmarks = landmarks
        self.classes = classes
        self.skeleton = skeleton
        self.fps = fps
        self._frames = sorted(frames, key=lambda f: (f.number is None, f.number or 0, natural_path_order(f.path.as_posix())))
        self.size = self._common_size()
        self.slots = assign_slots(self._frames, slots, self.size[1])
        notes: list[str] = []
        if len(self._frames) * len(self.slots) * len(self.landmarks) > _MAX_POINTS:
            raise DatasetError(
                f"The sequence {name} of {frames[0].source} has {len(self._frames)} frames of {len(self.slots)} instruments"
                f" with {len(self.landmarks)} landmarks, and {_MAX_POINTS} points are the limit; part it."
            )
        flat = [(where, count) for frame in self._frames for where, count in frame.flat]
        if flat:
            notes.append(
                f"{sum(count for _, count in flat)} polygon(s) of fewer than three vertices have no area and are left out: in"
                f" the {flat[0][0]}{f' and in {len(flat) - 1} others' if len(flat) > 1 else ''}."
            )
        self._landmarks, self._labelled = self._collect(notes)
        self.notes = tuple(notes)
        self.files: tuple[Path, ...] = (*sorted({f.source for f in frames}), *(f.path for f in self._frames))

    def __len__(self) -> int:
        """Number of images."""
        return len(self._frames)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples, one image at a time.

        Raises:
            DatasetError: An image is broken or has another size than stated, or a mask cannot be decoded.
        """
        for index, frame in enumerate(self._frames):
            image = read_image(frame.path)
            if image.shape[:2] != self.size:
                raise DatasetError(
                    f"The image {frame.path} has {image.shape[1]}x{image.shape[0]} px, and {frame.source} says"
                    f" {self.size[1]}x{self.size[0]}; put the image there that was labelled, or export its labels again."
                )
            number = index if frame.number is None else frame.number
            label_map, instances = self._maps(frame)
            yield Sample(
                image=image,
                label_map=label_map,
                landmarks=self._landmarks[index].copy(),
                labelled=self._labelled[index].copy(),
                sequence=self.name,
                frame=number,
                stamp_ns=round(number * 1e9 / self.fps) if frame.stamp_ns is None else frame.stamp_ns,
                instances=instances,
            )

    @property
    def images(self) -> tuple[Path, ...]:
        """Image file of each frame."""
        return tuple(frame.path for frame in self._frames)

    @property
    def all_landmarks(self) -> FloatArray:
        """Landmarks of all frames, float64 (frames, instruments, landmarks, 2), px, without reading the images."""
        return np.array(self._landmarks)

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Annotation mask of all frames, bool (frames, instruments, landmarks)."""
        return np.array(self._labelled)

    def _common_size(self) -> Size:
        first = self._frames[0]
        size = first.size
        if size is None:
            shape = read_image(first.path).shape
            size = (shape[0], shape[1])
        for frame in self._frames:
            if frame.size is not None and frame.size != size:
                raise DatasetError(
                    f"The image {frame.path} has {frame.size[1]}x{frame.size[0]} px and {first.path} {size[1]}x{size[0]}, both"
                    f" in the sequence {self.name} of {frame.source}; put images of one size each into folders of their own, or"
                    " give them the key 'sequence'."
                )
        return size

    def _collect(self, notes: list[str]) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        shape = (len(self._frames), len(self.slots), len(self.landmarks))
        landmarks, labelled = np.full((*shape, 2), np.nan), np.zeros(shape, bool)
        height, width = self.size
        outside: list[str] = []
        for index, frame in enumerate(self._frames):
            labelled[index] = frame.labelled or bool(frame.instruments or frame.regions)
            if not frame.instruments and not frame.labelled:
                labelled[index] = False  # masks do not imply labelled landmarks
            for item in frame.instruments:
                slot = self.slots.index(item.slot)
                labelled[index, slot] = [name in item.labelled for name in self.landmarks]
                for name, point in item.points.items():
                    if -0.5 < point[0] < width - 0.5 and -0.5 < point[1] < height - 0.5:
                        landmarks[index, slot, self.landmarks.index(name)] = point
                    else:
                        outside.append(f"{name} of {item.where} at ({point[0]:.1f}, {point[1]:.1f})")
        if outside:
            notes.append(
                f"{len(outside)} landmark(s) lie outside their image of {width}x{height} px and count as out of view, such as"
                f" {outside[0]}."
            )
        return landmarks, labelled

    def _maps(self, frame: Frame) -> tuple[Image | None, Image | None]:
        """The label map, and the instance map if all masks have a slot."""
        if not (bool(frame.regions) if frame.segmented is None else frame.segmented):
            return None, None
        labels = np.zeros(self.size, np.uint8)
        has_instances = all(region.slot for region in frame.regions) if frame.instanced is None else frame.instanced
        instances = np.zeros(self.size, np.uint8) if has_instances else None
        for region in frame.regions:
            try:
                mask = decode_segmentation(region.segmentation, self.size)
            except ValueError as error:
                raise DatasetError(f"The segmentation of {region.where} {error}; export the labels again.") from error
            if mask is None:
                continue
            labels[mask] = IGNORE_LABEL if region.category in IGNORE_NAMES else self.classes.index(region.category)
            if instances is not None:
                known = region.slot in self.slots
                instances[mask] = self.slots.index(region.slot) + 1 if known else IGNORE_LABEL if region.slot else 0
        return labels, instances


def open_coco(root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[CocoSequence]:
    """Open the sequences of a COCO keypoints dataset.

    Args:
        root: A JSON file with its images next to it, or the folder of both.
        sequences: Sequence names; None for all.

    Raises:
        DatasetError: The file is missing or broken, has unknown or duplicate ids, an image is missing, or a sequence is
            unknown.
    """
    files = CocoFiles(Path(root))
    for path, data in read_coco_files(Path(root)):
        files.add(path, data)
    files.part_sequences()
    return [sequence for _, sequence in choose(Path(root), _sequences(files), sequences)]


def _sequences(files: CocoFiles) -> dict[str, CocoSequence]:
    """All sequences by name, in natural order.

    Raises:
        DatasetError: Images of a sequence differ in size, or an instrument has two annotations in one image.
    """
    groups: dict[str, list[Frame]] = defaultdict(list)
    for frame in files.frames.values():
        groups[frame.sequence].append(frame)
    found = {}
    for name in sorted(groups, key=natural_path_order):
        # The labels of a sequence may be spread over several files; any of them may contain its settings.
        stated = {(frame.source.parent, frame.stated or name) for frame in groups[name]}
        settings = next((data for (path, of), data in files.settings.items() if (path.parent, of) in stated), {})
        try:
            fps = float(settings.get("fps", DEFAULT_FPS))
        except (TypeError, ValueError):
            fps = 0.0
        if not 0 < fps < 1e6:
            raise DatasetError(
                f"The sequence {name} of {groups[name][0].source} has fps {settings['fps']!r}; give a number above 0."
            )
        joints = {label for frame in groups[name] for item in frame.instruments for label in item.labelled}
        masks = {region.category for frame in groups[name] for region in frame.regions}
        landmarks = _merge(_names(settings, "landmarks"), files.landmarks, joints)
        classes = _merge(_names(settings, "classes"), files.categories, masks)
        found[name] = CocoSequence(
            name,
            groups[name],
            landmarks,
            (BACKGROUND, *(label for label in classes if label not in IGNORE_NAMES and label != BACKGROUND)),
            tuple(pair for pair in files.skeleton if set(pair) <= set(landmarks)),
            fps,
            tuple(_names(settings, "slots") or ()) or None,
        )
    return found


def _names(settings: Mapping[str, Any], key: str) -> list[str] | None:
    names = settings.get(key)
    return [str(name) for name in names] if isinstance(names, list) else None


def _merge(stated: list[str] | None, known: list[str], used: set[str]) -> tuple[str, ...]:
    """The stated names plus other names in use; all known names if none are stated."""
    if stated is None:
        return tuple(known)
    return tuple(dict.fromkeys([*stated, *(name for name in known if name in used)]))
