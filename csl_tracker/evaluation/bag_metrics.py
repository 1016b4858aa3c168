"""Figures of recorded poses: accuracy as of any sequence, and what only a recording tells: drops, latency, jitter, calibration.

docs/evaluation.md defines every figure.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.mapping import Matching
from csl_tracker.datasets.registry import SelectedSequence, select_landmarks
from csl_tracker.datasets.sample import Sample
from csl_tracker.drawing import draw_overlay
from csl_tracker.errors import BagError
from csl_tracker.evaluation.bag_labels import BagLabels
from csl_tracker.evaluation.recorded_bag import Frame, Image, RecordedBag
from csl_tracker.evaluation.sequence import SequenceEvaluator, match_instruments
from csl_tracker.instruments import ENDOVIS, IGNORE_LABEL, InstrumentSet
from csl_tracker.metrics import THRESHOLD_PX
from csl_tracker.results import TrackingResult

BINS = 10
"""Bins of equal width of the reliability diagram."""
WORST = 12
"""Frames shown as pictures."""
_DECIMALS = 3
_TOOL = ("background", "tool")

Picture = Callable[[Image], bytes]


@dataclass(frozen=True)
class WorstFrame:
    """A frame with a large error.

    Attributes:
        index: Its number.
        stamp_ns: Its stamp, ns.
        error_px: The largest error of a landmark in it; infinite where a visible one got no guess.
        landmark: Which one.
        picture: JPEG of truth and poses; None without images.
    """

    index: int
    stamp_ns: int
    error_px: float
    landmark: str
    picture: bytes | None


@dataclass
class BagFigures:
    """What was measured.

    Attributes:
        figures: Plain data, as the JSON has it.
        worst: The frames with the largest errors, worst first.
    """

    figures: dict[str, Any]
    worst: list[WorstFrame]


@dataclass
class _Raw:
    """What is kept of every frame."""

    stamps: list[int] = field(default_factory=list)
    answered: list[bool] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    recorder_ms: list[float] = field(default_factory=list)
    processing_ms: list[float] = field(default_factory=list)
    error_px: list[float] = field(default_factory=list)  # mean over the landmarks of a frame; NaN without any
    confidence: list[float] = field(default_factory=list)  # one a guess, as is the next
    correct: list[bool] = field(default_factory=list)
    steps: list[FloatArray] = field(default_factory=list)  # px, changes of the error vector from frame to frame
    dropped_visible: int = 0
    instruments: int = 0
    models: dict[str, None] = field(default_factory=dict)


def evaluate_bag(
    bag: RecordedBag,
    show: Callable[[Image], None] | None = None,
    encode: Picture | None = None,
    model: InstrumentSet | None = None,
) -> BagFigures:
    """Measure recorded poses.

    Args:
        bag: Poses and truth.
        show: Takes the overlay of every frame, RGB; None draws none.
        encode: From an RGB overlay to the bytes of a picture, for the worst frames; None keeps no pictures.
        model: Landmarks and classes of the model whose poses these are; None goes by the names in the poses, and where no bag
            notes what the labels mean, by tool and background.

    Raises:
        BagError: The poses and the truth name no common landmark or are for images of other sizes, or a message is broken.
    """
    instruments = model or _instruments(bag)
    as_tools = model is None and not bag.classes
    evaluator: SequenceEvaluator | None = None
    selected: SelectedSequence | None = None
    if bag.has_truth:
        classes = bag.classes or instruments.classes
        labels = BagLabels(bag.name, bag.truth_landmarks, classes, bag.slots, bag.fps, (0, 0), len(bag.stamps))
        evaluator = SequenceEvaluator(labels, instruments, matching=Matching(partial=True))
        selected = select_landmarks(labels, instruments, Matching(partial=True))
    raw = _Raw()
    worst: list[tuple[float, int, WorstFrame]] = []
    digest = hashlib.sha256()
    last: FloatArray | None = None
    with tqdm(total=len(bag.stamps), desc="evaluate-bag", unit="frame", leave=False) as bar:
        for frame in bag.frames():
            bar.update()
            sample = _sample(frame, bag, as_tools)
            _hash_truth(digest, sample, bag)
            raw.stamps.append(frame.stamp_ns)
            raw.answered.append(frame.answer is not None)
            truth = None if selected is None else selected.convert(sample).landmarks
            result = None if frame.answer is None else _result(frame.answer.result, as_tools)
            _times(raw, frame, bag)
            vectors: FloatArray | None = None
            if truth is not None and result is None:
                raw.dropped_visible += int(np.isfinite(truth).all(axis=-1).sum())
            if truth is not None and result is not None and evaluator is not None:
                evaluator.add(sample, result)
                vectors = _error_vectors(raw, result, truth)
                if last is not None:
                    steps = np.linalg.norm(vectors - last, axis=-1)
                    raw.steps.append(steps[np.isfinite(steps)])
            last = vectors
            size, name = _largest(vectors, truth, instruments)
            raw.error_px.append(_mean(vectors))
            wanted = size > 0 and (len(worst) < WORST or size > worst[0][0])
            drawn = None
            picture = frame.image
            if picture is None and bag.has_images and min(frame.size) > 0:
                picture = np.zeros((*frame.size, 3), np.uint8)  # it cannot be decoded, but has its place in the film
            if picture is not None and (show is not None or wanted):
                drawn = draw_overlay(picture, result or TrackingResult((), None, frame.size, 0.0), instruments, truth)
                if show is not None:
                    show(drawn)
            if wanted:
                jpeg = encode(drawn) if drawn is not None and encode is not None else None
                item = (size, -frame.index, WorstFrame(frame.index, frame.stamp_ns, size, name, jpeg))
                heapq.heappush(worst, item)
                if len(worst) > WORST:
                    heapq.heappop(worst)
    figures = _report(bag, raw, evaluator, instruments, digest.hexdigest())
    return BagFigures(figures, [item[2] for item in sorted(worst, reverse=True)])


def _instruments(bag: RecordedBag) -> InstrumentSet:
    """The names in the poses; drawn with the skeleton and colours of this package where it knows them all."""
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
    """Tool or background, where nobody says what the labels mean."""
    return np.where(label_map == IGNORE_LABEL, IGNORE_LABEL, label_map > 0).astype(np.uint8)


def _hash_truth(digest: Any, sample: Sample, bag: RecordedBag) -> None:
    if not sample.labelled.any() and sample.label_map is None:
        return
    digest.update(f"{sample.stamp_ns} {bag.slots} {bag.truth_landmarks}".encode())
    digest.update(np.nan_to_num(sample.landmarks, nan=-1.0).tobytes())
    digest.update(sample.labelled.tobytes())
    if sample.label_map is not None:
        digest.update(sample.label_map.tobytes())


def _times(raw: _Raw, frame: Frame, bag: RecordedBag) -> None:
    answer = frame.answer
    image_ns = bag.image_recorded.get(frame.stamp_ns)
    timed = answer is not None and not bag.offline
    raw.latency_ms.append((answer.received_ns - answer.published_ns) / 1e6 if timed and answer and bag.replayed else math.nan)
    raw.recorder_ms.append((answer.received_ns - image_ns) / 1e6 if timed and answer and image_ns is not None else math.nan)
    if answer is not None:
        raw.models[answer.model] = None
        raw.instruments += len(answer.result.instruments)
        if answer.result.processing_time_s > 0:
            raw.processing_ms.append(answer.result.processing_time_s * 1e3)


def _error_vectors(raw: _Raw, result: TrackingResult, truth: FloatArray) -> FloatArray:
    """Guess minus truth for every true landmark, float64 (slots, landmarks, 2), px; counts guesses for the calibration."""
    guesses = np.array([[(mark.x, mark.y) for mark in one.landmarks] for one in result.instruments], np.float64)
    guesses = guesses.reshape(len(result.instruments), truth.shape[1], 2)
    vectors = np.full(truth.shape, np.nan)
    for slot, prediction in enumerate(match_instruments(guesses, truth)):
        if prediction is None:
            continue
        vectors[slot] = guesses[prediction] - truth[slot]
        for mark, vector in zip(result.instruments[prediction].landmarks, vectors[slot], strict=True):
            if np.isfinite(vector).all() and math.isfinite(mark.confidence):
                raw.confidence.append(float(np.clip(mark.confidence, 0.0, 1.0)))
                raw.correct.append(bool(np.linalg.norm(vector) < THRESHOLD_PX))
    return vectors


def _largest(vectors: FloatArray | None, truth: FloatArray | None, instruments: InstrumentSet) -> tuple[float, str]:
    """The largest error of a frame and its landmark; a visible one without a guess is infinitely far."""
    if vectors is None or truth is None or not truth.size:
        return 0.0, ""
    errors = np.linalg.norm(vectors, axis=-1)
    errors = np.where(np.isfinite(truth).all(axis=-1), np.nan_to_num(errors, nan=math.inf), -1.0)
    place = np.unravel_index(int(np.argmax(errors)), errors.shape)
    return max(0.0, float(errors[place])), instruments.landmarks[int(place[1])]


def _mean(vectors: FloatArray | None) -> float:
    if vectors is None:
        return math.nan
    errors = np.linalg.norm(vectors, axis=-1)
    errors = errors[np.isfinite(errors)]
    return float(errors.mean()) if errors.size else math.nan


def _report(
    bag: RecordedBag, raw: _Raw, evaluator: SequenceEvaluator | None, instruments: InstrumentSet, truth_sha256: str
) -> dict[str, Any]:
    frames, answered = len(raw.stamps), sum(raw.answered)
    accuracy: dict[str, Any] | None = None
    if evaluator is not None:
        accuracy = evaluator.report()
        missed = (accuracy["miss_rate"] or 0.0) * accuracy["visible"] + raw.dropped_visible
        visible = accuracy["visible"] + raw.dropped_visible
        accuracy["miss_rate_with_dropped_frames"] = missed / visible if visible else None
    known = bag.has_images or bag.has_truth
    return {
        "name": bag.name,
        "poses_topic": bag.poses_topic,
        "models": [model for model in raw.models if model],
        "truth_sha256": truth_sha256 if bag.has_truth else None,
        "scored_landmarks": [name for name in instruments.landmarks if name in bag.truth_landmarks],
        "landmarks_not_published": [name for name in bag.truth_landmarks if name not in bag.landmarks],
        "landmarks_without_truth": [name for name in bag.landmarks if name not in bag.truth_landmarks],
        "frames": frames,
        "frames_are": "images" if bag.has_images else "annotations" if bag.has_truth else "poses",
        "frames_not_replayed": bag.not_replayed,
        "pose_arrays": bag.pose_arrays,
        "answered_frames": answered,
        "dropped_frames": frames - answered if known else None,
        "dropped_rate": (frames - answered) / frames if known and frames else None,
        "longest_gap_frames": _longest_gap(raw.answered) if known else None,
        "instruments": raw.instruments,
        "duplicated_pose_arrays": bag.duplicated,
        "resent_images": bag.resent,
        "repeated_image_stamps": bag.repeated_images,
        "stamp_tolerance_ms": bag.stamp_tolerance_ns / 1e6,
        "rounded_pose_stamps": bag.rounded_poses,
        "unmatched_pose_stamps": bag.unmatched_poses,
        "nearest_unmatched_ms": None if bag.nearest_unmatched_ns is None else bag.nearest_unmatched_ns / 1e6,
        "unmatched_truth_stamps": bag.unmatched_truth,
        "nan_landmarks": bag.nan_landmarks,
        "undecodable_images": sum(bag.unusable.values()),
        "accuracy": accuracy,
        **_latency(bag, raw),
        "processing_ms": percentiles(raw.processing_ms),
        "jitter": {
            "position_px": _jitter(raw.steps),
            "publishing_interval_ms": _intervals(bag),
        },
        "calibration": calibration(raw.confidence, raw.correct),
        "details": {
            "stamp_ns": raw.stamps,
            "answered": [int(value) for value in raw.answered],
            "mean_error_px": [_number(value) for value in raw.error_px],
            "latency_ms": [_number(value) for value in raw.latency_ms],
            **({} if evaluator is None else evaluator.details()),
        },
    }


def _latency(bag: RecordedBag, raw: _Raw) -> dict[str, Any]:
    """Latency as the project defines it, or why there is none, and the recorder's own delay."""
    latency = [value for value in raw.latency_ms if math.isfinite(value)]
    delay = [value for value in raw.recorder_ms if math.isfinite(value)]
    if bag.offline:
        reason: str | None = "the poses were recorded at the stamps of their images, which tells of no time that passed"
    elif not bag.replayed:
        reason = (
            "the stamps are not known to be the times of the images' publication on the recorder's clock"
            " (replay with stamps of now to measure it)"
        )
    elif latency and min(latency) < 0:
        reason = "poses were received before their images were published: the two clocks do not agree"
        latency = []
    else:
        reason = None if latency else "no image was answered"
    late = delay if not (delay and min(delay) < 0) else []
    return {
        "latency_ms": percentiles(latency if reason is None else []),
        "latency_not_applicable": reason,
        "recorder_delay_ms": percentiles(late),
    }


