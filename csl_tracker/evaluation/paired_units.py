"""Paired differences of two models: by test sequence, training and frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.evaluation.quantities import Quantity
from csl_tracker.evaluation.runs import Run

Training = tuple[str, int]
"""Fold and seed of a training."""


@dataclass(frozen=True)
class Units:
    """Paired differences in one test sequence of one fold.

    Attributes:
        fold: Name of the fold.
        sequence: Name of the sequence.
        seeds: The seeds, one per row.
        total: float64 (seeds, frames), sum of the differences (first minus second model) over the units of a frame.
        count: float64 (seeds, frames), number of these units.
    """

    fold: str
    sequence: str
    seeds: tuple[int, ...]
    total: FloatArray
    count: FloatArray

    def seed_means(self) -> FloatArray:
        """Mean difference of each seed over its units, float64 (seeds,); NaN without units."""
        total, count = self.total.sum(axis=1), self.count.sum(axis=1)
        means: FloatArray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
        return means


@dataclass(frozen=True)
class Pairing:
    """The common units of two models.

    Attributes:
        units: The differences, ordered by fold and sequence.
        mean_a: Mean of the first model: over units, then trainings, then sequences; NaN without units.
        mean_b: Mean of the second model, likewise.
        pairs: Number of common units; a landmark or image counts once for each training.
        distinct: Number of different landmarks or images among them.
        left_out: Number of units of only one model.
    """

    units: tuple[Units, ...]
    mean_a: float
    mean_b: float
    pairs: int
    distinct: int
    left_out: int


def pair(runs: Sequence[Run], a: str, b: str, quantity: Quantity) -> Pairing:
    """Pair the values of two models by fold, seed, sequence and unit. Swapping ``a`` and ``b`` negates every difference.

    Args:
        runs: Runs of one experiment.
        a: The first model.
        b: The second model.
        quantity: The quantity to compare.
    """
    of_a = {(run.fold, run.seed): run for run in runs if run.model == a}
    of_b = {(run.fold, run.seed): run for run in runs if run.model == b}
    common = sorted(of_a.keys() & of_b.keys())
    units: list[Units] = []
    means_a: dict[str, list[float]] = {}
    means_b: dict[str, list[float]] = {}
    pairs = distinct = left_out = 0
    for fold in dict.fromkeys(fold for fold, _ in common):
        trainings = [training for training in common if training[0] == fold]
        for name in sorted({name for one in trainings for of in (of_a, of_b) for name in of[one].sequences}):
            cells = [_cell(of_a[one], of_b[one], name, quantity) for one in trainings]
            left_out += sum(cell.left_out for cell in cells)
            pairs += sum(cell.count for cell in cells)
            distinct += max(len({unit for cell in cells for unit in cell.values}), *(cell.count for cell in cells))
            for cell in cells:
                if cell.values:
                    first, second = np.array(list(cell.values.values())).mean(axis=0)
                    means_a.setdefault(name, []).append(float(first))
                    means_b.setdefault(name, []).append(float(second))
            if any(cell.values for cell in cells):
                units.append(_units(fold, name, [seed for _, seed in trainings], cells))
    return Pairing(tuple(units), _mean_of_means(means_a), _mean_of_means(means_b), pairs, distinct, left_out)


@dataclass(frozen=True)
class _Cell:
    """Common units of one training and sequence.

    Attributes:
        values: (value of A, value of B) by unit, in the order of the units.
        count: Number of landmarks or images behind them.
        left_out: Number of units of only one of the two.
    """

    values: Mapping[tuple[int, ...], tuple[float, float]]
    count: int
    left_out: int


def _cell(a: Run, b: Run, name: str, quantity: Quantity) -> _Cell:
    parts = a.sequences.get(name), b.sequences.get(name)
    values_a, values_b = ({} if part is None else _finite(quantity.values(part)) for part in parts)
    both = sorted(values_a.keys() & values_b.keys())
    count = len(both) if parts[0] is None else quantity.count(parts[0], len(both))
    return _Cell({unit: (values_a[unit], values_b[unit]) for unit in both}, count, len(values_a.keys() ^ values_b.keys()))


def _units(fold: str, sequence: str, seeds: Sequence[int], cells: Sequence[_Cell]) -> Units:
    frames = sorted({unit[0] for cell in cells for unit in cell.values})
    column = {frame: index for index, frame in enumerate(frames)}
    total, count = np.zeros((len(cells), len(frames))), np.zeros((len(cells), len(frames)))
    for row, cell in enumerate(cells):
        for unit, (first, second) in cell.values.items():
            total[row, column[unit[0]]] += first - second
            count[row, column[unit[0]]] += 1
    return Units(fold, sequence, tuple(seeds), total, count)


def _finite(values: Mapping[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    return {unit: value for unit, value in values.items() if math.isfinite(value)}


def _mean_of_means(values: Mapping[str, Sequence[float]]) -> float:
    return float(np.mean([np.mean(values[name]) for name in sorted(values)])) if values else math.nan
