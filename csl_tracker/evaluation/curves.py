"""Curves of an experiment by model: threshold score, KBB score and error tail.

A model has one curve per seed, over the test sequences of all folds. Figures show the mean and the spread over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from csl_tracker import metrics
from csl_tracker.arrays import FloatArray
from csl_tracker.evaluation.runs import LandmarkErrors, Run, counted, landmarks_of, models_of, pool

THRESHOLDS_PX: FloatArray = np.arange(0.0, 60.5, 0.5)
ALPHAS: FloatArray = np.arange(0.0, 0.505, 0.005)
TAIL_PX: FloatArray = np.geomspace(1.0, 1000.0, 241)
MEAN = "mean of the landmarks"

_Score = Callable[[LandmarkErrors, FloatArray], Sequence[float | None]]


@dataclass(frozen=True)
class Curve:
    """Curves of a model, one per seed.

    Attributes:
        x: float64 (n,).
        seeds: float64 (seeds, n), fractions; NaN without data.
    """

    x: FloatArray
    seeds: FloatArray

    @property
    def mean(self) -> FloatArray:
        """float64 (n,), mean over the seeds."""
        return np.asarray(self.seeds.mean(axis=0), np.float64)

    @property
    def measured(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self.seeds.size) and bool(np.isfinite(self.seeds).any())


def threshold_curves(runs: Sequence[Run], x: FloatArray = THRESHOLDS_PX) -> dict[str, dict[str, Curve]]:
    """Threshold score: landmark (and ``MEAN`` over the landmarks) -> model -> curve."""
    return _by_landmark(runs, x, lambda part, at: metrics.threshold_curve(part.error, at))


def kbb_curves(runs: Sequence[Run], x: FloatArray = ALPHAS) -> dict[str, dict[str, Curve]]:
    """KBB score: landmark (and ``MEAN``) -> model -> curve; omits landmarks that never have a box."""
    return _by_landmark(runs, x, lambda part, at: metrics.kbb_curve(part.error, part.box, at))


def tail_curves(runs: Sequence[Run], x: FloatArray = TAIL_PX) -> dict[str, Curve]:
    """Model -> fraction of errors of at least x px, over all landmarks."""
    return {model: _curve(runs, model, x, None, lambda part, at: metrics.survival(part.error, at)) for model in models_of(runs)}


def _by_landmark(runs: Sequence[Run], x: FloatArray, score: _Score) -> dict[str, dict[str, Curve]]:
    panels: dict[str, dict[str, Curve]] = {}
    for name in landmarks_of(runs):
        curves = {model: _curve(runs, model, x, name, score) for model in models_of(runs)}
        measured = {model: curve for model, curve in curves.items() if curve.measured}
        if measured:
            panels[name] = measured
    means: dict[str, Curve] = {}
    for model in models_of(runs):
        parts = [panel[model].seeds for panel in panels.values() if model in panel]
        if parts and len(parts) == len(panels):  # means over different landmarks are not comparable
            means[model] = Curve(x, np.mean(parts, axis=0))
    if means and len(panels) > 1:
        panels[MEAN] = means
    return panels


def _curve(runs: Sequence[Run], model: str, x: FloatArray, landmark: str | None, score: _Score) -> Curve:
    rows = []
    for of_seed in counted(runs, model).values():
        parts = [part for run in of_seed for part in run.sequences.values()]
        pooled = pool(p for part in parts for name, p in part.landmarks.items() if landmark in (None, name))
        rows.append([np.nan if value is None else value for value in score(pooled, x)])
    return Curve(x, np.array(rows, np.float64).reshape(len(rows), len(x)))