def percentiles(values: Sequence[float]) -> dict[str, float | int | None]:
    """``p50``, ``p90``, ``p95``, ``p99`` (linear interpolation), ``max``, ``mean`` and ``count``; None without any value."""
    found: dict[str, float | int | None] = {
        f"p{q}": float(np.percentile(values, q)) if len(values) else None for q in (50, 90, 95, 99)
    }
    found["max"] = float(max(values)) if len(values) else None
    found["mean"] = float(np.mean(values)) if len(values) else None
    found["count"] = len(values)
    return found


def _jitter(steps: Sequence[FloatArray]) -> dict[str, float | int | None]:
    """``rms``, ``median`` and ``p95`` of ``|(p[k+1] - p[k]) - (t[k+1] - t[k])|``, px."""
    values = np.concatenate(steps) if steps else np.zeros(0)
    if not values.size:
        return {"rms": None, "median": None, "p95": None, "count": 0}
    return {
        "rms": float(np.sqrt(np.mean(values**2))),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
        "count": int(values.size),
    }


def _intervals(bag: RecordedBag) -> dict[str, float | int | str | None]:
    """Of the times between receptions: median, standard deviation, 95th percentile of the distance from the median, max."""
    values: FloatArray = np.diff(np.array(bag.reception_ns, np.int64)).astype(np.float64) / 1e6
    if bag.offline or not values.size:
        reason = "the poses were recorded at the stamps of their images" if bag.offline else "there is one pose array"
        return {"median": None, "sd": None, "p95_off_median": None, "max": None, "not_applicable": reason}
    median = float(np.median(values))
    return {
        "median": median,
        "sd": float(values.std()),
        "p95_off_median": float(np.percentile(np.abs(values - median), 95)),
        "max": float(values.max()),
        "not_applicable": None,
    }


