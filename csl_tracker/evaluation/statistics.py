"""Paired comparison of two models, with confidence intervals that account for correlated video frames.

Both models are evaluated on the same units: fold, test sequence, seed, frame and landmark. The confidence interval of the mean
difference comes from a hierarchical bootstrap that resamples

1. the test sequences (a video represents one surgery),
2. the seeds within each fold (trainings of different folds are independent),
3. blocks of consecutive frames within a sequence, the same ones for all seeds (circular block bootstrap, Politis and Romano
   1992).

Two corrections account for small numbers of sequences and seeds. Of n sequences, and of n seeds, n - 1 are drawn, which makes
the variance of the mean unbiased (Rao and Wu, JASA 1988). The percentiles are expanded so that the normal tail equals that of a
t distribution with n - 1 degrees of freedom, with n sequences (expanded percentile interval of Hesterberg, The American
Statistician 2015; the first correction replaces its other factor). With three sequences, a 95 % interval therefore excludes
zero only if practically all of them agree.

A single test sequence or seed is not resampled: the interval then does not generalise to other videos or trainings.
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
"""Block length of the bootstrap: one second of the datasets' video."""
LEAST_BLOCKS = 5
"""Minimum number of blocks per sequence; shorter sequences use shorter blocks."""
CONFIDENCE = 0.95
RESAMPLES = 4000
NOT_SEPARABLE = "not separable"

Measure = Callable[[SequenceResult], Mapping[tuple[int, ...], float]]


@dataclass(frozen=True)
class Quantity:
    """A quantity to compare.

    Attributes:
        key: Name in tables.
        unit: ``px``, or empty for a fraction.
        larger_is_better: Whether larger means are better.
        measure: Returns the values of a sequence by unit; the first element of a unit is the frame number.
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
"""Compared quantities. Errors need predictions of both models; rates count a missing prediction as an infinite error."""


@dataclass(frozen=True)
class Units:
    """Paired differences by seed and frame.

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
        quantity: The quantity.
        mean_a: Mean of a over the common units; None without any.
        mean_b: Mean of b over the common units; None without any.
        difference: ``mean_a - mean_b`` with its interval; None without common units.
        verdict: ``A better``, ``B better``, ``not separable``, or ``not measured``.
        sequences: Number of test sequences (of all folds).
        seeds: Largest number of seeds in a fold.
        units: Number of paired units.
        left_out: Number of units in only one of the two, such as errors without a prediction.
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
    """Compare two models over their common units (fold, sequence, seed, frame).

    Args:
        runs: Runs of one experiment.
        a: The first model.
        b: The second model.
        quantity: The quantity to compare.
        resamples: Number of bootstrap resamples.
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
    """Verdict for an interval of ``a - b``: ``A better``, ``B better`` or ``not separable``."""
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
    """Mean difference and its bootstrap interval; see the module's docstring.

    Args:
        units: One per test sequence. Those of a fold have the same seeds.
        confidence: Level of the two-sided interval.
        resamples: Number of bootstrap resamples.
        block: Block length, frames; less for sequences shorter than ``LEAST_BLOCKS`` blocks.
        seed: Random seed; results are reproducible.
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
    means = total[count > 0] / count[count > 0]  # a drawn seed may have no frames
    tail = (1.0 - confidence) / 2.0
    repeats = number if number > 1 else max(len(part.seeds) for part in units)
    if repeats > 1:
        tail = NormalDist().cdf(_t_quantile(tail, repeats - 1))
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(estimate, float(low), float(high))


def block_length(frames: int, block: int = BLOCK_FRAMES) -> int:
    """Block length for a sequence of this many frames."""
    return max(1, min(block, math.ceil(frames / LEAST_BLOCKS)))


class _Blocks:
    """Precomputed sums over circular blocks of frames, for resampling."""

    def __init__(self, units: Units, block: int) -> None:
        frames = units.total.shape[1]
        length = block_length(frames, block)
        self._number = max(1, round(frames / length))
        self._frames = frames
        self._total = _circular_sums(units.total, length)
        self._count = _circular_sums(units.count, length)

    def draw(self, seeds: IntArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Resample the frames once per row of seeds.

        Args:
            seeds: int64 (resamples, drawn seeds), row indices of the units.
            rng: Random generator.

        Returns:
            Sums of the differences and of the counts, float64 (resamples,) each.
        """
        starts = rng.integers(self._frames, size=(len(seeds), self._number))
        chosen = (seeds[:, :, None], starts[:, None, :])
        return self._total[chosen].sum(axis=(1, 2)), self._count[chosen].sum(axis=(1, 2))


def _circular_sums(values: FloatArray, length: int) -> FloatArray:
    """Circular sums of ``length`` consecutive columns, starting at each column."""
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
