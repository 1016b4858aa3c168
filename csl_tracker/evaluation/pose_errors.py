"""Per-frame pose errors of a recording, and derived metrics: jitter, calibration and worst frames."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.evaluation.calibration import calibration
from csl_tracker.evaluation.sequence import match_instruments
from csl_tracker.metrics import THRESHOLD_PX
from csl_tracker.results import TrackingResult

WORST = 12
"""Number of worst frames to keep."""


@dataclass(frozen=True)
class WorstFrame:
    """A frame with a large error.

    Attributes:
        index: Frame number.
        stamp_ns: Timestamp, ns.
        error_px: Largest landmark error; infinite if a visible landmark has no prediction.
        landmark: Name of that landmark.
        picture: JPEG of ground truth and poses; None without images.
    """

    index: int
    stamp_ns: int
    error_px: float
    landmark: str
    picture: bytes | None


class WorstFrames:
    """Keeps the frames with the largest errors."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, WorstFrame]] = []

    def wants(self, error_px: float) -> bool:
        """Whether a frame with this error would be kept."""
        return error_px > 0 and (len(self._heap) < WORST or error_px > self._heap[0][0])

    def add(self, frame: WorstFrame) -> None:
        """Add a frame; drops the best one if there are too many."""
        heapq.heappush(self._heap, (frame.error_px, -frame.index, frame))
        if len(self._heap) > WORST:
            heapq.heappop(self._heap)

    def ordered(self) -> list[WorstFrame]:
        """The frames, worst first."""
        return [frame for _, _, frame in sorted(self._heap, reverse=True)]


class PoseErrors:
    """Collects error vectors.

    Attributes:
        mean_px: Mean error over the landmarks per frame; NaN without any.
    """

    def __init__(self) -> None:
        self.mean_px: list[float] = []
        self._confidence: list[float] = []  # per prediction, like _correct
        self._correct: list[bool] = []
        self._steps: list[FloatArray] = []  # px, frame-to-frame changes of the error vector
        self._last: FloatArray | None = None

    def add(self, result: TrackingResult | None, truth: FloatArray | None) -> FloatArray | None:
        """Add a frame.

        Args:
            result: Its poses; None for a dropped frame.
            truth: float64 (slots, landmarks, 2), px, or None.

        Returns:
            Prediction minus truth, float64 (slots, landmarks, 2), px; None without poses or truth.
        """
        vectors = None if result is None or truth is None else self._vectors(result, truth)
        if vectors is not None and self._last is not None:
            steps = np.linalg.norm(vectors - self._last, axis=-1)
            self._steps.append(steps[np.isfinite(steps)])
        self._last = vectors
        self.mean_px.append(_mean(vectors))
        return vectors

    def jitter(self) -> dict[str, float | int | None]:
        """``rms``, ``median`` and ``p95`` of ``|(p[k+1] - p[k]) - (t[k+1] - t[k])|``, px."""
        values = np.concatenate(self._steps) if self._steps else np.zeros(0)
        if not values.size:
            return {"rms": None, "median": None, "p95": None, "count": 0}
        return {
            "rms": float(np.sqrt(np.mean(values**2))),
            "median": float(np.median(values)),
            "p95": float(np.percentile(values, 95)),
            "count": int(values.size),
        }

    def calibration(self) -> dict[str, Any]:
        """Reliability of the confidences of all predictions."""
        return calibration(self._confidence, self._correct)

    def _vectors(self, result: TrackingResult, truth: FloatArray) -> FloatArray:
        guesses = np.array([[(mark.x, mark.y) for mark in one.landmarks] for one in result.instruments], np.float64)
        guesses = guesses.reshape(len(result.instruments), truth.shape[1], 2)
        vectors = np.full(truth.shape, np.nan)
        for slot, prediction in enumerate(match_instruments(guesses, truth)):
            if prediction is None:
                continue
            vectors[slot] = guesses[prediction] - truth[slot]
            for mark, vector in zip(result.instruments[prediction].landmarks, vectors[slot], strict=True):
                if np.isfinite(vector).all() and math.isfinite(mark.confidence):
                    self._confidence.append(float(np.clip(mark.confidence, 0.0, 1.0)))
                    self._correct.append(bool(np.linalg.norm(vector) < THRESHOLD_PX))
        return vectors


def largest_error(vectors: FloatArray | None, truth: FloatArray | None, landmarks: Sequence[str]) -> tuple[float, str]:
    """The largest error of a frame and its landmark; infinite if a visible landmark has no prediction."""
    if vectors is None or truth is None or not truth.size:
        return 0.0, ""
    errors = np.linalg.norm(vectors, axis=-1)
    errors = np.where(np.isfinite(truth).all(axis=-1), np.nan_to_num(errors, nan=math.inf), -1.0)
    place = np.unravel_index(int(np.argmax(errors)), errors.shape)
    return max(0.0, float(errors[place])), landmarks[int(place[1])]


def _mean(vectors: FloatArray | None) -> float:
    if vectors is None:
        return math.nan
    errors = np.linalg.norm(vectors, axis=-1)
    errors = errors[np.isfinite(errors)]
    return float(errors.mean()) if errors.size else math.nan
