"""Paired comparison of two models, with an interval that knows that the frames of a video are not independent.

Both models are measured on the same units: fold, test sequence, seed, frame and landmark. The difference of their means has a
confidence interval from a hierarchical bootstrap, which draws again

1. the test sequences (a video is the unit that stands for "another surgery"),
2. the seeds, within every fold (trainings of different folds have nothing in common),
3. within a sequence, blocks of consecutive frames, the same ones for every seed (circular block bootstrap, Politis and Romano
   1992).

Two corrections are made for the small numbers of sequences and seeds that experiments have. Of n sequences, and of n seeds,
n - 1 are drawn, which makes the variance of their mean unbiased (Rao and Wu, JASA 1988); and the percentiles are those at which
a normal distribution has the tail of a t distribution with n - 1 degrees of freedom, n being the number of sequences (the
expanded percentile interval of Hesterberg, The American Statistician 2015, whose other factor the first correction holds). With
three sequences an interval at 95 % thus excludes zero only when practically every one of them agrees.

A single test sequence, or a single seed, is not drawn again: the interval then says nothing about other videos, or about other
trainings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, IntArray
from csl_tracker.evaluation.runs import Run, SequenceResult
from csl_tracker.metrics import THRESHOLD_PX

BLOCK_FRAMES = 25
"""Frames drawn together: one second of the datasets' video."""
LEAST_BLOCKS = 5
"""A sequence that has fewer blocks than these is cut into this many."""
CONFIDENCE = 0.95
RESAMPLES = 4000
NOT_SEPARABLE = "not separable"

Measure = Callable[[SequenceResult], Mapping[tuple[int, ...], float]]


@dataclass(frozen=True)
class Quantity:
    """Something that two models are compared in.

    Attributes:
        key: Name in tables.
        unit: ``px``, or empty for a share.
        larger_is_better: Whether a model is better when its mean is larger.
        measure: From a sequence to its values by unit; a unit starts with the number of its frame.
    """

    key: str
    unit: str
    larger_is_better: bool
    measure: Measure


def _dice(part: SequenceResult) -> Mapping[tuple[int, ...], float]:
    values = part.overlaps["dice"]
    return {(int(frame),): float(value) for frame, value in zip(part.segmented, values, strict=True)}


def _errors(part: SequenceResult, value: Callable[[FloatArray], npt.NDArray[np.generic]]) -> dict[tuple[int, ...], float]:
    return {
        (int(frame), int(slot), index): float(number)
        for index, errors in enumerate(part.landmarks.values())
        for frame, slot, number in zip(errors.frame, errors.slot, value(errors.error), strict=True)
    }


QUANTITIES: tuple[Quantity, ...] = (
    Quantity("dice", "", True, _dice),
    Quantity("landmark_error_px", "px", False, lambda part: _errors(part, lambda error: error)),
    Quantity("threshold_score_20px", "", True, lambda part: _errors(part, lambda error: error < THRESHOLD_PX)),
    Quantity("gross_miss_rate_60px", "", False, lambda part: _errors(part, lambda error: ~(error < 60.0))),
)
"""What is compared. An error needs a guess of both models; the shares count a missing guess as an error without bound."""


