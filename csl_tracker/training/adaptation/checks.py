"""Checks that a prediction must pass to become a pseudo-label.

A frame is predicted as it is and mirrored, and its two neighbours in time are predicted, too. What is true of the scene does
not depend on the view, so predictions that disagree are wrong somewhere. The thresholds below were not tuned on real frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, Image, LabelMap
from csl_tracker.assignment import assign
from csl_tracker.instruments import IGNORE_LABEL, InstrumentSet
from csl_tracker.results import TrackingResult
from csl_tracker.training.left_right_task import side_axis

MIN_IOU_MIRROR = 0.8
"""Smallest intersection over union of the tool masks of a frame and its mirror image."""
MIN_IOU_TIME = 0.7
"""The same for a frame and a neighbour in time, after optical flow."""
MAX_DISTANCE = 0.015
"""Largest distance of a landmark between two views, as a fraction of the image's diagonal."""
MIN_LANDMARKS = 2
"""Smallest number of landmarks that every instrument must keep."""
EMPTY_SHARE = 0.0005
"""A frame without instruments has less than this share of tool pixels."""


class Reason(str, Enum):
    """What became of a frame."""

    KEPT = "kept, with instruments"
    KEPT_EMPTY = "kept, without instruments"
    MIRROR_MASK = "mask differs in the mirror image"
    TIME_MASK = "mask differs in a neighbouring frame"
    MIRROR_COUNT = "number of instruments differs in the mirror image"
    TIME_COUNT = "number of instruments differs in a neighbouring frame"
    LANDMARKS = "an instrument keeps too few landmarks"
    NO_LANDMARKS = "mask without an instrument's landmarks"
    NO_MASK = "landmarks without a mask"
    UNSURE_EMPTY = "empty, but not in every view"
    SURPLUS_EMPTY = "empty, and more than the allowed share"


SAW_NOTHING = (Reason.KEPT_EMPTY, Reason.UNSURE_EMPTY, Reason.SURPLUS_EMPTY)
"""Reasons of frames on which the old weights saw no instrument."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says about an image.

    Attributes:
        label_map: uint8 (H, W).
        points: float64 (instruments, landmarks, 2), px; NaN if not visible.
    """

    label_map: LabelMap
    points: FloatArray

    @classmethod
    def of(cls, result: TrackingResult, landmarks: int) -> Prediction:
        """The prediction in a tracking result with a label map."""
        assert result.label_map is not None
        found = [
            [(mark.x, mark.y) if mark.visible else (np.nan, np.nan) for mark in instrument.landmarks]
            for instrument in result.instruments
        ]
        return cls(result.label_map, np.array(found, np.float64).reshape(len(found), landmarks, 2))

    @property
    def tool(self) -> npt.NDArray[np.bool_]:
        """Bool (H, W): any class but the background."""
        return np.asarray((self.label_map > 0) & (self.label_map != IGNORE_LABEL))

    @property
    def is_empty(self) -> bool:
        """Whether no instrument was seen."""
        return not len(self.points) and float(self.tool.mean()) < EMPTY_SHARE

    def mirrored(self, instruments: InstrumentSet) -> Prediction:
        """The prediction of the mirrored image."""
        points = self.points[:, list(instruments.flip_permutation())]
        points[..., 0] = self.label_map.shape[1] - 1 - points[..., 0]
        return Prediction(np.ascontiguousarray(self.label_map[:, ::-1]), points)


@dataclass(frozen=True, eq=False)
class View:
    """Another view of a frame.

    Attributes:
        prediction: Its prediction; the label map is aligned with the frame, and 255 where the view does not show a pixel.
        expected: float64 (instruments, landmarks, 2): where the frame's landmarks lie in this view, px.
        in_time: Whether it is a neighbour in time rather than the mirror image.
    """

    prediction: Prediction
    expected: FloatArray
    in_time: bool


def view_in_time(frame: Prediction, image: Image, other: Prediction, neighbour: Image) -> View:
    """Align a neighbour in time with a frame by dense optical flow."""
    gray = [np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)) for picture in (image, neighbour)]
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = np.asarray(estimator.calc(gray[0], gray[1], np.zeros((*gray[0].shape, 2), np.float32)), np.float32)
    height, width = frame.label_map.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    label_map = cv2.remap(
        other.label_map,
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=IGNORE_LABEL,
    )
    at = np.clip(np.rint(np.nan_to_num(frame.points)), 0, (width - 1, height - 1)).astype(int)
    expected = frame.points + flow[at[..., 1], at[..., 0]]
    return View(Prediction(np.asarray(label_map, np.uint8), other.points), np.asarray(expected, np.float64), in_time=True)


@dataclass(frozen=True, eq=False)
class Verdict:
    """The outcome of the checks of a frame.

    Attributes:
        reason: What became of it.
        label_map: uint8 (H, W), 255 where views disagree; empty (0, 0) if the frame was dropped.
        landmarks: float64 (instruments, landmarks, 2), px; NaN where not labelled.
        labelled: bool (instruments, landmarks).
        dropped: Number of landmarks that the network saw and another view did not confirm.
        wrong_side: Number of landmarks left out since the left and the right one lie on the wrong sides of the axis.
    """

    reason: Reason
    label_map: LabelMap
    landmarks: FloatArray
    labelled: npt.NDArray[np.bool_]
    dropped: int = 0
    wrong_side: int = 0


