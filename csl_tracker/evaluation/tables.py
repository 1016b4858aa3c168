"""Tables of an experiment, as data that can be written as Markdown for eyes and as CSV for programs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from csl_tracker import metrics
from csl_tracker.errors import CslTrackerError
from csl_tracker.evaluation.comparators import paper
from csl_tracker.evaluation.runs import (
    OVERLAPS,
    LandmarkErrors,
    Run,
    SequenceResult,
    counted,
    full_seeds,
    landmarks_of,
    models_of,
    pool,
)
from csl_tracker.evaluation.statistics import CONFIDENCE, QUANTITIES, RESAMPLES, Comparison, compare

NEAR_PX, GROSS_PX, KBB_ALPHA = 20.0, 60.0, 0.15
PAIRS = (("csl", "sl"), ("sl", "l"), ("csl", "csl_no_skip"), ("csl", "unet"), ("csl", "forest"))
"""What the paper claims: the first is better than the second."""
CONDITIONS = ("initialisation", "steps", "batch_size", "input_size", "preset")
"""What has to be equal for a comparison of two models to be one of their strategies."""
WORST = 5
"""Frames of a model in the table of the error's tail."""
VALIDATION_LOSS = "val/loss"
_TABLE1_LANDMARK = "center"


@dataclass(frozen=True)
class Spread:
    """Mean over the seeds, and their standard deviation; None with one seed, or where nothing was measured."""

    mean: float | None
    deviation: float | None = None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread:
        """Of the values of the seeds; those without a value are left out."""
        numbers = [value for value in values if value is not None]
        if not numbers:
            return cls(None)
        return cls(float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None)


Cell = str | int | float | Spread | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: Its name in CSV.
        title: Its name in Markdown.
        digits: After the decimal point, in Markdown.
        spread: Its cells are ``Spread``: CSV has a second column ``KEY_sd``.
    """

    key: str
    title: str
    digits: int = 3
    spread: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: Stem of its files.
        title: Heading.
        caption: What it shows, in sentences.
        columns: Its columns.
        rows: Cells in the columns' order.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self) -> str:
        """A Markdown table; what was not measured is a dash."""
        lines = [
            f"| {' | '.join(column.title for column in self.columns)} |",
            f"|{'|'.join(' --- ' for _ in self.columns)}|",
        ]
        for row in self.rows:
            cells = (_text(cell, column.digits) for cell, column in zip(row, self.columns, strict=True))
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def csv(self) -> str:
        """Comma-separated values with a header; what was not measured is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([key for column in self.columns for key in _keys(column)])
        for row in self.rows:
            writer.writerow([value for cell, column in zip(row, self.columns, strict=True) for value in _values(cell, column)])
        return text.getvalue()


def overview(runs: Sequence[Run]) -> Table:
    """Every model's figures over all test sequences, mean over the seeds and their standard deviation."""
    columns = (
        Column("model", "model"),
        Column("runs", "runs"),
        Column("seeds", "seeds counted"),
        *(Column(key, title, 3, True) for key, title in (("dice", "DICE"), ("precision", "precision"), ("recall", "recall"))),
        *_error_columns(),
        Column("false_positive_rate", "false positives", 3, True),
        Column("initialisation", "initialisation"),
        Column("parameters", "parameters"),
        *((Column("paper_dice", "DICE, paper"),) if _paper_dice(runs) else ()),
    )
    rows = []
    for model in models_of(runs):
        seeds = {seed: [part for run in of for part in run.sequences.values()] for seed, of in counted(runs, model).items()}
        pooled = [pool(part.pooled() for part in parts) for parts in seeds.values()]
        first = next(run for run in runs if run.model == model)
        rows.append(
            (
                model,
                *_completeness(runs, model),
                *(Spread.of(_overlap(parts, key) for parts in seeds.values()) for key in OVERLAPS),
                *_error_cells(pooled),
                Spread.of(_false_positives(part.report for part in parts) for parts in seeds.values()),
                ", ".join(sorted({str(run.data.get("initialisation", "-")) for run in runs if run.model == model})),
                _millions(_parameters(first)),
                *((_paper_dice(runs).get(model),) if _paper_dice(runs) else ()),
            )
        )
    caption = (
        "All test sequences of all folds: overlaps averaged over the segmented images, errors over all visible landmarks; mean"
        " over the seeds and their standard deviation. Only seeds with all folds count where a model has such."
        f" Gross: {GROSS_PX:g} px off or more, or no guess at all, which the mean cannot hold."
    )
    return Table("overview", "Overview", caption, columns, tuple(rows))


