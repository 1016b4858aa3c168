"""The figures of the benchmark as pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.reporting.plot_style import legend_below, panels, save, styled

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def latency(groups: Sequence[Mapping[str, Any]], raw: Mapping[str, Sequence[float]], stem: Path) -> list[Path]:
    """Share of the images whose poses took longer than x ms, at the first rate; both axes logarithmic.

    Args:
        groups: Of the joined figures.
        raw: Latencies of each group at its first rate, ms, by :func:`title`.
        stem: Path without suffix.

    Returns:
        The files.
    """
    with styled():
        figure, (axes,) = panels(1, height_in=3.2, columns=1)
        for index, group in enumerate(group for group in groups if raw.get(title(group))):
            values = np.sort(np.asarray(raw[title(group)], np.float64))
            share = 1 - np.arange(len(values)) / len(values)
            axes.step(values, share, where="post", label=title(group), **_look(index))
        axes.set(xscale="log", yscale="log", xlabel="stamp to pose, ms", ylabel="share of images beyond it")
        legend_below(figure, *axes.get_legend_handles_labels())
        return save(figure, stem)


def drops(groups: Sequence[Mapping[str, Any]], stem: Path) -> list[Path]:
    """Share of dropped images against the rate: all measurements and all trials of the search for the peak."""
    with styled():
        figure, (axes,) = panels(1, height_in=3.2, columns=1)
        for index, group in enumerate(groups):
            points = [(at["rate_hz"], at["dropped"] / at["frames"]) for at in group["rates"]]
            if group["peak"]:
                points += [(trial["played_hz"], trial["dropped_share"]) for trial in group["peak"]["trials"]]
            rates, shares = zip(*sorted(points), strict=True)
            axes.plot(rates, [100 * share for share in shares], marker="o", markersize=3, label=title(group), **_look(index))
        axes.axhline(5, color="#888888", linewidth=0.8)
        axes.set(xlabel="images a second", ylabel="dropped, %")
        legend_below(figure, *axes.get_legend_handles_labels())
        return save(figure, stem)


def networks(rows: Sequence[Mapping[str, Any]], stem: Path) -> list[Path]:
    """Median times of the networks' forward passes as bars on a logarithmic axis."""
    with styled():
        figure, (axes,) = panels(1, height_in=0.5 + 0.5 * len(rows), columns=1)
        names = [textwrap.fill(f"{row['name']}, {row['input_size'][0]}x{row['input_size'][1]}", 27) for row in rows]
        values = [row["network_ms"]["p50"] for row in rows]
        bars = axes.barh(names, values, color=[COLORS[0], *["#999999"] * (len(rows) - 1)])
        axes.bar_label(bars, [f"{value:.0f} ms" for value in values], padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.set(xscale="log", xlabel="forward pass, ms", xlim=(min(values) / 2, 5 * max(values)))
        axes.grid(axis="y", visible=False)
        return save(figure, stem)


def title(group: Mapping[str, Any]) -> str:
    """Name of a group."""
    size = f"{group['image_size'][0]}x{group['image_size'][1]}"
    return f"{group['name']}, {size}{', with ~/segmentation' if group['segmentation'] else ''}"


def _look(index: int) -> dict[str, Any]:
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": ("-", "--", ":", "-.")[index // len(COLORS) % 4],
        "linewidth": 1.4,
    }
