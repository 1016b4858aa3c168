"""Paired comparison of two models.

Both models are evaluated on the same units: fold, test sequence, seed, frame and landmark. The interval of the mean difference
is that of :mod:`csl_tracker.evaluation.intervals`. Swapping the models mirrors the result exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from csl_tracker.evaluation import intervals
from csl_tracker.evaluation.bootstrap import RESAMPLES
from csl_tracker.evaluation.intervals import CONFIDENCE, Interval
from csl_tracker.evaluation.paired_units import pair
from csl_tracker.evaluation.quantities import Quantity
from csl_tracker.evaluation.runs import Run

NOT_SEPARABLE = "not separable"


@dataclass(frozen=True)
class Comparison:
    """Model a against model b in one quantity.

    Attributes:
        a: The first model.
        b: The second model.
        quantity: The quantity.
        mean_a: Mean of a over the test sequences, in the common units; None without any.
        mean_b: Mean of b over the test sequences, likewise; None without any.
        difference: ``mean_a - mean_b`` with its interval; None without common units.
        by_sequence: Difference of each test sequence, averaged over its trainings.
        adjusted_p: p value of the difference, adjusted by :func:`adjust`; None without an interval.
        verdict: ``A better``, ``B better``, ``not separable``, or ``not measured``.
        sequences: Number of test sequences (of all folds).
        seeds: Largest number of seeds in a fold.
        units: Number of paired units; a landmark or image counts once for each training.
        distinct: Number of different visible landmarks or images among them.
        left_out: Number of units in only one of the two, such as errors without a prediction.
    """

    a: str
    b: str
    quantity: Quantity
    mean_a: float | None
    mean_b: float | None
    difference: Interval | None
    by_sequence: tuple[tuple[str, float], ...]
    adjusted_p: float | None
    verdict: str
    sequences: int
    seeds: int
    units: int
    distinct: int
    left_out: int


def compare(
    runs: Sequence[Run], a: str, b: str, quantity: Quantity, resamples: int = RESAMPLES, these_frames_only: bool = False
) -> Comparison:
    """Compare two models over their common units (fold, sequence, seed, frame).

    The verdict is that of a single comparison; for several ones see :func:`adjust`.

    Args:
        runs: Runs of one experiment.
        a: The first model.
        b: The second model.
        quantity: The quantity to compare.
        resamples: Number of bootstrap resamples.
        these_frames_only: Take the interval over the frames of the only sequence, instead of over sequences.

    Raises:
        ValueError: ``these_frames_only`` with more than one sequence.
    """
    found = pair(runs, a, b, quantity)
    if not found.units:
        return Comparison(a, b, quantity, None, None, None, (), None, "not measured", 0, 0, 0, 0, found.left_out)
    if these_frames_only:
        (part,) = found.units
        interval = intervals.over_frames(part, resamples=resamples)
    else:
        interval = intervals.over_sequences(found.units, resamples=resamples)
    means = intervals.sequence_means(found.units)
    return Comparison(
        a=a,
        b=b,
        quantity=quantity,
        mean_a=found.mean_a,
        mean_b=found.mean_b,
        difference=interval,
        by_sequence=tuple(means.items()),
        adjusted_p=interval.p,
        verdict=verdict(interval.estimate, interval.p, quantity.larger_is_better),
        sequences=len(means),
        seeds=max(len(part.seeds) for part in found.units),
        units=found.pairs,
        distinct=found.distinct,
        left_out=found.left_out,
    )


def adjust(family: Sequence[Comparison]) -> list[Comparison]:
    """Adjust the p values and verdicts of comparisons that are made together, by Holm's method."""
    adjusted = intervals.holm([None if one.difference is None else one.difference.p for one in family])
    return [
        one
        if one.difference is None
        else replace(one, adjusted_p=p, verdict=verdict(one.difference.estimate, p, one.quantity.larger_is_better))
        for one, p in zip(family, adjusted, strict=True)
    ]


def verdict(difference: float, p: float | None, larger_is_better: bool) -> str:
    """Verdict for a difference ``a - b`` and its p value: ``A better``, ``B better`` or ``not separable``."""
    if p is None or not p <= 1.0 - CONFIDENCE or difference == 0.0:
        return NOT_SEPARABLE
    return "A better" if (difference > 0.0) == larger_is_better else "B better"