def per_landmark(runs: Sequence[Run]) -> Table:
    """Localisation by model and landmark."""
    columns = (
        Column("landmark", "landmark"),
        Column("model", "model"),
        Column("visible", "visible truths"),
        *_error_columns(),
        Column("false_positive_rate", "false positives", 3, True),
    )
    rows: list[tuple[Cell, ...]] = []
    for name in landmarks_of(runs):
        for model in models_of(runs):
            seeds = [[part for run in of for part in run.sequences.values()] for of in counted(runs, model).values()]
            pooled = [pool(part.landmarks[name] for part in parts if name in part.landmarks) for parts in seeds]
            false = (_false_positives(p.report["landmarks"][name] for p in parts if name in p.landmarks) for parts in seeds)
            counts = sorted({len(item.error) for item in pooled})
            rows.append((name, model, " or ".join(map(str, counts)), *_error_cells(pooled), Spread.of(false)))
    caption = "All test sequences of all folds, each landmark by itself; mean over the seeds and their standard deviation."
    return Table("per_landmark", "By landmark", caption, columns, tuple(rows))


def table1(runs: Sequence[Run]) -> Table:
    """Every test sequence by itself, in the form of the paper's Table 1, with its figures where it has that sequence."""
    landmark = _TABLE1_LANDMARK if _TABLE1_LANDMARK in landmarks_of(runs) else None
    named = f"`{landmark}`" if landmark else "all landmarks,"
    published = paper()["table1"]
    known = published["sets"] if runs and runs[0].protocol in published["protocols"] else {}
    error = f"{landmark}_error_px" if landmark else "landmark_error_px"
    columns = (
        Column("sequence", "test sequence"),
        Column("model", "model"),
        Column("seeds", "seeds"),
        Column(error, f"{named} error, px", 1, True),
        Column(f"{error}_median", "median, px", 1, True),
        Column("by_instrument", "by instrument, px"),
        *(Column(key, title, 3, True) for key, title in (("dice", "DICE"), ("precision", "precision"), ("recall", "recall"))),
        *(
            (
                Column("paper_center_error_px", "paper: error, px"),
                *(Column(f"paper_{key}", f"paper: {title}") for key, title in zip(OVERLAPS, _OVERLAP_TITLES, strict=True)),
            )
            if known
            else ()
        ),
    )
    rows: list[tuple[Cell, ...]] = []
    for name in sorted({name for run in runs for name in run.sequences}, key=_natural):
        for model in models_of(runs):
            parts = [run.sequences[name] for run in runs if run.model == model and name in run.sequences]
            if not parts:
                continue
            pooled = [p.pooled() if landmark is None else p.landmarks.get(landmark, pool([])) for p in parts]
            summaries = [metrics.summary(item.error) for item in pooled]
            theirs = known.get(_number(name)) if model == published["model"] else None
            rows.append(
                (
                    name,
                    model,
                    len(parts),
                    Spread.of(summary["mean"] for summary in summaries),
                    Spread.of(summary["median"] for summary in summaries),
                    _by_instrument(pooled),
                    *(Spread.of(_overlap([part], key) for part in parts) for key in OVERLAPS),
                    *(_paper_cells(theirs) if known else ()),
                )
            )
    caption = (
        "Every test sequence by itself, mean over the seeds and their standard deviation"
        + ("; the paper has figures of CSL alone, with other data and other training lengths." if known else ".")
        + " `by instrument`: the mean error of the left and of the right instrument where a sequence has two."
    )
    return Table("table1", "By test sequence (Table 1 of the paper)", caption, columns, tuple(rows))


def comparisons(runs: Sequence[Run], resamples: int = RESAMPLES) -> Table:
    """The paper's claims as paired comparisons, with an interval and a verdict."""
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
    """The pairs of ``PAIRS`` that are there, those of equal variants too, and each variant against its own model."""
    names = models_of(runs)
    suffixes = list(dict.fromkeys(suffix for _, _, suffix in (name.partition("@") for name in names)))
    marked = [f"@{suffix}" if suffix else "" for suffix in suffixes]
    found = [(a + mark, b + mark) for mark in marked for a, b in PAIRS if a + mark in names and b + mark in names]
    return found + [(name, name.partition("@")[0]) for name in names if "@" in name and name.partition("@")[0] in names]


def tail(runs: Sequence[Run]) -> Table:
    """The worst frames of every model: where to look."""
    columns = (
        Column("model", "model"),
        Column("sequence", "sequence"),
        Column("frame", "frame"),
        Column("instrument", "instrument"),
        Column("landmark", "landmark"),
        Column("error_px", "error, px", 1),
        Column("seed", "seed"),
    )
    rows: list[tuple[Cell, ...]] = []
    for model in models_of(runs):
        worst: dict[tuple[str, int], tuple[float, tuple[Cell, ...]]] = {}
        for run in (run for run in runs if run.model == model):
            for part in run.sequences.values():
                for name, errors in part.landmarks.items():
                    sizes = np.where(np.isnan(errors.error), np.inf, errors.error)
                    for index in np.argsort(-sizes, kind="stable")[:WORST]:
                        frame, size = int(errors.frame[index]), float(sizes[index])
                        shown: Cell = size if np.isfinite(size) else "no guess"
                        row = (model, part.name, frame, int(errors.slot[index]), name, shown, run.seed)
                        if size > worst.get((part.name, frame), (-1.0, ()))[0]:
                            worst[part.name, frame] = size, row
        rows += [row for _, row in sorted(worst.values(), key=lambda item: -item[0])[:WORST]]
    caption = f"The {WORST} worst frames of every model, each with its worst landmark in its worst seed."
    return Table("error_tail", "The tail of the errors", caption, columns, tuple(rows))


