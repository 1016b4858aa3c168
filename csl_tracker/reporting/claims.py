"""The paper's claims as paired comparisons."""

from __future__ import annotations

from collections.abc import Sequence

from csl_tracker.evaluation.runs import Run, models_of
from csl_tracker.evaluation.statistics import CONFIDENCE, QUANTITIES, RESAMPLES, Comparison, compare
from csl_tracker.reporting.run_tables import conditions
from csl_tracker.reporting.table import Cell, Column, Table

PAIRS = (("csl", "sl"), ("sl", "l"), ("csl", "csl_no_skip"), ("csl", "unet"), ("csl", "forest"))
"""Claims of the paper: the first model is better than the second."""


def comparisons(runs: Sequence[Run], resamples: int = RESAMPLES) -> Table:
    """The paper's claims as paired comparisons with intervals and verdicts."""
    percent = f"{CONFIDENCE:.0%}".replace("%", " %")
    columns = (
        Column("comparison", "A vs B"),
        Column("quantity", "quantity"),
        Column("mean_a", "A"),
        Column("mean_b", "B"),
        Column("difference", "A - B"),
        Column("low", f"{percent} from", 3),
        Column("high", f"{percent} to", 3),
        Column("verdict", "verdict"),
        Column("sequences", "sequences"),
        Column("seeds", "seeds"),
        Column("units", "units"),
        Column("remarks", "remarks"),
    )
    rows = [_comparison_row(compare(runs, a, b, quantity, resamples), runs) for a, b in pairs(runs) for quantity in QUANTITIES]
    caption = (
        "Paired over fold, sequence, seed, frame and landmark. The interval draws test sequences, seeds, and blocks of"
        f" consecutive frames again ({resamples} times; docs/evaluation.md says how). `units` are the pairs behind a mean."
    )
    return Table("comparisons", "Paired comparisons", caption, columns, tuple(row for row in rows if row is not None))


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
    if result.sequences == 1:
        remarks.append("one test sequence: nothing said of other videos")
    if result.seeds == 1:
        remarks.append("one seed: nothing said of other trainings")
    return (
        f"{result.a} vs {result.b}",
        result.quantity.key,
        result.mean_a,
        result.mean_b,
        result.difference.estimate,
        result.difference.low,
        result.difference.high,
        result.verdict,
        result.sequences,
        result.seeds,
        result.units,
        "; ".join(remarks) or None,
    )
