"""SurgPose (Wu et al., ICRA 2025): stereo videos of two da Vinci instruments with seven keypoints each.

Below any root, N = 0..33 (0..19 for training, 20..33 for validation)::

    00000N/{keypoints_left.yaml, keypoints_right.yaml, StereoCalibrationDVRK.ini}
    00000N/regular/{left_video.mp4, right_video.mp4}

Each camera is a sequence, ``00000N_left`` and ``00000N_right``, of 1400x986 px. The YAML file has one entry per video frame,
from 0: keypoint 1 to 14 -> ``[x, y]`` or ``null``. Keypoints 1 to 7 belong to PSM1 (right instrument), 8 to 14 to PSM3 (left
instrument); both become ``keypoint_1`` to ``keypoint_7``. ``null`` means not labelled: 6 and 7 are labelled in a few frames
only. There are no masks.

The calibration is in mm, and ``X_right = R X_left + T``; ``kc_0 kc_1 kc_4`` are radial, ``kc_2 kc_3`` tangential coefficients.
"""

from __future__ import annotations

import configparser
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.camera import CameraModel
from csl_tracker.datasets.coco_records import BACKGROUND
from csl_tracker.datasets.endovis2015 import LENGTH_TOLERANCE
from csl_tracker.datasets.folders import choose, unique_names, walk
from csl_tracker.datasets.image_folder import check_root, drop_outside
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.pixels import Size
from csl_tracker.text_files import decode
from csl_tracker.video import VideoReader
from csl_tracker.yaml_files import read_yaml

KEYPOINTS = 7
LANDMARKS = tuple(f"keypoint_{number}" for number in range(1, KEYPOINTS + 1))
SLOTS = ("left", "right")
CALIBRATION = "StereoCalibrationDVRK.ini"

_FIRST = {"left": KEYPOINTS + 1, "right": 1}
"""First keypoint of each slot."""
_EXPECTED = "looked for folders 00000N with keypoints_left.yaml and regular/left_video.mp4, or the same of the right camera"
_MAX_CALIBRATION = 1 << 20
_MAX_BYTES, _MAX_VALUES = 32 << 20, 3_000_000
"""Limits of a keypoint file; the published ones have 15,000 lines."""


def read_keypoints(path: Path) -> dict[int, dict[int, tuple[float, float]]]:
    """Read a YAML file of keypoints.

    Returns:
        Frame -> keypoint (1 to 14) -> (x, y), px, without ``null`` keypoints.

    Raises:
        DatasetError: The file is missing or invalid, or a keypoint is unknown or not a pair of numbers.
    """
    data = read_yaml(path, "The file of keypoints", error=DatasetError, max_bytes=_MAX_BYTES, max_values=_MAX_VALUES)
    if not isinstance(data, dict):
        raise DatasetError(
            f"The keypoints {path} hold a {type(data).__name__} and not a mapping of frames; copy the file again."
        )
    frames = {}
    for key, points in data.items():
        try:
            number = int(key)
        except (TypeError, ValueError):
            number = -1
        if number < 0 or not isinstance(points, dict | None):
            raise DatasetError(f"The keypoints {path} have the entry {key!r}: {str(points)[:60]}; a frame needs its keypoints.")
        frames[number] = {
            keypoint: point
            for name, value in (points or {}).items()
            for keypoint, point in [_keypoint(path, number, name, value)]
            if point is not None
        }
    return frames


def _keypoint(path: Path, frame: int, name: Any, value: Any) -> tuple[int, tuple[float, float] | None]:
    known = isinstance(name, int) and not isinstance(name, bool) and 1 <= name <= len(SLOTS) * KEYPOINTS
    if known and value is None:
        return name, None
    pair = (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(part, int | float) and not isinstance(part, bool) for part in value)
    )
    if not known or not pair or not all(map(math.isfinite, value)):
        raise DatasetError(
            f"Frame {frame} of {path} has the keypoint {name!r}: {str(value)[:60]}; a keypoint is a number from 1 to"
            f" {len(SLOTS) * KEYPOINTS} and has [x, y] or null."
        )
    return name, (float(value[0]), float(value[1]))