def training(runs: Sequence[Run]) -> Table:
    """How the models were trained, and whether the loss had flattened."""
    columns = (
        Column("model", "model"),
        Column("preset", "preset"),
        Column("steps", "steps"),
        Column("batch_size", "batch"),
        Column("input_size", "input, px"),
        Column("minutes", "minutes", 1, True),
        Column("validation_loss", "validation loss", 4, True),
        Column("change", "change in the last quarter", 3, True),
    )
    rows: list[tuple[Cell, ...]] = []
    for model in models_of(runs):
        of_model = [run for run in runs if run.model == model]
        seconds = (run.data.get("seconds") for run in of_model)
        losses = [_validation_loss(run) for run in of_model]
        settings = ("preset", "steps", "batch_size", "input_size")
        rows.append(
            (
                model,
                *(_joined(_size_text(run.data.get(key)) for run in of_model) for key in settings),
                Spread.of(None if value is None else value / 60.0 for value in seconds),
                Spread.of(values[-1] if len(values) else None for values in losses),
                Spread.of(_last_quarter(values) for values in losses),
            )
        )
    caption = (
        "Mean over all runs and their standard deviation. `change in the last quarter`: the mean validation loss of the last"
        " quarter of the training against that of the quarter before; -0.01 is one per cent lower. Losses of different"
        " strategies do not compare."
    )
    return Table("training", "Training", caption, columns, tuple(rows))


def provenance(runs: Sequence[Run]) -> Table:
    """Where every run comes from."""
    columns = tuple(Column(key, key.replace("_", " ")) for key in _PROVENANCE)
    rows = []
    for run in runs:
        machine, weights = run.data.get("machine") or {}, run.data.get("weights") or {}
        rows.append(
            (
                run.model,
                run.fold,
                run.seed,
                run.data.get("date"),
                machine.get("gpu") or machine.get("cpu"),
                (run.data.get("versions") or {}).get("torch"),
                str(weights.get("sha256") or "")[:8] or None,
                str(run.data.get("input_sha256") or "")[:8] or None,
            )
        )
    caption = "One row a run; hashes are the first eight digits of the SHA-256 of the weights and of the test frames."
    return Table("runs", "Runs", caption, columns, tuple(rows))


def landmark_figures(errors: LandmarkErrors) -> dict[str, float | None]:
    """Figures of one seed's pooled errors, by the keys of the tables."""
    summary = metrics.summary(errors.error)
    near = metrics.threshold_score(errors.error, NEAR_PX)
    gross = metrics.survival(errors.error, [GROSS_PX])[0]
    return {
        **{f"error_px_{key}": summary[key] for key in ("mean", "median", "p90", "p95")},
        "threshold_score_20px": near,
        "kbb_0.15": metrics.kbb_score(errors.error, errors.box, KBB_ALPHA),
        "gross_miss_rate_60px": gross,
        "miss_rate": float(np.mean(errors.missed)) if len(errors.missed) else None,
    }


_OVERLAP_TITLES = ("DICE", "precision", "recall")
_PROVENANCE = ("model", "fold", "seed", "date", "machine", "torch", "weights", "input")
_ERROR_COLUMNS: Mapping[str, tuple[str, int]] = {
    "error_px_mean": ("error, px", 1),
    "error_px_median": ("median", 1),
    "error_px_p90": ("p90", 1),
    "error_px_p95": ("p95", 1),
    "threshold_score_20px": ("within 20 px", 3),
    "kbb_0.15": ("KBB 0.15", 3),
    "gross_miss_rate_60px": ("gross", 4),
    "miss_rate": ("missed", 3),
}


def _error_columns() -> Iterable[Column]:
    return (Column(key, title, digits, True) for key, (title, digits) in _ERROR_COLUMNS.items())


def _error_cells(pooled: Sequence[LandmarkErrors]) -> Iterable[Spread]:
    figures = [landmark_figures(item) for item in pooled]
    return (Spread.of(item[key] for item in figures) for key in _ERROR_COLUMNS)


