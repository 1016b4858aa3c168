"""Figures of one labelled sequence, from pairs of a sample and what the tracker said about it.

How the figures are made:

* Every landmark whose truth is visible counts, with the best guess of the network however unsure; a gate hides no miss. A
  tracker with ``always_report`` gives these guesses.
* Predicted instruments are matched to true ones, frame by frame, by the assignment of the smallest total distance.
* ``miss_rate``: share of the visible truths for which nothing was reported at the working threshold.
* ``false_positive_rate``: share of the truths known to be absent for which a landmark was reported at the working threshold.
* ``unanswered``: number of visible truths without any guess at all. They count as misses and as not below any threshold; the
  mean error cannot hold them.
* Figures at the level of the sequence pool all landmarks of all instruments; ``landmarks.NAME`` has those of one landmark.
* A landmark with a second annotation (``center`` with ``tracked_point``) is scored against both.
* A model without segmentation, or a sequence without masks, has no DICE (None); its landmarks are scored all the same.
* Distances are in px of the source image, or of a reference image to which x and y are scaled before a distance is taken.
  Instruments are matched in px of the source either way, so that nothing but the distances depends on it.
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
"""Landmark of a model -> landmark of a dataset that is meant to be the same point, annotated by others."""
_OVERLAP_KEYS = ("dice", "precision", "recall")
_PX_DECIMALS = 2
_SHARE_DECIMALS = 4


@dataclass
class _Tally:
    """What was seen of one landmark, or of all."""

    frames: list[int] = field(default_factory=list)  # one a visible truth, as are the next four
    slots: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)  # px; NaN without any guess
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
        reference_size: (height, width) of the image in whose px distances are stated; the source image's when None. The paper
            works on 640x480, so that its px are not those of a 720x576 video.
        matching: What to do about names that differ; they are refused when None. With a partial one the figures are those
            of what both have: landmarks of the sequence, classes of which it has masks, and tools whatever their class.

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
        self._looked_at = 0  # frames in which somebody labelled a landmark: elsewhere an instrument too many is unknown
        self._extra = 0

    def add(self, sample: Sample, result: TrackingResult) -> None:
        """Score one frame.

        Args:
            sample: A sample of the sequence, its landmarks in the sequence's order.
            result: What the tracker said about its image.

        Raises:
            ValueError: The result belongs to an image of another size, or to a model with other landmarks.
        """
        if result.size != sample.image.shape[:2]:
            raise ValueError(f"the result is for an image of (height, width) {result.size}, not {sample.image.shape[:2]}")
        truth = self._selected.convert(sample)
        guesses, reported = self._as_arrays(result)
        match = match_instruments(guesses, truth.landmarks)
        scale = np.ones(2) if self._reference_size is None else Resize(result.size, self._reference_size).scale
        self._frames += 1
        if truth.labelled.any():
            self._looked_at += 1
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
        """All figures as plain numbers; None where there was nothing to measure."""
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
            "extra_instruments_per_frame": self._extra / self._looked_at if self._looked_at else None,
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
        """Raw figures, from which curves and paired comparisons are made.

        Returns:
            ``dice``, ``precision``, ``recall``: one share for every segmented frame, whose numbers are ``segmented_frame``; all
            four are None where nothing was segmented. ``landmarks``: name -> ``frame``, ``slot`` (index of the true
            instrument), ``error_px`` (None: no guess at all), ``box_px`` (longer side of the true landmarks' box; None: no box)
            and ``missed`` (1: not reported at the working threshold), one entry for every visible truth.
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
        """Tally one true instrument; ``unit`` is its frame and its slot."""
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
        tracker: With ``always_report``, so that no gate hides a miss.
        sequence: The labelled sequence.
        frames: The frames to track and to score, such as the second half; all when None.
        reference_size: (height, width) of the image in whose px distances are stated; the source image's when None.
        details: Add the raw figures as ``details``.
        matching: What to do about names that differ; they are refused when None.

    Raises:
        WeightsError: The weights are for other landmarks or classes than the sequence's.
        DatasetError: The sequence cannot be read to its end, or does not have the frames asked for.
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
    """Match predicted instruments to true ones by the assignment of the smallest total distance.

    Every true instrument gets a prediction as long as there are any. The distance of a pair is the mean over the landmarks that
    both have; a true instrument without a visible landmark takes what the others leave.

    Args:
        guesses: float64 (predictions, landmarks, 2), px.
        truth: float64 (instruments, landmarks, 2), px.

    Returns:
        For every true instrument the index of its prediction, or None.
    """
    distance = metrics.landmark_errors(guesses[None, :], truth[:, None])
    known = np.isfinite(distance)
    shared = known.sum(axis=-1)
    total = np.where(known, distance, 0.0).sum(axis=-1)
    # Sharing no landmark with a visible instrument is worse than any distance; with an absent one it costs nothing.
    apart = np.where(np.isfinite(truth).all(axis=-1).any(axis=-1), 1e6, 0.0)[:, None]
    cost = np.where(shared > 0, total / np.maximum(shared, 1), apart)
    missing = max(0, len(truth) - len(guesses))
    columns = assign(np.concatenate([cost, np.repeat(apart, missing, axis=1)], axis=1))
    return [column if column < len(guesses) else None for column in columns]


def _mean_overlap(overlaps: list[metrics.Overlap]) -> dict[str, float | None]:
    return {key: float(np.mean([getattr(o, key) for o in overlaps])) if overlaps else None for key in _OVERLAP_KEYS}


def _px(value: float) -> float | None:
    return None if math.isnan(value) else round(value, _PX_DECIMALS)