def calibration(confidence: Sequence[float], correct: Sequence[bool]) -> dict[str, Any]:
    """Reliability of confidences (Guo et al., ICML 2017).

    Args:
        confidence: 0..1, one a guess.
        correct: Whether its error is below 20 px.

    Returns:
        ``ece``: the sum over the bins of ``n_b / n * |share correct in b - mean confidence in b|``; ``bins``: ``from``,
        ``to``, ``count``, ``confidence`` (mean), ``correct`` (share).
    """
    values, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    chosen = np.minimum((values * BINS).astype(int), BINS - 1)
    bins: list[dict[str, float | int | None]] = []
    error = 0.0
    for index in range(BINS):
        part = chosen == index
        count = int(part.sum())
        mean = float(values[part].mean()) if count else None
        share = float(right[part].mean()) if count else None
        if mean is not None and share is not None:
            error += count / len(values) * abs(share - mean)
        bins.append({"from": index / BINS, "to": (index + 1) / BINS, "count": count, "confidence": mean, "correct": share})
    return {"ece": error if len(values) else None, "within_px": THRESHOLD_PX, "count": len(values), "bins": bins}


def _longest_gap(answered: Sequence[bool]) -> int:
    longest = current = 0
    for value in answered:
        current = 0 if value else current + 1
        longest = max(longest, current)
    return longest


def _number(value: float) -> float | None:
    return round(value, _DECIMALS) if math.isfinite(value) else None
