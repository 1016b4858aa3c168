"""The joints of Du et al. (2018, EndoVisPoseAnnotation) without pose files: their JSON files and the frames of EndoVis 2015.

If the pose files of the challenge are available, :mod:`csl_tracker.datasets.endovis2015` provides both. ``trainN_labels.json``
and ``testN_labels.json`` are the sequences ``trainN`` and ``testN``. Their frames are

* the video of the challenge, ``Video.avi`` next to the JSON or in ``Training/DatasetN`` and ``Testing/DatasetN`` (entry k of
  the JSON is video frame k), with the masks of the same sequence if present; or
* image files by the names in the JSON, matched by the end of their path: ``Dataset2/Raw/img_000060_raw.png``.

Few frames are annotated; the others have no labels. Duplicate joints count once, the key ``occluded`` is ignored. ``tool1``
(clasper) and ``tool3`` (scissors) are the right instrument, ``tool2`` and ``tool4`` the left one. Joints without an id (some of
class EndPoint) go to the instrument in their frame with the nearest joints. Coordinates are integers (clicked pixels); integers
are pixel centres.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets import endovis2015_annotations
from csl_tracker.datasets.coco_records import LONE_SLOT
from csl_tracker.datasets.endovis2015 import LENGTH_TOLERANCE, EndoVis2015Sequence
from csl_tracker.datasets.endovis2015_annotations import assign_joints, read_joints
from csl_tracker.datasets.endovis2015_files import VIDEO, SequenceFiles, find_file, find_sequences
from csl_tracker.datasets.folders import FileFinder, choose, walk
from csl_tracker.datasets.image_folder import ImageSequence, check_root, drop_outside
from csl_tracker.datasets.json_file import load_json
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.natural_order import natural_order
from csl_tracker.pixels import Size

LANDMARKS = endovis2015_annotations.LANDMARKS[1:]
"""Those of :mod:`csl_tracker.datasets.endovis2015_annotations` without ``center``, which comes from pose files."""
SIDES = {"tool1": "right", "tool2": "left", "tool3": "right", "tool4": "left"}
"""Instrument id -> slot."""

_NAME = re.compile(r"^(train|test)(\d+)_labels\.json$", re.IGNORECASE)
_EXPECTED = "looked for trainN_labels.json and testN_labels.json, such as test1_labels.json"


@dataclass
class JointFiles:
    """File paths of one sequence.

    Attributes:
        labels: The JSON.
        video: Video and masks, or None.
        images: Index in the JSON -> image file, if there is no video.
    """

    labels: Path
    video: SequenceFiles | None = None
    images: dict[int, Path] = field(default_factory=dict)


class EndoVis2015JointsSequence:
    """One sequence; a :class:`csl_tracker.datasets.sample.Sequence`.

    Attributes:
        name: ``train3`` or ``test5``.
        landmarks: ``LANDMARKS``.
        classes: Those of EndoVis 2015 if there are masks, else only the background.
        slots: ``left`` and/or ``right``; the ids if two of them have the same side.
        fps: Frame rate, 1/s; 25 for image files.
        size: (height, width), px.
        files: All input files.
        notes: Harmless anomalies in the labels, one sentence each.
    """

    landmarks = LANDMARKS

    def __init__(self, name: str, files: JointFiles) -> None:
        """Read the annotations, and the header of the video or the first image.

        Raises:
            DatasetError: A file is broken, or an annotated frame is missing.
        """
        self.name = name
        self._frames: EndoVis2015Sequence | ImageSequence
        if files.video is not None:
            self._frames = EndoVis2015Sequence(replace(files.video, poses={}, joints=None))
            numbers = list(range(len(self._frames)))
        else:
            self._frames = ImageSequence(name, files.images)
            numbers = list(files.images)
        labels = read_joints(files.labels)
        annotated = [index for index, frame in enumerate(labels.frames) if frame is not None]
        missing = sorted(set(annotated) - set(numbers))
        if missing and not (files.video is not None and missing[-1] < len(numbers) + LENGTH_TOLERANCE):
            raise DatasetError(
                f"The joint file {files.labels} annotates entry {missing[0]}, for which there is no frame ({len(missing)} of"
                f" {len(annotated)} annotated entries); put the frames there, or the video it belongs to."
            )
        sides = [SIDES.get(tool, tool) for tool in labels.ids]
        slots = sides if len(set(sides)) == len(sides) else list(labels.ids)
        order = sorted(range(len(slots)), key=lambda index: slots[index])
        self.slots = tuple(slots[index] for index in order) or (LONE_SLOT,)
        # Without pose files the ids keep their order.
        points, labelled = assign_joints(labels, np.full((len(labels.frames), len(self.slots), 2), np.nan))
        order = order or [0]
        keep = [number for number in numbers if number < len(labels.frames)]
        shape = (len(numbers), len(self.slots), len(LANDMARKS))
        self._points, self._labelled = np.full((*shape, 2), np.nan), np.zeros(shape, bool)
        self._points[: len(keep)] = points[keep][:, order, 1:]
        self._labelled[: len(keep)] = labelled[keep][:, order, 1:]
        self.fps = self._frames.fps
        self.size: Size = self._frames.size
        self.classes = self._frames.classes if files.video is not None and files.video.masks else ("background",)
        self.files: tuple[Path, ...] = (*self._frames.files, files.labels)
        outside = drop_outside(self._points, self.size)
        self.notes = (
            (f"{outside} joint(s) in {files.labels} lie outside the image and count as out of view.",) if outside else ()
        )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._frames)

    def __iter__(self) -> Iterator[Sample]:
        """Yield all samples, annotated or not, one frame at a time.

        Raises:
            DatasetError: A video cannot be decoded completely, or an image is broken or has another size.
        """
        videos = isinstance(self._frames, EndoVis2015Sequence)
        for index, sample in enumerate(self._frames):
            yield replace(
                sample,
                landmarks=self._points[index].copy(),
                labelled=self._labelled[index].copy(),
                sequence=self.name,
                stamp_ns=sample.stamp_ns if videos else round(sample.frame * 1e9 / self.fps),
                instances=sample.instances if self._frames.slots == self.slots else None,
            )

    @property
    def all_landmarks(self) -> FloatArray:
        """Landmarks of all frames, float64 (frames, instruments, landmarks, 2), px, without reading the frames."""
        return np.array(self._points)

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Annotation mask of all frames, bool (frames, instruments, landmarks)."""
        return np.array(self._labelled)