def judge(frame: Prediction, views: Sequence[View], instruments: InstrumentSet) -> Verdict:
    """Check a prediction against other views of the frame.

    Args:
        frame: The prediction of the frame.
        views: The mirror image and the neighbours in time.
        instruments: Landmarks and classes.
    """
    reason = _emptiness(frame, views) or _masks(frame, views)
    if reason is not None:
        return _verdict(reason, frame)
    agreed = np.isfinite(frame.points).all(axis=-1)
    seen = int(agreed.sum())
    for view in views:
        agreed &= _confirmed(view, MAX_DISTANCE * float(np.hypot(*frame.label_map.shape)))
    sided = agreed & _on_their_sides(frame.points, instruments)
    numbers = (seen - int(agreed.sum()), int((agreed & ~sided).sum()))
    if (sided.sum(axis=1) < MIN_LANDMARKS).any():
        return _verdict(Reason.LANDMARKS, frame, *numbers)
    points = np.where(sided[..., None], frame.points, np.nan)
    return Verdict(Reason.KEPT, _agreed_labels(frame, views), points, sided, *numbers)


def _verdict(reason: Reason, frame: Prediction, dropped: int = 0, wrong_side: int = 0) -> Verdict:
    label_map = np.zeros_like(frame.label_map) if reason is Reason.KEPT_EMPTY else np.zeros((0, 0), np.uint8)
    marks = frame.points.shape[1]
    return Verdict(reason, label_map, np.full((0, marks, 2), np.nan), np.zeros((0, marks), bool), dropped, wrong_side)


def _emptiness(frame: Prediction, views: Sequence[View]) -> Reason | None:
    """The reason of a frame without instruments, or with half of what an instrument has."""
    if frame.is_empty:
        return Reason.KEPT_EMPTY if all(view.prediction.is_empty for view in views) else Reason.UNSURE_EMPTY
    if not len(frame.points):
        return Reason.NO_LANDMARKS
    return Reason.NO_MASK if float(frame.tool.mean()) < EMPTY_SHARE else None


def _masks(frame: Prediction, views: Sequence[View]) -> Reason | None:
    for view in views:
        if overlap_share(frame, view.prediction) < (MIN_IOU_TIME if view.in_time else MIN_IOU_MIRROR):
            return Reason.TIME_MASK if view.in_time else Reason.MIRROR_MASK
    for view in views:
        if len(view.prediction.points) != len(frame.points):
            return Reason.TIME_COUNT if view.in_time else Reason.MIRROR_COUNT
    return None


def overlap_share(one: Prediction, other: Prediction) -> float:
    """Intersection over union of two tool masks, over the pixels that both know; 1 without tool pixels."""
    known = (one.label_map != IGNORE_LABEL) & (other.label_map != IGNORE_LABEL)
    union = int(((one.tool | other.tool) & known).sum())
    return int((one.tool & other.tool & known).sum()) / union if union else 1.0


def _confirmed(view: View, limit_px: float) -> npt.NDArray[np.bool_]:
    """Bool (instruments, landmarks): the view shows the landmark of the same instrument at the same place."""
    distances = np.linalg.norm(view.expected[:, None] - view.prediction.points[None], axis=-1)
    known = np.isfinite(distances)
    cost = np.where(known, distances, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
    columns = assign(np.where(known.any(axis=-1), cost, 1e9))
    return np.asarray(np.nan_to_num(distances[range(len(columns)), columns], nan=np.inf) <= limit_px)


def _on_their_sides(points: FloatArray, instruments: InstrumentSet) -> npt.NDArray[np.bool_]:
    """False for both landmarks of a left and right pair that lie on the wrong sides, seen along the shaft."""
    right = np.ones(points.shape[:2], bool)
    axis = side_axis(instruments)
    if axis is None:
        return right
    start, end = points[:, axis[0]], points[:, axis[1]]
    along = end - start
    for names in instruments.flip_pairs:
        pair = [instruments.landmarks.index(name) for name in names]
        off = points[:, pair] - end[:, None]
        across = along[:, None, 0] * off[..., 1] - along[:, None, 1] * off[..., 0]
        right[:, pair] &= ~(across[:, :1] > across[:, 1:])  # unknown sides pass
    return right


def _agreed_labels(frame: Prediction, views: Sequence[View]) -> LabelMap:
    """The frame's label map, 255 where the mirror image differs, or all neighbours in time do."""
    differs = [(view.prediction.label_map != frame.label_map, view.in_time) for view in views]
    unsure = np.zeros(frame.label_map.shape, bool)
    for mask, in_time in differs:
        if not in_time:
            unsure |= mask
    over_time = [mask for mask, in_time in differs if in_time]
    if over_time:
        unsure |= np.logical_and.reduce(over_time)
    return np.where(unsure, np.uint8(IGNORE_LABEL), frame.label_map)