def _completeness(runs: Sequence[Run], model: str) -> tuple[str, str]:
    folds, seeds = {run.fold for run in runs}, {run.seed for run in runs}
    done = sum(run.model == model for run in runs)
    whole, part = full_seeds(runs, model)
    return f"{done} of {len(folds) * len(seeds)}", str(len(whole)) if whole else f"{len(part)}, folds missing"


def _overlap(parts: Sequence[SequenceResult], key: str) -> float | None:
    values = np.concatenate([np.empty(0), *(part.overlaps[key] for part in parts)])
    return float(values.mean()) if len(values) else None


def _false_positives(reports: Iterable[Mapping[str, Any]]) -> float | None:
    """Share over several reports, by their numbers of absent truths."""
    pairs = [(report["absent"], report["false_positive_rate"]) for report in reports if report.get("absent")]
    absent = sum(count for count, _ in pairs)
    return sum(count * rate for count, rate in pairs) / absent if absent else None


def _by_instrument(pooled: Sequence[LandmarkErrors]) -> str | None:
    slots = sorted({int(slot) for item in pooled for slot in item.slot})
    if len(slots) < 2:
        return None
    means = (Spread.of(metrics.summary(item.error[item.slot == slot])["mean"] for item in pooled) for slot in slots)
    return " / ".join(_text(mean, 1) for mean in means)


def _paper_cells(theirs: Mapping[str, Any] | None) -> tuple[Cell, ...]:
    if theirs is None:
        return (None,) * 4
    return " / ".join(f"{error:.1f}" for error in theirs["center_error_px"]), *(theirs[key] for key in OVERLAPS)


def _paper_dice(runs: Sequence[Run]) -> dict[str, float]:
    published = paper().get(runs[0].protocol, {}) if runs else {}
    return dict(published.get("dice", {}))


def _comparison_row(result: Comparison, runs: Sequence[Run]) -> tuple[Cell, ...] | None:
    if result.difference is None or result.mean_a is None or result.mean_b is None:
        return None
    remarks = []
    unequal = _unequal_conditions(runs, result.a, result.b)
    if unequal:
        remarks.append("not equal: " + "; ".join(unequal))
    if result.left_out:
        remarks.append(f"{result.left_out} units of one model alone left out")
    if result.sequences == 1:
        remarks.append("one test sequence: nothing said of other videos")
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


def _unequal_conditions(runs: Sequence[Run], a: str, b: str) -> list[str]:
    def values(model: str, key: str) -> str:
        return _joined(_size_text(run.data.get(key)) for run in runs if run.model == model)

    return [
        f"{key.replace('_', ' ')} {values(a, key)} / {values(b, key)}" for key in CONDITIONS if values(a, key) != values(b, key)
    ]


def _validation_loss(run: Run) -> Sequence[float]:
    curve = run.data.get("curve") or {}
    values = (curve.get("validation") or {}).get(VALIDATION_LOSS) or []
    return [float(value) for value in values if value is not None]


def _last_quarter(losses: Sequence[float]) -> float | None:
    quarter = len(losses) // 4
    if not quarter:
        return None
    before = float(np.mean(losses[-2 * quarter : -quarter]))
    return float(np.mean(losses[-quarter:])) / before - 1.0 if before > 0 else None


def _parameters(run: Run) -> int | None:
    """Number of trained parameters, from the description of the network; None for a forest, which has none."""
    from csl_tracker.networks import NetworkConfig, build_network

    network = run.data.get("network") or {}
    if network.get("strategy") in (None, "forest"):
        return None
    try:
        return sum(parameter.numel() for parameter in build_network(NetworkConfig.from_dict(network)).parameters())
    except (CslTrackerError, TypeError, ValueError):
        return None  # described by another version of this package


def _millions(count: int | None) -> str | None:
    return None if count is None else f"{count / 1e6:.2f} M"


def _joined(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values), key=_natural))


def _size_text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _natural(text: str) -> list[tuple[int, str]]:
    """Sort key: numbers inside a name count as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _number(name: str) -> str:
    found = re.search(r"(\d+)$", name)
    return found[1] if found else ""


def _text(cell: Cell, digits: int) -> str:
    if isinstance(cell, Spread):
        if cell.mean is None:
            return "-"
        return f"{cell.mean:.{digits}f}" + ("" if cell.deviation is None else f" ± {cell.deviation:.{digits}f}")
    if isinstance(cell, float):
        return f"{cell:.{digits}f}"
    return "-" if cell is None else str(cell).replace("|", "\\|")


def _keys(column: Column) -> tuple[str, ...]:
    return (column.key, f"{column.key}_sd") if column.spread else (column.key,)


def _values(cell: Cell, column: Column) -> tuple[Any, ...]:
    if not column.spread:
        return (_plain(cell),)
    return (_plain(cell.mean), _plain(cell.deviation)) if isinstance(cell, Spread) else (_plain(cell), "")


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    return round(value, 6) if isinstance(value, float) else value