def find_endovis2015_joints(root: str | os.PathLike[str]) -> dict[str, JointFiles]:
    """Find sequences: name -> files.

    Raises:
        DatasetError: There is no sequence, or one has neither video nor images.
    """
    root = Path(root)
    check_root(root, _EXPECTED)
    labels, has_video = [], False
    for folder, _, names in walk(root):
        labels += [folder / name for name in names if _NAME.match(name)]
        has_video |= find_file(folder, VIDEO, names) is not None
    if not labels:
        raise DatasetError(f"The folder {root} has no annotations of Du et al.: {_EXPECTED}.")
    videos = {files.joints: files for files in find_sequences(root).values()} if has_video else {}
    own = [path.name.lower() for path in labels]
    found = {}
    for path in sorted(labels, key=natural_order):
        name = path.name[: -len("_labels.json")].lower()
        if own.count(path.name.lower()) > 1:
            name = f"{path.parent.relative_to(root).as_posix()}/{name}"
        files = JointFiles(path, videos.get(path))
        if files.video is None:
            files.images = _images(root, path)
            if not files.images:
                raise DatasetError(
                    f"The joint file {path} has neither a Video.avi nor the images that it names below {root}; put the video of"
                    " the sequence, or its frames, there."
                )
        found[name] = files
    return found


def open_endovis2015_joints(
    root: str | os.PathLike[str], sequences: Iterable[str] | None = None
) -> list[EndoVis2015JointsSequence]:
    """Open sequences with the joints of Du et al.

    Args:
        root: A parent folder of the JSON files and the frames.
        sequences: Names such as ``train1``; None for all.

    Raises:
        DatasetError: The folder has no such files, a name is unknown, or a file is broken.
    """
    chosen = choose(Path(root), find_endovis2015_joints(root), sequences)
    return [EndoVis2015JointsSequence(name, files) for name, files in chosen]


def _images(root: Path, labels: Path) -> dict[int, Path]:
    """Index in the JSON -> image, matched by the longest end of its path that exists below the root or next to the JSON."""
    data = load_json(labels, "The joint file")
    finder = FileFinder(root, (root, labels.parent))
    found: dict[int, Path] = {}
    for index, entry in enumerate(data if isinstance(data, list) else ()):
        name = entry.get("filename") if isinstance(entry, dict) else None
        image = finder.find(name) if isinstance(name, str) else None
        if image is not None:
            found[index] = image
    return found
