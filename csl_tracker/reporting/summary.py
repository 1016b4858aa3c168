"""Writes the tables, plots and summary page of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from csl_tracker.errors import DatasetError
from csl_tracker.evaluation.published import Comparator, paper, read_comparators
from csl_tracker.evaluation.runs import Run, full_seeds, models_of, parse_runs
from csl_tracker.output import write_text
from csl_tracker.reporting import accuracy_tables, plots, run_tables
from csl_tracker.reporting.claims import comparisons
from csl_tracker.reporting.table import Table

PAGE = "README.md"
_SOURCE_PX = "px of the source image"


def write_summary(
    results: Sequence[Mapping[str, Any]],
    out: Path,
    comparators: Path | None = None,
    planned: Sequence[tuple[str, str]] = (),
) -> list[Path]:
    """Write tables (Markdown and CSV), plots (PNG and SVG), and a README.md with all of them.

    The page states which runs are missing. The output is reproducible.

    Args:
        results: Data of the ``result.json`` files of one experiment.
        out: Output folder; created if missing.
        comparators: A CSV file of published curves, see :mod:`csl_tracker.evaluation.published`.
        planned: Pairs of models to compare, as in the protocol; empty for the default pairs.

    Returns:
        Paths of all written files.

    Raises:
        DatasetError: There is no result, a result is damaged or incompatible, the curves cannot be read, or a file cannot be
            written.
    """
    runs = parse_runs(results)
    if not runs:
        raise DatasetError(f"There is no finished run to summarise into {out}; run the experiment first.")
    published = [] if comparators is None else read_comparators(comparators)
    written: list[Path] = []
    made = tables(runs, planned)
    for table in made.values():
        for suffix, text in (("md", table.markdown() + "\n"), ("csv", table.csv())):
            path = out / f"{table.name}.{suffix}"
            write_text(path, text)
            written.append(path)
    unit = _unit(runs)
    short = "px" if unit == _SOURCE_PX else unit  # short axis labels
    drawn = [
        *plots.draw_threshold_curves(runs, out, published, short),
        *plots.draw_kbb_curves(runs, out, published),
        *plots.draw_tail(runs, out, short),
        *plots.draw_losses(runs, out),
    ]
    page = out / PAGE
    write_text(page, page_text(runs, made, {path.stem for path in drawn}, out, published))
    return [*written, *drawn, page]


def tables(runs: Sequence[Run], planned: Sequence[tuple[str, str]] = ()) -> dict[str, Table]:
    """The tables of an experiment by name, without empty ones."""
    makers: tuple[Callable[[Sequence[Run]], Table], ...] = (
        accuracy_tables.overview,
        lambda of: comparisons(of, planned),
        accuracy_tables.per_landmark,
        accuracy_tables.per_class,
        accuracy_tables.table1,
        accuracy_tables.tail,
        run_tables.training,
        run_tables.provenance,
    )
    made = [maker(runs) for maker in makers]
    return {table.name: table for table in made if table.rows}


_PLOTS: Mapping[str, tuple[str, str]] = {
    "threshold_curves": (
        "Threshold score",
        "Share of the visible landmarks whose error is below a threshold, like Fig. 3 of the paper; the grey line is at 20 px."
        " Lines are means over the seeds, bands their range; the last panel is the mean of the landmarks' curves.",
    ),
    "kbb_curves": (
        "KBB score",
        "Share of the visible landmarks whose error is below alpha times the longer side of the box around the instrument's"
        " true landmarks, like Fig. 4 of the paper; the grey line is at 0.15.",
    ),
    "error_tail": (
        "Tail of the errors",
        "Share of the visible landmarks that are x px off or more, all landmarks pooled; both axes are logarithmic. A landmark"
        " without any guess is beyond every x.",
    ),
    "loss_curves": (
        "Losses",
        "Every run's training and validation loss. Losses of different strategies do not compare.",
    ),
}


def page_text(
    runs: Sequence[Run],
    made: Mapping[str, Table],
    drawn: set[str],
    out: Path,
    published: Sequence[Comparator] = (),
    note: str = "",
) -> str:
    """The page of an experiment.

    Args:
        runs: The runs.
        made: Tables by name.
        drawn: Names of the plots in the folder.
        out: Folder of the experiment, with its panels.
        published: Published curves in the plots.
        note: Sentences about these runs.
    """

    def tables_of(*names: str) -> list[str]:
        return [_section(made[name]) for name in names if name in made]

    def plots_of(*names: str) -> list[str]:
        return [_plot(name, published) for name in names if name in drawn]

    parts = [
        f"# Experiment `{runs[0].protocol}`",
        _state(runs),
        f"Shares are fractions of 1, distances are in {_unit(runs)}. `docs/evaluation.md` says how each figure is made.",
        *([note] if note else []),
        *tables_of("overview", "comparisons"),
        *plots_of("threshold_curves", "kbb_curves", "error_tail"),
        *_panels(out),
        *tables_of("table1", "per_landmark", "per_class", "error_tail", "training"),
        *plots_of("loss_curves"),
        *tables_of("runs"),
        _commands(runs),
    ]
    return "\n\n".join(parts) + "\n"


def _state(runs: Sequence[Run]) -> str:
    folds, seeds, models = {run.fold for run in runs}, {run.seed for run in runs}, models_of(runs)
    expected = len(folds) * len(seeds) * len(models)
    text = f"{len(models)} models, {_count(len(folds), 'fold')}, {_count(len(seeds), 'seed')}: "
    if len(runs) == expected:
        return f"{text}all {expected} runs are there."
    missing = []
    for model in models:
        whole, _ = full_seeds(runs, model)
        if len(whole) < len(seeds):
            missing.append(f"{model} has {len(whole)} of {_count(len(seeds), 'seed')} whole")
    return f"{text}{len(runs)} of {expected} runs are there; {', '.join(missing)}. **The experiment is not finished.**"


def _section(table: Table) -> str:
    return f"{table.section()}\n\n([{table.name}.csv]({table.name}.csv))"


def _plot(name: str, published: Sequence[Comparator]) -> str:
    title, caption = _PLOTS[name]
    kind = {"threshold_curves": "threshold", "kbb_curves": "kbb"}.get(name)
    names = [other.name for other in published if other.kind == kind]
    beside = f" Published curves beside ours: {', '.join(names)}." if names else ""
    return f"## {title}\n\n![{title}]({name}.png)\n\n{caption}{beside} ([{name}.svg]({name}.svg))"


def panels_in(out: Path) -> list[Path]:
    """The panels in an experiment's folder, PNG and SVG."""
    return sorted(path for path in out.glob("panels_*") if path.suffix in (".png", ".svg"))


def _panels(out: Path) -> list[str]:
    """Markdown of the panels in the folder, which are drawn separately, since they need data and weights."""
    pictures = [path.stem for path in panels_in(out) if path.suffix == ".png"]
    if not pictures:
        return []
    shown = "\n\n".join(f"![{stem.replace('_', ' ')}]({stem}.png)" for stem in pictures)
    return [
        f"## Examples\n\n{shown}\n\nOf the first test sequence of each fold the frames with the best, the median and the worst"
        " mean error of CSL in its first seed: chosen by rule. Discs are landmarks above the working threshold, rings guesses"
        " below it, outlines the classes."
    ]


def _commands(runs: Sequence[Run]) -> str:
    commands = "\n".join(dict.fromkeys(str(run.data.get("command", "")) for run in runs))
    return (
        f"## Commands\n\n```\n{commands}\n```\n\nEvery run's `result.json` has its own figures, curve, machine and versions."
        f" The paper's figures are from {paper()['source']}."
    )


def _unit(runs: Sequence[Run]) -> str:
    part = next((part for run in runs for part in run.sequences.values()), None)
    size = None if part is None else part.report.get("reference_size")
    return _SOURCE_PX if size is None else f"px of {size[1]}x{size[0]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
