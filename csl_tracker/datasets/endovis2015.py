"""EndoVis 2015, robotic: video, masks, pose files, and optionally the joints of Du et al. (2018).

:mod:`csl_tracker.datasets.endovis2015_files` lists the supported layouts.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.endovis2015_annotations import (
    CLASSES,
    LANDMARKS,
    JointLabels,
    assign_joints,
    read_joints,
    read_poses,
    snap_mask,
)
from csl_tracker.datasets.endovis2015_files import VIDEO, SequenceFiles, find_sequences
from csl_tracker.datasets.folders import choose
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError
from csl_tracker.pixels import Size
from csl_tracker.video import VideoReader

LENGTH_TOLERANCE = 1
"""Test masks may have this many frames more than the pose files; the shortest length is used."""


class EndoVis2015Sequence:
    """One sequence; a :class:`csl_tracker.datasets.sample.Sequence`.

    If the masks of two instruments overlap, the right one wins. A single instrument is named after the side it enters from.

    Attributes:
        name: Name within the dataset.
        landmarks: ``LANDMARKS``.
        classes: ``CLASSES``.
        slots: ``("left", "right")``, or one of them.
        fps: Frame rate, 1/s.
        size: (height, width), px.
        poses: The pose files, one per instrument.
        files: All input files.
        notes: Harmless anomalies in the labels, one sentence each.
    """

    landmarks = LANDMARKS
    classes = CLASSES
    notes: tuple[str, ...] = ()

    def __init__(self, files: SequenceFiles) -> None:
        """Read the annotations and the headers of the videos.

        Raises:
            DatasetError: A file is broken, or the frame counts differ by more than ``LENGTH_TOLERANCE``.
        """
        if files.video is None:
            known = [*files.masks.values(), *files.poses.values()]
            raise DatasetError(f"The sequence {files.name} has {known[0]} but no {VIDEO}; put the video beside it.")
        self.name = files.name
        self._video = VideoReader(files.video)
        self._masks = [VideoReader(files.masks[key], gray=True) for key in sorted(files.masks)]
        self.fps = self._video.fps
        self.size: Size = self._video.size
        self.poses = tuple(read_poses(files.poses[key]) for key in sorted(files.poses))
        self.slots = self._name_slots(files)
        for mask in self._masks:
            if mask.size != self.size:
                raise DatasetError(
                    f"The mask {mask.path} has {mask.size[1]}x{mask.size[0]} px and the video {self._video.path} has"
                    f" {self.size[1]}x{self.size[0]}; they must be of one size."
                )
        self._length = self._common_length()
        labels = read_joints(files.joints) if files.joints else None
        self._landmarks, self._labelled = self._collect_landmarks(labels)
        parts = [files.video, *(m.path for m in self._masks), *(p.path for p in self.poses), files.joints]
        self.files: tuple[Path, ...] = tuple(path for path in parts if path is not None)

    def __len__(self) -> int:
        """Number of frames: the common length of video, masks and poses."""
        return self._length

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples; video and masks are decoded in step, one frame at a time.

        Raises:
            DatasetError: A video cannot be decoded to its end.
        """
        streams = zip(
            self._video.timed(), zip(*self._masks, strict=False) if self._masks else itertools.repeat(()), strict=False
        )
        for index, ((stamp_ns, image), masks) in enumerate(itertools.islice(streams, self._length)):
            label_map = instances = None
            for slot, labels in enumerate(map(snap_mask, masks), start=1):
                tool = labels > 0
                if label_map is None or instances is None:
                    label_map, instances = labels, tool.view(np.uint8)
                else:
                    np.copyto(label_map, labels, where=tool)
                    np.copyto(instances, np.uint8(slot), where=tool)
            yield Sample(
                image=image,
                label_map=label_map,
                landmarks=self._landmarks[index].copy(),
                labelled=self._labelled[index].copy(),
                sequence=self.name,
                frame=index,
                stamp_ns=stamp_ns,
                instances=instances if len(masks) == len(self.slots) else None,
            )

    @property
    def all_landmarks(self) -> FloatArray:
        """Landmarks of all frames, float64 (frames, instruments, landmarks, 2), px, without decoding the video."""
        return np.array(self._landmarks)

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Annotation mask of all frames, bool (frames, instruments, landmarks)."""
        return np.array(self._labelled)

    def _name_slots(self, files: SequenceFiles) -> tuple[str, ...]:
        sides = tuple(sorted((set(files.poses) or set(files.masks)) - {""}))
        if sides:
            return sides
        axis = np.mean(self.poses[0].shaft_axes[:, 0]) if self.poses else -1.0
        return ("left",) if axis > 0 else ("right",)

    def _common_length(self) -> int:
        counts = {self._video.path: len(self._video)}
        counts |= {mask.path: len(mask) for mask in self._masks}
        counts |= {track.path: len(track) for track in self.poses}
        shortest, longest = min(counts, key=lambda p: counts[p]), max(counts, key=lambda p: counts[p])
        if counts[longest] - counts[shortest] > LENGTH_TOLERANCE:
            raise DatasetError(
                f"{longest} has {counts[longest]} frames and {shortest} has {counts[shortest]}; video, masks and poses of a"
                f" sequence need the same number (a difference of {LENGTH_TOLERANCE} is tolerated): copy the shorter one again."
            )
        return counts[shortest]

    def _collect_landmarks(self, labels: JointLabels | None) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        shape = (self._length, len(self.slots), len(LANDMARKS))
        centers = np.full((self._length, len(self.slots), 2), np.nan)
        for slot, track in enumerate(self.poses):
            centers[:, slot] = track.centers[: self._length]
        if labels is None:
            landmarks, labelled = np.full((*shape, 2), np.nan), np.zeros(shape, bool)
        else:
            beyond = [k for k, frame in enumerate(labels.frames) if frame is not None and k >= self._length + LENGTH_TOLERANCE]
            if beyond:
                raise DatasetError(
                    f"The joint file {labels.path} annotates frame {beyond[0]} and the sequence {self.name} has"
                    f" {self._length} frames; it belongs to another video."
                )
            landmarks, labelled = assign_joints(labels, centers)
        landmarks[:, :, LANDMARKS.index("center")] = centers
        labelled[:, :, LANDMARKS.index("center")] = bool(self.poses)
        height, width = self.size
        with np.errstate(invalid="ignore"):
            outside = ~((landmarks > -0.5) & (landmarks < (width - 0.5, height - 0.5))).all(axis=-1)
        beyond = outside & np.isfinite(landmarks).all(axis=-1)
        if beyond.any():
            frame, _, joint = (int(place[0]) for place in np.nonzero(beyond))
            self.notes = (
                f"{int(beyond.sum())} landmark(s) lie outside the picture of {width}x{height} px and count as out of view, such"
                f" as {LANDMARKS[joint]} of frame {frame}.",
            )
        landmarks[outside] = np.nan
        return landmarks, labelled


def open_endovis2015(root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[EndoVis2015Sequence]:
    """Open sequences of an EndoVis 2015 folder.

    Args:
        root: The folder, in any supported layout.
        sequences: Sequence names; None for all.

    Raises:
        DatasetError: The folder is not a dataset, a name is unknown, or a file is broken.
    """
    return [EndoVis2015Sequence(files) for _, files in choose(Path(root), find_sequences(root), sequences)]
