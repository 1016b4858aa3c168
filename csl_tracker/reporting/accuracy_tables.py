"""Accuracy tables of an experiment: overview, per landmark, class and sequence, and the error tail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from csl_tracker import metrics
from csl_tracker.evaluation.pooled import (
    GROSS_PX,
    class_overlap,
    false_positive_rate,
    localisation,
    mean_over_sequences,
    overlap,
)
from csl_tracker.evaluation.published import paper
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
from csl_tracker.natural_order import natural_order
from csl_tracker.reporting.run_tables import parameters
from csl_tracker.reporting.table import Cell, Column, Spread, Table, cell_text

WORST = 5
"""Number of frames per model in the error tail table."""
_TABLE1_LANDMARK = "center"
_OVERLAP_TITLES = ("DICE", "precision", "recall")
_ERROR_COLUMNS: Mapping[str, tuple[str, int]] = {
    "error_px_mean": ("pooled error, px", 1),
    "error_px_median": ("median", 1),
    "error_px_p90": ("p90", 1),
    "error_px_p95": ("p95", 1),
    "threshold_score_20px": ("within 20 px", 3),
    "kbb_0.15": ("KBB 0.15", 3),
    "gross_miss_rate_60px": ("gross", 4),
    "miss_rate": ("missed", 3),
}


def overview(runs: Sequence[Run]) -> Table:
    """Metrics of each model over all test sequences, with mean and standard deviation over the seeds."""
    columns = (
        Column("model", "model"),
        Column("runs", "runs"),
        Column("seeds", "seeds counted"),
        Column("sequences", "sequences"),
        Column("images", "segmented images"),
        *(Column(key, title, 3, True) for key, title in zip(OVERLAPS, _OVERLAP_TITLES, strict=True)),
        Column("dice_over_sequences", "DICE, mean over sequences", 3, True),
        Column("visible", "visible landmarks"),
        *_error_columns(),
        Column("error_px_over_sequences", "error, mean over sequences, px", 1, True),
        Column("false_positive_rate", "false positives", 3, True),
        Column("initialisation", "initialisation"),
        Column("parameters", "parameters"),
        *((Column("paper_dice", "DICE, paper"),) if _paper_dice(runs) else ()),
    )
    rows = []
    for model in models_of(runs):
        seeds = {seed: [part for run in of for part in run.sequences.values()] for seed, of in counted(runs, model).items()}
        of_seeds = list(seeds.values())
        first = next(run for run in runs if run.model == model)
        rows.append(
            (
                model,
                *_completeness(runs, model),
                _numbers(map(len, of_seeds)),
                _numbers(sum(part.images() for part in parts) for parts in of_seeds),
                *(Spread.of(overlap(parts, key) for parts in of_seeds) for key in OVERLAPS),
                Spread.of(mean_over_sequences(overlap([part], "dice") for part in parts) for parts in of_seeds),
                _numbers(sum(part.visible() for part in parts) for parts in of_seeds),
                *_error_cells(of_seeds),
                Spread.of(mean_over_sequences(localisation([p])["error_px_mean"] for p in parts) for parts in of_seeds),
                Spread.of(false_positive_rate(part.report for part in parts) for parts in of_seeds),
                ", ".join(sorted({str(run.data.get("initialisation", "-")) for run in runs if run.model == model})),
                _millions(parameters(first)),
                *((_paper_dice(runs).get(model),) if _paper_dice(runs) else ()),
            )
        )
    caption = (
        "All test sequences of all folds, pooled: overlaps averaged over the segmented images, other columns over all visible"
        " landmarks. `mean over sequences` counts each sequence once, as the paired comparisons do. Mean over the seeds and"
        " their standard deviation; counts are those of one seed. Only seeds with all folds count where a model has such."
        f" Gross: {GROSS_PX:g} px off or more, or no guess at all, which the mean cannot hold."
    )
    return Table("overview", "Overview", caption, columns, tuple(rows))


def per_landmark(runs: Sequence[Run]) -> Table:
    """Localisation by model and landmark."""
    columns = (
        Column("landmark", "landmark"),
        Column("model", "model"),
        Column("visible", "visible landmarks"),
        *_error_columns(),
        Column("false_positive_rate", "false positives", 3, True),
    )
    rows: list[tuple[Cell, ...]] = []
    for name in landmarks_of(runs):
        for model in models_of(runs):
            seeds = [[part for run in of for part in run.sequences.values()] for of in counted(runs, model).values()]
            false = (false_positive_rate(p.report["landmarks"][name] for p in parts if name in p.landmarks) for parts in seeds)
            counts = _numbers(sum(part.visible(name) for part in parts) for parts in seeds)
            rows.append((name, model, counts, *_error_cells(seeds, name), Spread.of(false)))
    caption = (
        "All test sequences of all folds, pooled, each landmark by itself; mean over the seeds and their standard deviation."
        " Counts are those of one seed."
    )
    return Table("per_landmark", "By landmark", caption, columns, tuple(rows))


def per_class(runs: Sequence[Run]) -> Table:
    """Segmentation by model and class."""
    columns = (
        Column("class", "class"),
        Column("model", "model"),
        Column("images", "segmented images"),
        *(Column(key, title, 3, True) for key, title in zip(OVERLAPS, _OVERLAP_TITLES, strict=True)),
    )
    parts = [part for run in runs for part in run.sequences.values()]
    rows: list[tuple[Cell, ...]] = []
    for name in dict.fromkeys(name for part in parts for name in part.report.get("classes", {})):
        for model in models_of(runs):
            seeds = [[part for run in of for part in run.sequences.values()] for of in counted(runs, model).values()]
            shares = [Spread.of(class_overlap(parts, name, key) for parts in seeds) for key in OVERLAPS]
            if shares[0].mean is not None:
                images = _numbers(sum(p.images() for p in parts if name in p.report.get("classes", {})) for parts in seeds)
                rows.append((name, model, images, *shares))
    caption = (
        "One class against all others, pooled over the segmented images of all test sequences; mean over the seeds and their"
        " standard deviation. The tables above are of any tool class against the background."
    )
    return Table("per_class", "By class", caption, columns, tuple(rows))


def table1(runs: Sequence[Run]) -> Table:
    """One row per test sequence, like Table 1 of the paper, with the paper's values if available."""
    landmark = _TABLE1_LANDMARK if _TABLE1_LANDMARK in landmarks_of(runs) else None
    named = f"`{landmark}`" if landmark else "all landmarks,"
    published = paper()["table1"]
    known = published["sets"] if runs and runs[0].protocol in published["protocols"] else {}
    error = f"{landmark}_error_px" if landmark else "landmark_error_px"
    # With a second annotation of the same point, show the error against both and the distance between the annotators.
    second = sorted(
        {key for run in runs for part in run.sequences.values() for key in part.report.get("second_annotation") or ()}
    )
    columns = (
        Column("sequence", "test sequence"),
        Column("model", "model"),
        Column("seeds", "seeds"),
        Column("visible", f"visible {named.rstrip(',')}"),
        Column(error, f"{named} error, px", 1, True),
        Column(f"{error}_median", "median, px", 1, True),
        Column("by_instrument", "by instrument, px"),
        *(
            (
                Column("second_annotation_px", f"against {second[0].partition('_vs_')[2]}, px", 1, True),
                Column("annotators_distance_px", "annotators apart, px", 1),
            )
            if second
            else ()
        ),
        Column("images", "segmented images"),
        *(Column(key, title, 3, True) for key, title in zip(OVERLAPS, _OVERLAP_TITLES, strict=True)),
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
    for name in sorted({name for run in runs for name in run.sequences}, key=natural_order):
        for model in models_of(runs):
            parts = [run.sequences[name] for run in runs if run.model == model and name in run.sequences]
            if not parts:
                continue
            pooled = [p.pooled() if landmark is None else p.landmarks.get(landmark, pool([])) for p in parts]
            found = [localisation([p], landmark) for p in parts]
            theirs = known.get(_number(name)) if model == published["model"] else None
            rows.append(
                (
                    name,
                    model,
                    len(parts),
                    _numbers(p.visible(landmark) for p in parts),
                    *(Spread.of(of_seed[f"error_px_{key}"] for of_seed in found) for key in ("mean", "median")),
                    _by_instrument(pooled),
                    *(_second_cells(parts, second[0]) if second else ()),
                    _numbers(p.images() for p in parts),
                    *(Spread.of(overlap([part], key) for part in parts) for key in OVERLAPS),
                    *(_paper_cells(theirs) if known else ()),
                )
            )
    caption = (
        "Every test sequence by itself, mean over the seeds and their standard deviation"
        + ("; the paper has figures of CSL alone, with other data and other training lengths." if known else ".")
        + " `by instrument`: the mean error of the left and of the right instrument where a sequence has two."
    )
    return Table("table1", "By test sequence (Table 1 of the paper)", caption, columns, tuple(rows))


def tail(runs: Sequence[Run]) -> Table:
    """The worst frames of each model."""
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


def _error_columns() -> Iterable[Column]:
    return (Column(key, title, digits, True) for key, (title, digits) in _ERROR_COLUMNS.items())


def _error_cells(seeds: Sequence[Sequence[SequenceResult]], landmark: str | None = None) -> Iterable[Spread]:
    found = [localisation(parts, landmark) for parts in seeds]
    return (Spread.of(item[key] for item in found) for key in _ERROR_COLUMNS)


def _numbers(counts: Iterable[int]) -> str:
    """Counts of the seeds, which differ only if seeds lack sequences."""
    return " or ".join(map(str, sorted(set(counts))))


def _completeness(runs: Sequence[Run], model: str) -> tuple[str, str]:
    folds, seeds = {run.fold for run in runs}, {run.seed for run in runs}
    done = sum(run.model == model for run in runs)
    whole, part = full_seeds(runs, model)
    return f"{done} of {len(folds) * len(seeds)}", str(len(whole)) if whole else f"{len(part)}, folds missing"


def _by_instrument(pooled: Sequence[LandmarkErrors]) -> str | None:
    slots = sorted({int(slot) for item in pooled for slot in item.slot})
    if len(slots) < 2:
        return None
    means = (Spread.of(metrics.summary(item.error[item.slot == slot])["mean"] for item in pooled) for slot in slots)
    return " / ".join(cell_text(mean, 1) for mean in means)


def _second_cells(parts: Sequence[SequenceResult], key: str) -> tuple[Cell, ...]:
    found = [(part.report.get("second_annotation") or {}).get(key) for part in parts]
    errors = (None if item is None else item["landmark_error_px"]["mean"] for item in found)
    apart = Spread.of(None if item is None else item["annotators_distance_px"]["mean"] for item in found)
    return Spread.of(errors), apart.mean


def _paper_cells(theirs: Mapping[str, Any] | None) -> tuple[Cell, ...]:
    if theirs is None:
        return (None,) * 4
    return " / ".join(f"{error:.1f}" for error in theirs["center_error_px"]), *(theirs[key] for key in OVERLAPS)


def _paper_dice(runs: Sequence[Run]) -> dict[str, float]:
    published = paper().get(runs[0].protocol, {}) if runs else {}
    return dict(published.get("dice", {}))


def _millions(count: int | None) -> str | None:
    return None if count is None else f"{count / 1e6:.2f} M"


def _number(name: str) -> str:
    found = re.search(r"(\d+)$", name)
    return found[1] if found else ""