@dataclass(frozen=True)
class Units:
    """Paired differences, a row a seed and a column a frame.

    Attributes:
        fold: Name of the fold.
        sequence: Name of the sequence.
        seeds: The seeds, one a row.
        total: float64 (seeds, frames), sum over the frame's units of the first model's value minus the second's.
        count: float64 (seeds, frames), the number of these units.
    """

    fold: str
    sequence: str
    seeds: tuple[int, ...]
    total: FloatArray
    count: FloatArray


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Model a against model b in one quantity.

    Attributes:
        a: The first model.
        b: The second model.
        quantity: What they are compared in.
        mean_a: Mean of a over the units that both have; None when they have none in common, as are the next two.
        mean_b: Mean of b over the same units.
        difference: ``mean_a - mean_b`` with its interval.
        verdict: ``A better``, ``B better``, ``not separable``, or ``not measured``.
        sequences: Number of test sequences (of all folds).
        seeds: Largest number of seeds in a fold.
        units: Number of paired units.
        left_out: Units that only one of the two has, such as an error without a guess.
    """

    a: str
    b: str
    quantity: Quantity
    mean_a: float | None
    mean_b: float | None
    difference: Interval | None
    verdict: str
    sequences: int
    seeds: int
    units: int
    left_out: int


def compare(runs: Sequence[Run], a: str, b: str, quantity: Quantity, resamples: int = RESAMPLES) -> Comparison:
    """Compare two models over the fold, sequence, seed and frame units that both have.

    Args:
        runs: Runs of one experiment.
        a: The first model.
        b: The second model.
        quantity: What to compare them in.
        resamples: Bootstrap resamples.
    """
    of_a = {(run.fold, run.seed): run for run in runs if run.model == a}
    of_b = {(run.fold, run.seed): run for run in runs if run.model == b}
    units: list[Units] = []
    sum_a = sum_b = 0.0
    left_out = 0
    folds = list(dict.fromkeys(run.fold for run in runs))
    for fold in folds:
        seeds = sorted(seed for f, seed in of_a if f == fold and (f, seed) in of_b)
        names = list(dict.fromkeys(name for seed in seeds for name in of_a[fold, seed].sequences))
        for name in names:
            rows: list[dict[int, tuple[float, int]]] = []
            for seed in seeds:
                parts = of_a[fold, seed].sequences.get(name), of_b[fold, seed].sequences.get(name)
                values_a, values_b = ({} if part is None else _finite(quantity.measure(part)) for part in parts)
                both = sorted(values_a.keys() & values_b.keys())
                left_out += len(values_a.keys() ^ values_b.keys())
                row: dict[int, tuple[float, int]] = {}
                for unit in both:
                    total, count = row.get(unit[0], (0.0, 0))
                    row[unit[0]] = (total + values_a[unit] - values_b[unit], count + 1)
                    sum_a, sum_b = sum_a + values_a[unit], sum_b + values_b[unit]
                rows.append(row)
            frames = sorted({frame for row in rows for frame in row})
            if frames:
                units.append(_units(fold, name, tuple(seeds), rows, frames))
    count = round(sum(float(part.count.sum()) for part in units))
    if not count:
        return Comparison(a, b, quantity, None, None, None, "not measured", 0, 0, 0, left_out)
    interval = paired_bootstrap(units, resamples=resamples)
    return Comparison(
        a=a,
        b=b,
        quantity=quantity,
        mean_a=sum_a / count,
        mean_b=sum_b / count,
        difference=interval,
        verdict=verdict(interval, quantity.larger_is_better),
        sequences=len(units),
        seeds=max(len(part.seeds) for part in units),
        units=count,
        left_out=left_out,
    )


def verdict(difference: Interval, larger_is_better: bool) -> str:
    """What an interval of ``a - b`` says: ``A better``, ``B better`` or ``not separable``."""
    if difference.low <= 0.0 <= difference.high:
        return NOT_SEPARABLE
    return "A better" if (difference.low > 0.0) == larger_is_better else "B better"


def paired_bootstrap(
    units: Sequence[Units],
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    block: int = BLOCK_FRAMES,
    seed: int = 0,
) -> Interval:
    """Mean difference and its interval; the module's docstring says how it is made.

    Args:
        units: One for every test sequence. Those of a fold have the same seeds.
        confidence: Of the two-sided interval.
        resamples: Bootstrap resamples.
        block: Frames drawn together; less where a sequence is shorter than ``LEAST_BLOCKS`` of them.
        seed: Of the random numbers; the same units give the same interval in every run.
    """
    estimate = float(sum(part.total.sum() for part in units) / sum(part.count.sum() for part in units))
    rng = np.random.default_rng(seed)
    seed_draws = {fold: _seed_draws(part, resamples, rng) for fold, part in {part.fold: part for part in units}.items()}
    number = len(units)
    drawn = rng.integers(number, size=(resamples, max(1, number - 1)))
    total, count = np.zeros(resamples), np.zeros(resamples)
    for index, part in enumerate(units):
        blocks = _Blocks(part, block)
        for position in range(drawn.shape[1]):
            rows = np.flatnonzero(drawn[:, position] == index)
            part_total, part_count = blocks.draw(seed_draws[part.fold][rows], rng)
            total[rows] += part_total
            count[rows] += part_count
    means = total[count > 0] / count[count > 0]  # a seed may lack every frame of the sequences that were drawn
    tail = (1.0 - confidence) / 2.0
    repeats = number if number > 1 else max(len(part.seeds) for part in units)
    if repeats > 1:
        tail = NormalDist().cdf(_t_quantile(tail, repeats - 1))
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(estimate, float(low), float(high))


def block_length(frames: int, block: int = BLOCK_FRAMES) -> int:
    """Frames drawn together in a sequence of that many frames."""
    return max(1, min(block, math.ceil(frames / LEAST_BLOCKS)))


class _Blocks:
    """Sums over circular blocks of a sequence's frames, from which resamples are drawn."""

    def __init__(self, units: Units, block: int) -> None:
        frames = units.total.shape[1]
        length = block_length(frames, block)
        self._number = max(1, round(frames / length))
        self._frames = frames
        self._total = _circular_sums(units.total, length)
        self._count = _circular_sums(units.count, length)

    def draw(self, seeds: IntArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Resample the frames, once for each row of seeds.

        Args:
            seeds: int64 (resamples, drawn seeds), rows of the units.
            rng: Random numbers.

        Returns:
            Sums of the differences and of their number, float64 (resamples,) each.
        """
        starts = rng.integers(self._frames, size=(len(seeds), self._number))
        chosen = (seeds[:, :, None], starts[:, None, :])
        return self._total[chosen].sum(axis=(1, 2)), self._count[chosen].sum(axis=(1, 2))


def _circular_sums(values: FloatArray, length: int) -> FloatArray:
    """Sum of ``length`` columns from each column on, round the end."""
    padded = np.concatenate([values, values[:, : length - 1]], axis=1)
    sums = np.cumsum(np.concatenate([np.zeros((len(values), 1)), padded], axis=1), axis=1)
    return np.asarray(sums[:, length:] - sums[:, :-length], np.float64)


def _seed_draws(units: Units, resamples: int, rng: np.random.Generator) -> IntArray:
    number = len(units.seeds)
    return rng.integers(number, size=(resamples, max(1, number - 1)))


def _t_quantile(probability: float, degrees: int) -> float:
    from scipy.stats import t  # type: ignore[import-untyped]

    return float(t.ppf(probability, degrees))


def _finite(values: Mapping[tuple[int, ...], float]) -> dict[tuple[int, ...], float]:
    return {unit: value for unit, value in values.items() if math.isfinite(value)}


def _units(
    fold: str, sequence: str, seeds: tuple[int, ...], rows: Sequence[Mapping[int, tuple[float, int]]], frames: Sequence[int]
) -> Units:
    nothing = (0.0, 0)
    pairs = np.array([[row.get(frame, nothing) for frame in frames] for row in rows], np.float64)
    return Units(fold, sequence, seeds, pairs[:, :, 0], pairs[:, :, 1])
