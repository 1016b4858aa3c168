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
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker import metrics
from csl_tracker.datasets.registry import select_landmarks
from csl_tracker.datasets.sample import Sample, Sequence
from csl_tracker.instruments import InstrumentSet
from csl_tracker.pixels import FloatArray
from csl_tracker.results import TrackingResult

THRESHOLD_PX = 20.0
KBB_ALPHA = 0.15
CURVE_PX = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0)
SECOND_ANNOTATIONS: Mapping[str, str] = {"center": "tracked_point"}
"""Landmark of a model -> landmark of a dataset that is meant to be the same point, annotated by others."""


@dataclass
class _Tally:
    """What was seen of one landmark, or of all."""

    errors: list[float] = field(default_factory=list)  # px, one a visible truth; NaN without any guess
    sides: list[float] = field(default_factory=list)  # px, the box of each error's instrument; NaN without a box
    missed: int = 0
    absent: int = 0
    reported_absent: int = 0

    def extend(self, other: _Tally) -> None:
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
            f"threshold_score_{THRESHOLD_PX:g}px": metrics.threshold_score(self.errors, THRESHOLD_PX),
            "threshold_scores_px": {f"{t:g}": score for t, score in zip(CURVE_PX, curve, strict=True)},
            f"kbb_{KBB_ALPHA:g}": metrics.kbb_score(self.errors, self.sides, KBB_ALPHA),
            "miss_rate": self.missed / len(self.errors) if self.errors else None,
            "false_positive_rate": self.reported_absent / self.absent if self.absent else None,
        }


class SequenceEvaluator:
    """Accumulates the frames of one sequence.

    Args:
        sequence: The labelled sequence.
        instruments: The landmarks and classes of the model, in its order.

    Raises:
        WeightsError: The model has landmarks or classes that the sequence lacks.
    """

    def __init__(self, sequence: Sequence, instruments: InstrumentSet) -> None:
        self._selected = select_landmarks(sequence, instruments)
        self._instruments = instruments
        self._tallies = {name: _Tally() for name in instruments.landmarks}
        self._second = {
            name: (instruments.landmarks.index(name), sequence.landmarks.index(other))
            for name, other in SECOND_ANNOTATIONS.items()
            if name in instruments.landmarks and other in sequence.landmarks
        }
        self._second_errors: dict[str, list[float]] = {name: [] for name in self._second}
        self._annotator_distances: dict[str, list[float]] = {name: [] for name in self._second}
        self._tool: list[metrics.Overlap] = []
        self._classes: dict[str, list[metrics.Overlap]] = {name: [] for name in instruments.classes[1:]}
        self._frames = 0
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
        self._frames += 1
        self._extra += sum(bool(reported[p].any()) for p in range(len(reported)) if p not in match)
        for slot, prediction in enumerate(match):
            guess = np.full(truth.landmarks.shape[1:], np.nan) if prediction is None else guesses[prediction]
            seen = np.zeros(len(guess), bool) if prediction is None else reported[prediction]
            self._add_instrument(guess, seen, truth.landmarks[slot], truth.labelled[slot])
            self._add_second(guess, sample.landmarks[slot], truth.landmarks[slot])
        if truth.label_map is not None and result.label_map is not None:
            self._tool.append(metrics.tool_overlap(result.label_map, truth.label_map))
            for label, name in enumerate(self._instruments.classes[1:], start=1):
                self._classes[name].append(metrics.class_overlap(result.label_map, truth.label_map, label))

    def report(self) -> dict[str, Any]:
        """All figures as plain numbers; None where there was nothing to measure."""
        everything = _Tally()
        for tally in self._tallies.values():
            everything.extend(tally)
        return {
            "frames": self._frames,
            "segmented_frames": len(self._tool),
            **_mean_overlap(self._tool),
            "classes": {name: _mean_overlap(overlaps) for name, overlaps in self._classes.items()},
            **everything.report(),
            "extra_instruments_per_frame": self._extra / self._frames if self._frames else None,
            "landmarks": {name: tally.report() for name, tally in self._tallies.items()},
            "second_annotation": {
                f"{name}_vs_{SECOND_ANNOTATIONS[name]}": {
                    "visible": len(self._second_errors[name]),
                    "landmark_error_px": metrics.summary(self._second_errors[name]),
                    f"threshold_score_{THRESHOLD_PX:g}px": metrics.threshold_score(self._second_errors[name], THRESHOLD_PX),
                    "annotators_distance_px": metrics.summary(self._annotator_distances[name]),
                }
                for name in self._second
            },
        }

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
        self, guess: FloatArray, reported: npt.NDArray[np.bool_], truth: FloatArray, labelled: npt.NDArray[np.bool_]
    ) -> None:
        side = metrics.bounding_box_side(truth)
        errors = metrics.landmark_errors(guess, truth)
        present = np.isfinite(truth[:, 0]) & np.isfinite(truth[:, 1])
        for index, tally in enumerate(self._tallies.values()):
            if not labelled[index]:
                continue
            if present[index]:
                tally.errors.append(float(errors[index]))
                tally.sides.append(math.nan if side is None else side)
                tally.missed += not reported[index]
            else:
                tally.absent += 1
                tally.reported_absent += bool(reported[index])

    def _add_second(self, guess: FloatArray, all_truth: FloatArray, truth: FloatArray) -> None:
        for name, (index, other) in self._second.items():
            if np.isfinite(all_truth[other]).all():
                self._second_errors[name].append(float(metrics.landmark_errors(guess[index], all_truth[other])))
                if np.isfinite(truth[index]).all():
                    self._annotator_distances[name].append(float(metrics.landmark_errors(truth[index], all_truth[other])))


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
    candidates: list[int | None] = [*range(len(guesses)), *([None] * max(0, len(truth) - len(guesses)))]
    unmatched = apart[:, 0]

    def total_cost(choice: Iterable[int | None]) -> float:
        return float(sum(unmatched[row] if column is None else cost[row, column] for row, column in enumerate(choice)))

    return list(min(itertools.permutations(candidates, len(truth)), key=total_cost))


def _mean_overlap(overlaps: list[metrics.Overlap]) -> dict[str, float | None]:
    keys = ("dice", "precision", "recall")
    return {key: float(np.mean([getattr(o, key) for o in overlaps])) if overlaps else None for key in keys}
