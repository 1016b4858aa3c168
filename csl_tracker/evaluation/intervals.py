"""Confidence intervals of a mean difference that hold at the sample sizes of surgical videos.

The estimate is the mean over the test sequences: units are averaged in each training, trainings in each sequence, and each
sequence counts once, since a sequence (one surgery) is the independent unit. The interval is
``estimate +- t * standard error``, with the quantile of Student's t distribution for the number of sequences less one.

- Two to five sequences: standard error of the paired t test over the means of the sequences.
- Six or more sequences: standard error of the block bootstrap (:mod:`csl_tracker.evaluation.bootstrap`).
- One sequence: no interval. :func:`over_frames` is for the frames of that recording only.

If several sequences share trainings, as in a protocol with one fold, the differences between the seeds do not average out over
the sequences. Their variance is then a part of its own, with the number of seeds less one as degrees of freedom:
``sqrt(sum(t_i^2 * variance_i))`` over the parts is the half width, which holds its level whatever the shares of the parts
(Banerjee, Sankhya 1960).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.evaluation import bootstrap
from csl_tracker.evaluation.paired_units import Units

CONFIDENCE = 0.95
BOOTSTRAP_SEQUENCES = 6
"""Number of test sequences from which the block bootstrap is used."""
_LEAST_P = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval.

    Attributes:
        estimate: The mean difference.
        low: Lower bound; None without an interval.
        high: Upper bound; None without an interval.
        p: Two-sided p value of "no difference"; None without an interval.
    """

    estimate: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Part:
    """A part of the variance of an estimate, and the degrees of freedom of its own estimate."""

    variance: float
    degrees: int


def over_sequences(
    units: Sequence[Units],
    confidence: float = CONFIDENCE,
    resamples: int = bootstrap.RESAMPLES,
    block: int | None = None,
    seed: int = 0,
) -> Interval:
    """Mean difference over test sequences with its interval; see the module's docstring.

    Args:
        units: One per fold and test sequence, with at least one unit each. Those of a fold have the same seeds.
        confidence: Level of the two-sided interval.
        resamples: Number of bootstrap resamples.
        block: Block length of the bootstrap, frames; None for :func:`bootstrap.block_length`.
        seed: Random seed of the bootstrap.

    Raises:
        ValueError: There are no units.
    """
    means = np.array(list(sequence_means(units).values()))
    if not len(means):
        raise ValueError("an interval needs at least one test sequence")
    estimate = float(means.mean())
    if len(means) < 2:
        return Interval(estimate)
    of_sequences = float(means.var(ddof=1)) / len(means)
    of_seeds = _seed_parts(units, len(means))
    if len(means) >= BOOTSTRAP_SEQUENCES:
        of_all = bootstrap.error_over_sequences(units, resamples, block, seed) ** 2
        of_sequences = max(0.0, of_all - sum(part.variance for part in of_seeds))
    return student(estimate, [Part(of_sequences, len(means) - 1), *of_seeds], confidence)


def over_frames(
    units: Units,
    confidence: float = CONFIDENCE,
    resamples: int = bootstrap.RESAMPLES,
    block: int | None = None,
    seed: int = 0,
) -> Interval:
    """Mean difference in one sequence, with an interval for other frames of that recording and the same models.

    Of b blocks b - 1 are drawn, and the t distribution has b - 1 degrees of freedom. A single block has no interval. The
    interval is too narrow where errors stay alike for longer than a block.
    """
    (estimate,) = sequence_means([units]).values()
    number = bootstrap.block_number(units.total.shape[1], block)
    if number < 2:
        return Interval(estimate)
    error = bootstrap.error_over_frames(units, resamples, block, seed)
    return student(estimate, [Part(error**2, number - 1)], confidence)


def student(estimate: float, parts: Sequence[Part], confidence: float = CONFIDENCE) -> Interval:
    """The t interval of an estimate, symmetric around it, and its p value; no interval if a variance is not finite."""
    if not all(math.isfinite(part.variance) for part in parts):
        return Interval(estimate)
    half = _half_width(parts, 1.0 - confidence)
    return Interval(estimate, estimate - half, estimate + half, _p_value(abs(estimate), parts))


def _half_width(parts: Sequence[Part], level: float) -> float:
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return math.sqrt(sum(part.variance * float(stdtrit(part.degrees, level / 2.0)) ** 2 for part in parts))


def _p_value(distance: float, parts: Sequence[Part]) -> float:
    """The level at which the half width is the distance of the estimate from zero."""
    from scipy.optimize import brentq  # type: ignore[import-untyped]
    from scipy.special import stdtr

    varying = [part for part in parts if part.variance > 0]
    if not varying or distance == 0.0:
        return 0.0 if distance else 1.0
    if len(varying) == 1:
        return 2.0 * float(stdtr(varying[0].degrees, -distance / math.sqrt(varying[0].variance)))
    if _half_width(varying, _LEAST_P) <= distance:
        return _LEAST_P
    return float(brentq(lambda level: _half_width(varying, level) - distance, _LEAST_P, 1.0, xtol=1e-12))


def sequence_means(units: Sequence[Units]) -> dict[str, float]:
    """Mean difference of each test sequence, averaged over its trainings, ordered by name."""
    found: dict[str, list[float]] = {}
    for part in units:
        found.setdefault(part.sequence, []).extend(mean for mean in part.seed_means() if math.isfinite(mean))
    return {name: float(np.mean(found[name])) for name in sorted(found) if found[name]}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p values of a family of comparisons (Holm, Scandinavian Journal of Statistics 1979).

    Args:
        p_values: One per comparison; None for those without a test, which do not count.

    Returns:
        Adjusted p values in the same order. Rejecting those of at most 0.05 makes any wrong rejection in the family at most 5 %
        likely.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[index] = largest
    return adjusted


def _seed_parts(units: Sequence[Units], number: int) -> list[Part]:
    """Variance of the mean over a number of sequences that is due to seeds shared by sequences of a fold."""
    parts = []
    for fold in sorted({part.fold for part in units}):
        rows = [part.seed_means() for part in units if part.fold == fold]
        found = _seed_variance([row for row in rows if np.isfinite(row).all()])
        if found > 0.0:
            parts.append(Part((len(rows) / number) ** 2 * found, min(len(rows[0]), number) - 1))
    return parts


def _seed_variance(rows: Sequence[FloatArray]) -> float:
    """Variance of the mean of a two-way layout of sequences (rows) and seeds (columns) that is due to the seeds.

    It is estimated by analysis of variance: seeds that differ in single sequences only (interaction) are subtracted. 0 if the
    sequences share no seeds.
    """
    if len(rows) < 2 or len(rows[0]) < 2:
        return 0.0
    table = np.stack(rows)
    sequences, seeds = len(rows), len(rows[0])
    of_seeds = table.mean(axis=0)
    rest = table - of_seeds - table.mean(axis=1, keepdims=True) + table.mean()
    interaction = float((rest**2).sum()) / ((sequences - 1) * (seeds - 1)) / sequences
    return max(0.0, float(of_seeds.var(ddof=1)) - interaction) / seeds
