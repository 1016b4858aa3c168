"""Plots of an experiment: threshold and KBB curves like Figs. 3 and 4 of the paper, losses, and the error tail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator, PercentFormatter

from csl_tracker.evaluation.curves import MEAN, Curve, kbb_curves, tail_curves, threshold_curves
from csl_tracker.evaluation.pooled import GROSS_PX
from csl_tracker.evaluation.published import Comparator
from csl_tracker.evaluation.runs import Run, models_of
from csl_tracker.metrics import KBB_ALPHA, THRESHOLD_PX
from csl_tracker.reporting import plot_style
from csl_tracker.reporting.run_tables import VALIDATION_LOSS

_SMOOTHING = 9  # window of the moving average of training losses, points


def draw_threshold_curves(
    runs: Sequence[Run], out: Path, comparators: Sequence[Comparator] = (), unit: str = "px"
) -> list[Path]:
    """Threshold score by landmark and their mean, like Fig. 3 of the paper.

    Args:
        runs: Runs of one experiment.
        out: Output folder.
        comparators: Published curves; those of kind ``threshold`` are drawn into the mean panel.
        unit: Unit of the distances.

    Returns:
        Paths of the PNG and SVG files; empty without data.
    """
    panels = threshold_curves(runs)
    others = [comparator for comparator in comparators if comparator.kind == "threshold"]
    label = f"threshold ({unit})"
    return _draw_scores(panels, out / "threshold_curves", label, THRESHOLD_PX, models_of(runs), others)


def draw_kbb_curves(runs: Sequence[Run], out: Path, comparators: Sequence[Comparator] = ()) -> list[Path]:
    """KBB score by landmark and their mean, like Fig. 4 of the paper; see :func:`draw_threshold_curves`."""
    panels = kbb_curves(runs)
    others = [comparator for comparator in comparators if comparator.kind == "kbb"]
    label = r"$\alpha$ (share of the longer box side)"
    return _draw_scores(panels, out / "kbb_curves", label, KBB_ALPHA, models_of(runs), others)


def draw_tail(runs: Sequence[Run], out: Path, unit: str = "px") -> list[Path]:
    """Error tail: fraction of visible landmarks with an error of at least x px, on logarithmic axes."""
    curves = {model: curve for model, curve in tail_curves(runs).items() if curve.measured}
    if not curves:
        return []
    looks = plot_style.lines(models_of(runs))
    smallest = min(float(curve.seeds[curve.seeds > 0].min()) for curve in curves.values())
    with plot_style.styled():
        figure, (axes,) = plot_style.panels(1, height_in=3.1)
        handles = [_plot_curve(axes, curve, looks[model], logarithmic=True) for model, curve in curves.items()]
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(1.0, max(100.0, 1.05 * _largest_error(runs)))
        axes.set_ylim(smallest / 1.6, 1.3)
        axes.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.axvline(GROSS_PX, color="#999999", linewidth=0.8, zorder=1)
        axes.annotate(
            "gross",
            (GROSS_PX, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="#666666",
        )
        axes.set_xlabel(f"error ({unit})")
        axes.set_ylabel("landmarks at least this far off")
        plot_style.legend_below(figure, handles, [looks[model].label for model in curves])
        return plot_style.save(figure, out / "error_tail")


def draw_losses(runs: Sequence[Run], out: Path) -> list[Path]:
    """Training and validation loss of all runs, one panel per model; shows whether training converged."""
    curves = {model: [_loss_curve(run) for run in runs if run.model == model] for model in models_of(runs)}
    curves = {model: found for model, found in curves.items() if any(len(item["loss"]) for item in found)}
    if not curves:
        return []
    looks = plot_style.lines(models_of(runs))
    with plot_style.styled():
        figure, panels = plot_style.panels(len(curves))
        for index, (axes, (model, found)) in enumerate(zip(panels, curves.items(), strict=True)):
            look = looks[model]
            for curve in found:
                axes.plot(curve["step"], _smoothed(curve["loss"]), color=look.color, linewidth=0.9, alpha=0.55)
                axes.plot(
                    curve["validation_step"],
                    curve["validation"],
                    color="#222222",
                    linewidth=1.0,
                    marker=".",
                    markersize=2.5,
                    alpha=0.8,
                )
            values = np.concatenate([np.r_[curve["loss"], curve["validation"]] for curve in found])
            values = values[np.isfinite(values)]
            if len(values) and values.min() > 0 and values.max() > 3 * values.min():
                axes.set_yscale("log")
                axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.yaxis.set_minor_locator(NullLocator())
            axes.set_title(f"{look.label} ({len(found)} run{'s' if len(found) > 1 else ''})")
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
            _label_outer(axes, index, len(panels), "steps", "loss")
        handles = [
            Line2D([], [], color="#888888", linewidth=1.2),
            Line2D([], [], color="#222222", linewidth=1.0, marker=".", markersize=4),
        ]
        plot_style.legend_below(figure, handles, [f"training (mean of {_SMOOTHING} points)", "validation"])
        return plot_style.save(figure, out / "loss_curves")


def _draw_scores(
    panels: Mapping[str, Mapping[str, Curve]],
    stem: Path,
    xlabel: str,
    mark: float,
    models: Sequence[str],
    others: Sequence[Comparator],
) -> list[Path]:
    if not panels:
        return []
    looks = plot_style.lines(models)
    mean = MEAN if MEAN in panels else next(iter(panels))
    with plot_style.styled():
        figure, grid = plot_style.panels(len(panels))
        handles: dict[str, Artist] = {}
        for index, (axes, (name, curves)) in enumerate(zip(grid, panels.items(), strict=True)):
            for model, curve in curves.items():
                handles[looks[model].label] = _plot_curve(axes, curve, looks[model])
            if name == mean:
                for number, other in enumerate(others):
                    (line,) = axes.plot(other.x, other.y, **plot_style.comparator_look(number))  # type: ignore[arg-type]
                    handles[f"{other.name} (published)"] = line
            axes.axvline(mark, color="#999999", linewidth=0.8, zorder=1)
            axes.set_title(name.replace("_", " "), fontweight="bold" if name == MEAN else "normal")
            axes.set_xlim(0.0, float(next(iter(curves.values())).x[-1]))
            axes.set_ylim(0.0, 1.0)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
            _label_outer(axes, index, len(grid), xlabel, "landmarks below")
        plot_style.legend_below(figure, list(handles.values()), list(handles))
        return plot_style.save(figure, stem)


def _plot_curve(axes: Axes, curve: Curve, look: plot_style.Line, logarithmic: bool = False) -> Line2D:
    mean, low, high = curve.mean, curve.seeds.min(axis=0), curve.seeds.max(axis=0)
    if logarithmic:  # zero cannot be drawn; end the line
        mean = np.where(mean > 0, mean, math.nan)
        low = np.where(low > 0, low, np.where(high > 0, 1e-9, math.nan))
        high = np.where(high > 0, high, math.nan)
    (line,) = axes.plot(
        curve.x, mean, color=look.color, linestyle=look.dashes, linewidth=look.width, zorder=look.order, label=look.label
    )
    if len(curve.seeds) > 1:
        axes.fill_between(
            curve.x, low, high, color=look.color, alpha=plot_style.BAND_OPACITY, linewidth=0, zorder=look.order - 1.0
        )
    return line


def _largest_error(runs: Sequence[Run]) -> float:
    errors = [part.pooled().error for run in runs for part in run.sequences.values()]
    return max((float(np.nanmax(item)) for item in errors if np.isfinite(item).any()), default=0.0)


def _label_outer(axes: Axes, index: int, count: int, xlabel: str, ylabel: str) -> None:
    """Label only the outer axes of the grid."""
    specification = axes.get_subplotspec()
    assert specification is not None
    columns = specification.get_gridspec().ncols
    if index % columns == 0:
        axes.set_ylabel(ylabel)
    if index + columns >= count:
        axes.set_xlabel(xlabel)


def _loss_curve(run: Run) -> dict[str, Any]:
    curve = run.data.get("curve") or {}
    validation = (curve.get("validation") or {}).get(VALIDATION_LOSS) or []
    steps = curve.get("validation_step") or []
    return {
        "step": np.asarray(curve.get("step") or [], np.float64),
        "loss": np.asarray(curve.get("loss") or [], np.float64),
        "validation_step": np.asarray(steps[: len(validation)], np.float64),
        "validation": np.asarray(validation[: len(steps)], np.float64),
    }


def _smoothed(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Centred moving mean with a truncated window at the ends."""
    half = _SMOOTHING // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


def _thousands(value: float, _: object) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