@dataclass(frozen=True)
class StereoCalibration:
    """Rectified stereo pair, in m; the baseline is in P of the right camera."""

    left: CameraModel
    right: CameraModel


def read_calibration(path: Path) -> StereoCalibration:
    """Read a ``StereoCalibrationDVRK.ini`` and compute the rectification like ROS ``camera_calibration``.

    Raises:
        DatasetError: It is missing, broken, incomplete, or not a valid stereo calibration.
    """
    parser = configparser.ConfigParser()
    try:
        with path.open("rb") as file:
            parser.read_string(decode(file.read(_MAX_CALIBRATION)))
        sides = [_intrinsics(parser[section]) for section in ("StereoLeft", "StereoRight")]
        pose = parser["StereoRight"]
        rotation = np.array([float(pose[f"R_{i}"]) for i in range(9)]).reshape(3, 3)
        translation = np.array([float(pose[f"T_{i}"]) for i in range(3)]) / 1000.0
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"The calibration {path} cannot be read ({error}); copy it again.") from error
    except KeyError as error:
        raise DatasetError(f"The calibration {path} has no {error.args[0]}; copy it again.") from error
    except (configparser.Error, ValueError) as error:
        raise DatasetError(f"The calibration {path} is broken ({' '.join(str(error).split())}); copy it again.") from error
    (size, left, left_d), (_, right, right_d) = sides
    try:
        # Validate first: the errors of the OpenCV functions below are not user-friendly.
        for k, d in ((left, left_d), (right, right_d)):
            CameraModel(*size, k, d, "", np.eye(3), np.hstack((k, np.zeros((3, 1)))))
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or not np.linalg.norm(translation) > 0:
            raise ConfigError(f"R is {rotation.tolist()} and T is {translation.tolist()} m.")
        r1, r2, p1, p2, *_ = cv2.stereoRectify(
            left, left_d, right, right_d, size, rotation, translation, flags=cv2.CALIB_ZERO_DISPARITY, alpha=0
        )
        return StereoCalibration(
            CameraModel(*size, left, left_d, "", np.asarray(r1), np.asarray(p1)),
            CameraModel(*size, right, right_d, "", np.asarray(r2), np.asarray(p2)),
        )
    except ConfigError as error:
        raise DatasetError(f"The calibration {path} is not a valid stereo calibration: {error}") from error


def _intrinsics(section: Mapping[str, str]) -> tuple[tuple[int, int], FloatArray, FloatArray]:
    """(width, height), K and D."""
    fx, fy, cx, cy = (float(section[key]) for key in ("fc_x", "fc_y", "cc_x", "cc_y"))
    size = (round(float(section["res_x"])), round(float(section["res_y"])))
    d = np.array([float(section[f"kc_{i}"]) for i in range(5)])
    return size, np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), d


