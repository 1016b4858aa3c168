"""Metrics of recorded poses: accuracy, dropped frames, latency, jitter and calibration.

docs/evaluation.md defines all metrics.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.arrays import FloatArray, Image
from csl_tracker.datasets.mapping import Matching
from csl_tracker.datasets.registry import SelectedSequence, select_landmarks
from csl_tracker.datasets.sample import Sample
from csl_tracker.drawing import draw_overlay
from csl_tracker.errors import BagError
from csl_tracker.evaluation.bag_labels import BagLabels
from csl_tracker.evaluation.bag_times import Times, intervals
from csl_tracker.evaluation.pose_errors import PoseErrors, WorstFrame, WorstFrames, largest_error
from csl_tracker.evaluation.recorded_bag import Frame, RecordedBag
from csl_tracker.evaluation.sequence import SequenceEvaluator
from csl_tracker.instruments import ENDOVIS, IGNORE_LABEL, InstrumentSet
from csl_tracker.results import TrackingResult

_DECIMALS = 3
_TOOL = ("background", "tool")

Picture = Callable[[Image], bytes]


@dataclass(frozen=True)
class BagMetrics:
    """Metrics as plain data for the JSON, and the frames with the largest errors, worst first."""

    values: dict[str, Any]
    worst: list[WorstFrame]


def evaluate_bag(
    bag: RecordedBag,
    show: Callable[[Image, int], None] | None = None,
    encode: Picture | None = None,
    model: InstrumentSet | None = None,
) -> BagMetrics:
    """Measure recorded poses.

    Args:
        bag: Poses and ground truth.
        show: Called with the RGB overlay of each frame and its time since the first one, ns; None draws nothing.
        encode: Encodes an RGB overlay, for the worst frames; None stores no images.
        model: Landmarks and classes of the model; None uses the names in the poses, and tool/background if the bag does not
            define the labels.

    Raises:
        BagError: Poses and ground truth have no common landmark or different image sizes, or a message is broken.
    """
    instruments = model or _instruments(bag)
    measurement = _Measurement(bag, instruments, as_tools=model is None and not bag.classes)
    worst = WorstFrames()
    for frame in tqdm(bag.frames(), total=len(bag.stamps), desc="evaluate-bag", unit="frame", leave=False):
        result, truth, vectors = measurement.add(frame)
        size, name = largest_error(vectors, truth, instruments.landmarks)
        wanted = worst.wants(size)
        picture = _picture(frame, bag)
        drawn = None
        if picture is not None and (show is not None or wanted):
            drawn = draw_overlay(picture, result or TrackingResult((), None, frame.size, 0.0), instruments, truth)
            if show is not None:
                show(drawn, frame.stamp_ns - bag.stamps[0])
        if wanted:
            jpeg = encode(drawn) if drawn is not None and encode is not None else None
            worst.add(WorstFrame(frame.index, frame.stamp_ns, size, name, jpeg))
    return BagMetrics(measurement.report(), worst.ordered())


class _Measurement:
    """Accumulates the metrics of the frames of a bag."""

    def __init__(self, bag: RecordedBag, instruments: InstrumentSet, as_tools: bool) -> None:
        self._bag, self._instruments, self._as_tools = bag, instruments, as_tools
        self._evaluator: SequenceEvaluator | None = None
        self._selected: SelectedSequence | None = None
        if bag.has_truth:
            classes = bag.classes or instruments.classes
            labels = BagLabels(bag.name, bag.truth_landmarks, classes, bag.slots, bag.fps, (0, 0), len(bag.stamps))
            self._evaluator = SequenceEvaluator(labels, instruments, matching=Matching(partial=True))
            self._selected = select_landmarks(labels, instruments, Matching(partial=True))
        self._times, self._errors = Times(bag), PoseErrors()
        self._truth_hash = hashlib.sha256()
        self._stamps: list[int] = []
        self._answered: list[bool] = []
        self._dropped_visible = 0
        self._count = 0
        self._models: dict[str, None] = {}

    def add(self, frame: Frame) -> tuple[TrackingResult | None, FloatArray | None, FloatArray | None]:
        """Measure a frame.

        Returns:
            Its poses, the true landmarks, and the error vectors (prediction minus truth); each may be None.
        """
        answer = frame.answer
        sample = _sample(frame, self._bag, self._as_tools)
        _hash_truth(self._truth_hash, sample, self._bag)
        self._stamps.append(frame.stamp_ns)
        self._answered.append(answer is not None)
        self._times.add(frame)
        truth = None if self._selected is None else self._selected.convert(sample).landmarks
        result = None if answer is None else _result(answer.result, self._as_tools)
        if answer is not None:
            self._models[answer.model] = None
            self._count += len(answer.result.instruments)
        elif truth is not None:
            self._dropped_visible += int(np.isfinite(truth).all(axis=-1).sum())
        if truth is not None and result is not None and self._evaluator is not None:
            self._evaluator.add(sample, result)
        return result, truth, self._errors.add(result, truth)

    def report(self) -> dict[str, Any]:
        """All metrics as plain data."""
        bag, frames, answered = self._bag, len(self._stamps), sum(self._answered)
        known = bag.has_images or bag.has_truth
        return {
            "name": bag.name,
            "poses_topic": bag.poses_topic,
            "models": [model for model in self._models if model],
            "truth_sha256": self._truth_hash.hexdigest() if bag.has_truth else None,
            "scored_landmarks": [name for name in self._instruments.landmarks if name in bag.truth_landmarks],
            "landmarks_not_published": [name for name in bag.truth_landmarks if name not in bag.landmarks],
            "landmarks_without_truth": [name for name in bag.landmarks if name not in bag.truth_landmarks],
            "frames": frames,
            "frames_are": "images" if bag.has_images else "annotations" if bag.has_truth else "poses",
            "frames_not_replayed": bag.not_replayed,
            "pose_arrays": bag.pose_arrays,
            "answered_frames": answered,
            "dropped_frames": frames - answered if known else None,
            "dropped_rate": (frames - answered) / frames if known and frames else None,
            "longest_gap_frames": _longest_gap(self._answered) if known else None,
            "instruments": self._count,
            **_stamps(bag),
            "nan_landmarks": bag.nan_landmarks,
            "undecodable_images": sum(bag.unusable.values()),
            "accuracy": self._accuracy(),
            **self._times.report(),
            "jitter": {"position_px": self._errors.jitter(), "publishing_interval_ms": intervals(bag)},
            "calibration": self._errors.calibration(),
            "details": {
                "stamp_ns": self._stamps,
                "answered": [int(value) for value in self._answered],
                "mean_error_px": [_number(value) for value in self._errors.mean_px],
                "latency_ms": [_number(value) for value in self._times.latency_ms],
                **({} if self._evaluator is None else self._evaluator.details()),
            },
        }

    def _accuracy(self) -> dict[str, Any] | None:
        if self._evaluator is None:
            return None
        accuracy = self._evaluator.report()
        missed = (accuracy["miss_rate"] or 0.0) * accuracy["visible"] + self._dropped_visible
        visible = accuracy["visible"] + self._dropped_visible
        accuracy["miss_rate_with_dropped_frames"] = missed / visible if visible else None
        return accuracy


def _stamps(bag: RecordedBag) -> dict[str, Any]:
    """Duplicates and unmatched stamps."""
    nearest_ns = bag.nearest_unmatched_ns
    return {
        "duplicated_pose_arrays": bag.duplicated,
        "resent_images": bag.resent,
        "repeated_image_stamps": bag.repeated_images,
        "stamp_tolerance_ms": bag.stamp_tolerance_ns / 1e6,
        "rounded_pose_stamps": bag.rounded_poses,
        "unmatched_pose_stamps": bag.unmatched_poses,
        "nearest_unmatched_ms": None if nearest_ns is None else nearest_ns / 1e6,
        "unmatched_truth_stamps": bag.unmatched_truth,
    }


def _picture(frame: Frame, bag: RecordedBag) -> Image | None:
    """Background of the overlay; black if the image cannot be decoded, so that the video keeps its timing."""
    if frame.image is None and bag.has_images and min(frame.size) > 0:
        return np.zeros((*frame.size, 3), np.uint8)
    return frame.image


def _instruments(bag: RecordedBag) -> InstrumentSet:
    """The names in the poses, with built-in skeleton and colours if all names are known."""
    shared = [name for name in bag.landmarks if name in bag.truth_landmarks]
    if bag.truth_landmarks and bag.landmarks and not shared:
        raise BagError(
            f"The poses have the landmarks {', '.join(bag.landmarks)} and the ground truth has"
            f" {', '.join(bag.truth_landmarks)}, none of them the same; rename those of one side."
        )
    names = bag.landmarks or bag.truth_landmarks
    classes = bag.classes or _TOOL
    if set(names) <= set(ENDOVIS.landmarks):
        return InstrumentSet(
            landmarks=names,
            classes=classes,
            skeleton=tuple(pair for pair in ENDOVIS.skeleton if set(pair) <= set(names)),
            landmark_colors=tuple(ENDOVIS.landmark_colors[ENDOVIS.landmarks.index(name)] for name in names),
        )
    try:
        return InstrumentSet(landmarks=names, classes=classes)
    except ValueError as error:
        raise BagError(
            f"The names in the bag's poses cannot be used: {error}; record with a model that has proper names."
        ) from error


def _sample(frame: Frame, bag: RecordedBag, as_tools: bool) -> Sample:
    label_map = _tools(frame.label_map) if as_tools and frame.label_map is not None else frame.label_map
    image = np.broadcast_to(np.uint8(0), (*frame.size, 3)) if frame.image is None else frame.image
    return Sample(image, label_map, frame.landmarks, frame.labelled, bag.name, frame.index, frame.stamp_ns)


def _result(result: TrackingResult, as_tools: bool) -> TrackingResult:
    return replace(result, label_map=_tools(result.label_map)) if as_tools and result.label_map is not None else result


def _tools(label_map: Image) -> Image:
    """Reduce labels of unknown meaning to tool and background."""
    return np.where(label_map == IGNORE_LABEL, IGNORE_LABEL, label_map > 0).astype(np.uint8)


def _hash_truth(digest: Any, sample: Sample, bag: RecordedBag) -> None:
    if not sample.labelled.any() and sample.label_map is None:
        return
    digest.update(f"{sample.stamp_ns} {bag.slots} {bag.truth_landmarks}".encode())
    digest.update(np.nan_to_num(sample.landmarks, nan=-1.0).tobytes())
    digest.update(sample.labelled.tobytes())
    if sample.label_map is not None:
        digest.update(sample.label_map.tobytes())


def _longest_gap(answered: Sequence[bool]) -> int:
    longest = current = 0
    for value in answered:
        current = 0 if value else current + 1
        longest = max(longest, current)
    return longest


def _number(value: float) -> float | None:
    return round(value, _DECIMALS) if math.isfinite(value) else None
