"""The paper's claims as paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence

from csl_tracker.evaluation.bootstrap import RESAMPLES
from csl_tracker.evaluation.intervals import BOOTSTRAP_SEQUENCES, CONFIDENCE
from csl_tracker.evaluation.quantities import QUANTITIES
from csl_tracker.evaluation.runs import Run, models_of
from csl_tracker.evaluation.statistics import NOT_SEPARABLE, Comparison, adjust, compare
from csl_tracker.reporting.run_tables import conditions
from csl_tracker.reporting.table import Cell, Column, Table

PAIRS = (
    ("csl", "sl"),
    ("sl", "l"),
    ("csl", "csl_no_skip"),
    ("csl", "unet"),
    ("csl", "forest"),
    ("csl", "sl_skip"),
    ("sl_skip", "sl"),
    ("sl_skip", "l"),
)
"""Claims of the paper: the first model is better than the second."""


def comparisons(runs: Sequence[Run], planned: Sequence[tuple[str, str]] = (), resamples: int = RESAMPLES) -> Table:
    """Paired comparisons with intervals and verdicts.

    All pairs of one quantity are a family, whose p values are adjusted together.

    Args:
        runs: The runs of an experiment.
        planned: Pairs of models, as in the protocol; those that are there are compared. Empty for :func:`pairs`.
        resamples: Number of bootstrap resamples.
    """
    percent = f"{CONFIDENCE:.0%}".replace("%", " %")
    columns = (
        Column("comparison", "A vs B"),
        Column("quantity", "quantity"),
        Column("mean_a", "A, mean over sequences"),
        Column("mean_b", "B, mean over sequences"),
        Column("difference", "A - B"),
        Column("low", f"{percent} from", 3),
        Column("high", f"{percent} to", 3),
        Column("p", "p", 4),
        Column("p_holm", "p (Holm)", 4),
        Column("verdict", "verdict"),
        Column("by_sequence", "A - B by sequence"),
        Column("sequences", "sequences"),
        Column("seeds", "seeds"),
        Column("visible", "landmarks or images"),
        Column("units", "pairs"),
        Column("remarks", "remarks"),
    )
    names = models_of(runs)
    wanted = [(a, b) for a, b in planned if a in names and b in names] if planned else pairs(runs)
    families = [adjust([compare(runs, a, b, quantity, resamples) for a, b in wanted]) for quantity in QUANTITIES]
    rows = [_comparison_row(family[index], runs) for index in range(len(wanted)) for family in families]
    return Table("comparisons", "Paired comparisons", _CAPTION, columns, tuple(row for row in rows if row is not None))


_CAPTION = (
    "Paired over fold, sequence, seed, frame and landmark. Means over the test sequences, each of which counts once; the tables"
    f" of accuracy pool all landmarks instead. 2 to {BOOTSTRAP_SEQUENCES - 1} sequences: paired t interval over the means of"
    f" the sequences, and the difference of each; {BOOTSTRAP_SEQUENCES} or more: block bootstrap; 1: no interval"
    " (docs/evaluation.md). The verdict rests on the p value after Holm's correction over all pairs of a quantity; the interval"
    " is that of one pair. `landmarks or images`: different visible landmarks, or segmented images for `dice`, behind a mean;"
    " `pairs` counts each once per seed."
)


def pairs(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """The available pairs of ``PAIRS``, also between equal variants, and each variant against its base model."""
    names = models_of(runs)
    suffixes = list(dict.fromkeys(suffix for _, _, suffix in (name.partition("@") for name in names)))
    marked = [f"@{suffix}" if suffix else "" for suffix in suffixes]
    found = [(a + mark, b + mark) for mark in marked for a, b in PAIRS if a + mark in names and b + mark in names]
    return found + [(name, name.partition("@")[0]) for name in names if "@" in name and name.partition("@")[0] in names]


def _comparison_row(result: Comparison, runs: Sequence[Run]) -> tuple[Cell, ...] | None:
    if result.difference is None or result.mean_a is None or result.mean_b is None:
        return None
    remarks = []
    of_a, of_b = conditions(runs, result.a), conditions(runs, result.b)
    unequal = [key.replace("_", " ") for key in of_a if of_a[key] != of_b[key]]
    if unequal:
        remarks.append(f"not equal: {', '.join(unequal)}")
    if result.left_out:
        remarks.append(f"{result.left_out} units of one model alone left out")
    low, high = result.difference.low, result.difference.high
    if result.sequences == 1:
        remarks.append("one test sequence: nothing said of other videos")
    elif result.verdict == NOT_SEPARABLE and low is not None and high is not None and not low <= 0.0 <= high:
        remarks.append("not separable after Holm's correction")
    if result.seeds == 1:
        remarks.append("one seed: nothing said of other trainings")
    return (
        f"{result.a} vs {result.b}",
        result.quantity.key,
        result.mean_a,
        result.mean_b,
        result.difference.estimate,
        low,
        high,
        result.difference.p,
        result.adjusted_p,
        result.verdict,
        _by_sequence(result),
        result.sequences,
        result.seeds,
        result.distinct,
        result.units,
        "; ".join(remarks) or None,
    )


def _by_sequence(result: Comparison) -> str | None:
    """Difference of each sequence, where they are too few for the bootstrap."""
    if result.sequences >= BOOTSTRAP_SEQUENCES:
        return None
    return ", ".join(f"{name} {difference:+.3f}" for name, difference in result.by_sequence)