class SurgPoseSequence:
    """One camera of one trajectory; a :class:`csl_tracker.datasets.sample.Sequence` without masks.

    Attributes:
        name: ``000007_left``.
        landmarks: ``LANDMARKS``.
        classes: Only the background.
        slots: ``SLOTS``.
        fps: Frame rate, 1/s.
        size: (height, width), px.
        files: The video, the keypoints, and the calibration if present.
        notes: Harmless anomalies in the labels, one sentence each.
    """

    landmarks = LANDMARKS
    classes = (BACKGROUND,)
    slots = SLOTS

    def __init__(self, name: str, folder: Path, side: str) -> None:
        """Read the keypoints and the header of the video.

        Args:
            name: Name within the dataset.
            folder: ``00000N``.
            side: Camera, ``left`` or ``right``.

        Raises:
            DatasetError: A file is missing or broken, or there are more keypoint frames than video frames.
        """
        self.name = name
        self._side = side
        self._calibration = folder / CALIBRATION
        path = folder / f"keypoints_{side}.yaml"
        video = folder / "regular" / f"{side}_video.mp4"
        if not video.is_file():
            raise DatasetError(f"The keypoints {path} have no video {video}; put it there.")
        self._video = VideoReader(video)
        self.fps = self._video.fps
        self.size: Size = self._video.size
        frames = read_keypoints(path)
        if frames and max(frames) >= len(self._video) + LENGTH_TOLERANCE:
            raise DatasetError(
                f"The keypoints {path} go to frame {max(frames)}, and {video} has {len(self._video)} frames; copy the video"
                " again."
            )
        shape = (len(self._video), len(SLOTS), KEYPOINTS)
        self._points, self._labelled = np.full((*shape, 2), np.nan), np.zeros(shape, bool)
        for number, points in frames.items():
            if number >= len(self._video):
                continue
            for keypoint, point in points.items():
                slot = next(index for index, key in enumerate(SLOTS) if 0 <= keypoint - _FIRST[key] < KEYPOINTS)
                self._points[number, slot, keypoint - _FIRST[SLOTS[slot]]] = point
        self._labelled[:] = np.isfinite(self._points).all(axis=-1)
        outside = drop_outside(self._points, self.size)
        self.notes = (f"{outside} keypoint(s) in {path} lie outside the image and count as out of view.",) if outside else ()
        self.files: tuple[Path, ...] = (video, path, *([self._calibration] if self._calibration.is_file() else []))

    def __len__(self) -> int:
        """Number of frames of the video."""
        return len(self._video)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples, one frame at a time.

        Raises:
            DatasetError: The video cannot be decoded completely.
        """
        for index, (stamp_ns, image) in enumerate(self._video.timed()):
            yield Sample(
                image=image,
                label_map=None,
                landmarks=self._points[index].copy(),
                labelled=self._labelled[index].copy(),
                sequence=self.name,
                frame=index,
                stamp_ns=stamp_ns,
            )

    @property
    def all_landmarks(self) -> FloatArray:
        """Landmarks of all frames, float64 (frames, instruments, landmarks, 2), px, without decoding the video."""
        return np.array(self._points)

    @property
    def all_labelled(self) -> npt.NDArray[np.bool_]:
        """Annotation mask of all frames, bool (frames, instruments, landmarks)."""
        return np.array(self._labelled)

    @cached_property
    def camera(self) -> CameraModel | None:
        """The camera's calibration; None without a calibration file.

        Raises:
            DatasetError: The file is broken.
        """
        if not self._calibration.is_file():
            return None
        both = read_calibration(self._calibration)
        return both.left if self._side == "left" else both.right


def find_surgpose(root: str | os.PathLike[str]) -> dict[str, tuple[Path, str]]:
    """Find sequences in or below a folder: name -> (folder, camera).

    Raises:
        DatasetError: No sequence was found.
    """
    root = Path(root)
    check_root(root, _EXPECTED)
    pattern = re.compile(r"keypoints_(left|right)\.yaml$")
    cameras = {
        folder: found for folder, _, names in walk(root) if (found := [m[1] for name in names if (m := pattern.match(name))])
    }
    if not cameras:
        raise DatasetError(f"The folder {root} is not a SurgPose dataset: {_EXPECTED}.")
    folders = unique_names(root, cameras)
    return {f"{name}_{side}": (folder, side) for name, folder in folders.items() for side in cameras[folder]}


def open_surgpose(root: str | os.PathLike[str], sequences: Iterable[str] | None = None) -> list[SurgPoseSequence]:
    """Open sequences of SurgPose.

    Args:
        root: A folder above the trajectories, or one of them.
        sequences: Sequence names; None for all.

    Raises:
        DatasetError: The folder is not such a dataset, a name is unknown, or a file is missing or broken.
    """
    chosen = choose(Path(root), find_surgpose(root), sequences)
    return [SurgPoseSequence(name, folder, side) for name, (folder, side) in chosen]
