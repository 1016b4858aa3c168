"""Metrics of one labelled sequence.

Definitions:

* Each visible ground-truth landmark counts, with the best guess of the network regardless of its confidence. A tracker with
  ``always_report`` provides these guesses.
* Predicted instruments are matched to true ones per frame at minimum total distance.
* ``miss_rate``: fraction of visible landmarks that were not reported at the working threshold.
* ``false_positive_rate``: fraction of landmarks known to be absent that were reported at the working threshold.
* ``unanswered``: number of visible landmarks without any guess. They count as misses and as above every threshold, but are not
  part of the mean error.
* Sequence-level metrics pool all landmarks of all instruments; ``landmarks.NAME`` has those of one landmark.
* A landmark with a second annotation (``center`` with ``tracked_point``) is scored against both.
* Without segmentation or masks, DICE is None; landmarks are scored nevertheless.
* Distances are in px of the source image, or of a reference image to which x and y are scaled first. Matching always uses
  source px, so that only the distances depend on the reference size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from csl_tracker import metrics
from csl_tracker.arrays import FloatArray
from csl_tracker.assignment import assign
from csl_tracker.datasets.mapping import Matching
from csl_tracker.datasets.registry import select_landmarks
from csl_tracker.datasets.sample import Sample, Sequence
from csl_tracker.errors import DatasetError
from csl_tracker.instruments import InstrumentSet
from csl_tracker.pixels import Resize, Size
from csl_tracker.results import TrackingResult
from csl_tracker.text import printable

if TYPE_CHECKING:
    from csl_tracker.tracker import Tracker

CURVE_PX = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0)
SECOND_ANNOTATIONS: Mapping[str, str] = {"center": "tracked_point"}
"""Landmark of a model -> second annotation of the same point in a dataset."""
_OVERLAP_KEYS = ("dice", "precision", "recall")
_PX_DECIMALS = 2
_SHARE_DECIMALS = 4


@dataclass
class _Tally:
    """Accumulated results of one landmark, or of all."""

    frames: list[int] = field(default_factory=list)  # per visible landmark, like the next four
    slots: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)  # px; NaN without a guess
    sides: list[float] = field(default_factory=list)  # px, the box of each error's instrument; NaN without a box
    missed: list[bool] = field(default_factory=list)
    absent: int = 0
    reported_absent: int = 0

    def extend(self, other: _Tally) -> None:
        self.frames += other.frames
        self.slots += other.slots
        self.errors += other.errors
        self.sides += other.sides
        self.missed += other.missed
        self.absent += other.absent
        self.reported_absent += other.reported_absent

    def report(self) -> dict[str, Any]:
        curve = metrics.threshold_curve(self.errors, CURVE_PX)
        return {
            "visible": len(self.errors),
            "absent": self.absent,
            "unanswered": int(np.isnan(self.errors).sum()),
            "landmark_error_px": metrics.summary(self.errors),
            f"threshold_score_{metrics.THRESHOLD_PX:g}px": metrics.threshold_score(self.errors, metrics.THRESHOLD_PX),
            "threshold_scores_px": {f"{t:g}": score for t, score in zip(CURVE_PX, curve, strict=True)},
            f"kbb_{metrics.KBB_ALPHA:g}": metrics.kbb_score(self.errors, self.sides, metrics.KBB_ALPHA),
            "miss_rate": float(np.mean(self.missed)) if self.missed else None,
            "false_positive_rate": self.reported_absent / self.absent if self.absent else None,
        }

    def details(self) -> dict[str, list[Any]]:
        return {
            "frame": list(self.frames),
            "slot": list(self.slots),
            "error_px": [_px(error) for error in self.errors],
            "box_px": [_px(side) for side in self.sides],
            "missed": [int(missed) for missed in self.missed],
        }


class SequenceEvaluator:
    """Accumulates the frames of one sequence.

    Args:
        sequence: The labelled sequence.
        instruments: The landmarks and classes of the model, in its order.
        reference_size: (height, width) of the reference image for distances in px; None for the source image. The paper uses
            640x480, so its px differ from those of a 720x576 video.
        matching: Rules for differing names; None for strict matching. With partial matching, the metrics cover what both have:
            landmarks of the sequence, classes with masks, and tools of any class.

    Raises:
        WeightsError: The model has landmarks or classes that the sequence lacks.
    """

    def __init__(
        self,
        sequence: Sequence,
        instruments: InstrumentSet,
        reference_size: Size | None = None,
        matching: Matching | None = None,
    ) -> None:
        self._selected = select_landmarks(sequence, instruments, matching)
        self._instruments = instruments
        self._reference_size = reference_size
        self._tallies = {name: _Tally() for name in instruments.landmarks}
        self._second = {
            name: (instruments.landmarks.index(name), sequence.landmarks.index(other))
            for name, other in SECOND_ANNOTATIONS.items()
            if name in instruments.landmarks and other in sequence.landmarks
        }
        self._second_errors: dict[str, list[float]] = {name: [] for name in self._second}
        self._annotator_distances: dict[str, list[float]] = {name: [] for name in self._second}
        self._segmented: list[int] = []
        self._tool: list[metrics.Overlap] = []
        self._classes: dict[str, list[metrics.Overlap]] = {name: [] for name in instruments.classes[1:]}
        self._frames = 0
        self._annotated = 0  # frames with labelled landmarks; only there extra instruments can be counted
        self._extra = 0

    def add(self, sample: Sample, result: TrackingResult) -> None:
        """Score one frame.

        Args:
            sample: A sample of the sequence, its landmarks in the sequence's order.
            result: Tracking result of its image.

        Raises:
            ValueError: The result has another image size or other landmarks.
        """
        if result.size != sample.image.shape[:2]:
            raise ValueError(f"the result is for an image of (height, width) {result.size}, not {sample.image.shape[:2]}")
        truth = self._selected.convert(sample)
        guesses, reported = self._as_arrays(result)
        match = match_instruments(guesses, truth.landmarks)
        scale = np.ones(2) if self._reference_size is None else Resize(result.size, self._reference_size).scale
        self._frames += 1
        if truth.labelled.any():
            self._annotated += 1
            self._extra += sum(bool(reported[p].any()) for p in range(len(reported)) if p not in match)
        for slot, prediction in enumerate(match):
            guess = np.full(truth.landmarks.shape[1:], np.nan) if prediction is None else guesses[prediction]
            seen = np.zeros(len(guess), bool) if prediction is None else reported[prediction]
            true = truth.landmarks[slot] * scale
            self._add_instrument((sample.frame, slot), guess * scale, seen, true, truth.labelled[slot])
            self._add_second(guess * scale, sample.landmarks[slot] * scale, true)
        tools = self._selected.tools(sample)
        if tools is not None and truth.label_map is not None and result.label_map is not None:
            self._segmented.append(sample.frame)
            self._tool.append(metrics.tool_overlap(result.label_map, tools))
            for label in sorted(self._selected.segmented):
                name = self._instruments.classes[label]
                self._classes[name].append(metrics.class_overlap(result.label_map, truth.label_map, label))

    def report(self) -> dict[str, Any]:
        """All metrics as plain numbers; None without data."""
        everything = _Tally()
        for tally in self._tallies.values():
            everything.extend(tally)
        return {
            "frames": self._frames,
            "reference_size": None if self._reference_size is None else list(self._reference_size),
            "segmented_frames": len(self._tool),
            **_mean_overlap(self._tool),
            "classes": {name: _mean_overlap(overlaps) for name, overlaps in self._classes.items()},
            **everything.report(),
            "extra_instruments_per_frame": self._extra / self._annotated if self._annotated else None,
            "landmarks": {name: tally.report() for name, tally in self._tallies.items()},
            "second_annotation": {
                f"{name}_vs_{SECOND_ANNOTATIONS[name]}": {
                    "visible": len(self._second_errors[name]),
                    "landmark_error_px": metrics.summary(self._second_errors[name]),
                    f"threshold_score_{metrics.THRESHOLD_PX:g}px": metrics.threshold_score(
                        self._second_errors[name], metrics.THRESHOLD_PX
                    ),
                    "annotators_distance_px": metrics.summary(self._annotator_distances[name]),
                }
                for name in self._second
            },
        }

    def details(self) -> dict[str, Any]:
        """Raw values for curves and paired comparisons.

        Returns:
            ``dice``, ``precision``, ``recall`` per segmented frame, with the frame numbers in ``segmented_frame``; all None
            without segmentation. ``landmarks``: name -> ``frame``, ``slot`` (index of the true instrument), ``error_px`` (None:
            no guess), ``box_px`` (longer side of the true landmarks' box; None: no box) and ``missed`` (1: not reported at the
            working threshold), one entry per visible landmark.
        """
        shares: dict[str, Any] = dict.fromkeys(("segmented_frame", *_OVERLAP_KEYS))
        if self._tool:
            shares = {key: [round(getattr(o, key), _SHARE_DECIMALS) for o in self._tool] for key in _OVERLAP_KEYS}
            shares["segmented_frame"] = list(self._segmented)
        return {**shares, "landmarks": {name: tally.details() for name, tally in self._tallies.items()}}

    def _as_arrays(self, result: TrackingResult) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        names = self._instruments.landmarks
        guesses = np.full((len(result.instruments), len(names), 2), np.nan)
        reported = np.zeros((len(result.instruments), len(names)), bool)
        for row, instrument in enumerate(result.instruments):
            if tuple(landmark.name for landmark in instrument.landmarks) != names:
                raise ValueError(f"the result has the landmarks {[x.name for x in instrument.landmarks]}, not {list(names)}")
            guesses[row] = [(landmark.x, landmark.y) for landmark in instrument.landmarks]
            reported[row] = [landmark.visible for landmark in instrument.landmarks]
        return guesses, reported

    def _add_instrument(
        self,
        unit: tuple[int, int],
        guess: FloatArray,
        reported: npt.NDArray[np.bool_],
        truth: FloatArray,
        labelled: npt.NDArray[np.bool_],
    ) -> None:
        """Add one true instrument; ``unit`` is (frame, slot)."""
        side = metrics.bounding_box_side(truth)
        errors = metrics.landmark_errors(guess, truth)
        present = np.isfinite(truth[:, 0]) & np.isfinite(truth[:, 1])
        for index, tally in enumerate(self._tallies.values()):
            if not labelled[index]:
                continue
            if present[index]:
                tally.frames.append(unit[0])
                tally.slots.append(unit[1])
                tally.errors.append(float(errors[index]))
                tally.sides.append(math.nan if side is None else side)
                tally.missed.append(not reported[index])
            else:
                tally.absent += 1
                tally.reported_absent += bool(reported[index])

    def _add_second(self, guess: FloatArray, all_truth: FloatArray, truth: FloatArray) -> None:
        for name, (index, other) in self._second.items():
            if np.isfinite(all_truth[other]).all():
                self._second_errors[name].append(float(metrics.landmark_errors(guess[index], all_truth[other])))
                if np.isfinite(truth[index]).all():
                    self._annotator_distances[name].append(float(metrics.landmark_errors(truth[index], all_truth[other])))


def evaluate_sequence(
    tracker: Tracker,
    sequence: Sequence,
    frames: range | None = None,
    reference_size: Size | None = None,
    details: bool = False,
    matching: Matching | None = None,
) -> dict[str, Any]:
    """Track a sequence and score it.

    Args:
        tracker: A tracker with ``always_report``, so that the threshold does not hide errors.
        sequence: The labelled sequence.
        frames: The frames to track and score, such as the second half; None for all.
        reference_size: (height, width) of the reference image for distances in px; None for the source image.
        details: Add the raw values as ``details``.
        matching: Rules for differing names; None for strict matching.

    Raises:
        WeightsError: The landmarks or classes of the weights and the sequence differ.
        DatasetError: The sequence cannot be read completely, or lacks the requested frames.
    """
    wanted = range(len(sequence)) if frames is None else frames
    if frames is not None and (not frames or min(frames) < 0 or max(frames) >= len(sequence)):
        raise DatasetError(
            f"The frames {frames.start} to {frames.stop - 1} of sequence {sequence.name} were asked for, which has the frames 0"
            f" to {len(sequence) - 1}; name some of these."
        )
    evaluator = SequenceEvaluator(sequence, tracker.model.instruments, reference_size, matching)
    tracker.reset()
    with tqdm(total=len(wanted), desc=printable(sequence.name), unit="frame", leave=False, disable=None) as progress:
        for index, sample in enumerate(sequence):
            if index not in wanted:
                continue
            wants_mask = sample.label_map is not None
            evaluator.add(sample, tracker.track(sample.image, sample.stamp_ns * 1e-9, segmentation=wants_mask))
            progress.update()
            if index == max(wanted):
                break
    return {**evaluator.report(), **({"details": evaluator.details()} if details else {})}


def match_instruments(guesses: FloatArray, truth: FloatArray) -> list[int | None]:
    """Match predicted instruments to true ones at minimum total distance.

    Each true instrument gets a prediction while there are any. The distance of a pair is the mean over the common landmarks; a
    true instrument without visible landmarks gets a remaining prediction.

    Args:
        guesses: float64 (predictions, landmarks, 2), px.
        truth: float64 (instruments, landmarks, 2), px.

    Returns:
        Index of the prediction of each true instrument, or None.
    """
    distance = metrics.landmark_errors(guesses[None, :], truth[:, None])
    known = np.isfinite(distance)
    shared = known.sum(axis=-1)
    total = np.where(known, distance, 0.0).sum(axis=-1)
    # No common landmark: prohibitive cost for a visible instrument, no cost for an absent one.
    apart = np.where(np.isfinite(truth).all(axis=-1).any(axis=-1), 1e6, 0.0)[:, None]
    cost = np.where(shared > 0, total / np.maximum(shared, 1), apart)
    missing = max(0, len(truth) - len(guesses))
    columns = assign(np.concatenate([cost, np.repeat(apart, missing, axis=1)], axis=1))
    return [column if column < len(guesses) else None for column in columns]


def _mean_overlap(overlaps: list[metrics.Overlap]) -> dict[str, float | None]:
    return {key: float(np.mean([getattr(o, key) for o in overlaps])) if overlaps else None for key in _OVERLAP_KEYS}


def _px(value: float) -> float | None:
    return None if math.isnan(value) else round(value, _PX_DECIMALS)
