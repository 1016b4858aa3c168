"""Plot style: colours, lines, fonts, and saving."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from csl_tracker.output import write_bytes

WIDTH_IN = 7.2
"""Width of a two-column figure, inches."""
DPI = 200
BAND_OPACITY = 0.15

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # bundled with Matplotlib, hence reproducible
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "svg.hashsalt": "csl_tracker",  # reproducible ids
    "svg.fonttype": "path",
    "image.composite_image": False,
}


@dataclass(frozen=True)
class Line:
    """Line style of a model.

    Attributes:
        label: Display name.
        color: Hexadecimal RGB.
        dashes: Matplotlib line style.
        width: pt.
        order: z-order.
    """

    label: str
    color: str
    dashes: str | tuple[int, tuple[float, ...]]
    width: float
    order: float


# The Okabe-Ito palette suits colour vision deficiencies; dashes distinguish the lines in grayscale.
_MODELS: dict[str, Line] = {
    "csl": Line("CSL", "#D55E00", "-", 2.0, 5.0),
    "csl_no_skip": Line("CSL without skips", "#E69F00", (0, (5.0, 1.5)), 1.5, 4.0),
    "sl": Line("SL", "#0072B2", "-", 1.5, 3.8),
    "sl_skip": Line("SL with skips", "#0072B2", (0, (3.0, 1.2)), 1.5, 3.7),
    "l": Line("L", "#56B4E9", (0, (5.0, 1.5)), 1.5, 3.6),
    "unet": Line("U-Net", "#009E73", (0, (4.0, 1.2, 1.0, 1.2)), 1.5, 3.4),
    "forest": Line("random forest", "#666666", (0, (1.0, 1.2)), 1.5, 3.2),
}
_TIGHT = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
_VARIANT_COLORS = ("#CC79A7", "#000000", "#8C564B", "#999933", "#332288", "#882255")
_COMPARATOR_COLORS = ("#000000", "#777777", "#AAAAAA")
_COMPARATOR_MARKERS = "os^Dv<>"


def lines(models: Sequence[str]) -> dict[str, Line]:
    """Line style of each model; a variant uses its model's dashes in another colour."""
    found: dict[str, Line] = {}
    others = 0
    for model in models:
        base, at, variant = model.partition("@")
        known = _MODELS.get(base)
        if known is not None and not at:
            found[model] = known
            continue
        color = _VARIANT_COLORS[others % len(_VARIANT_COLORS)]
        others += 1
        label = f"{known.label}, {variant}" if known is not None else model
        found[model] = Line(label, color, known.dashes if known is not None else "-", 1.5, 3.0)
    return found


def comparator_look(index: int) -> dict[str, object]:
    """Keywords of ``Axes.plot`` for a published curve: thin, grey, with markers."""
    return {
        "color": _COMPARATOR_COLORS[index % len(_COMPARATOR_COLORS)],
        "marker": _COMPARATOR_MARKERS[index % len(_COMPARATOR_MARKERS)],
        "linewidth": 0.9,
        "markersize": 3.5,
        "zorder": 2.5,
    }


@contextmanager
def styled() -> Iterator[None]:
    """Apply this style within the context."""
    with mpl.rc_context(_SETTINGS):
        yield


def panels(count: int, height_in: float = 2.1, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """Create a figure with a grid of panels.

    Args:
        count: Number of panels.
        height_in: Height of a row, inches.
        columns: Maximum panels per row; four panels form a 2x2 grid.
    """
    columns = 2 if count == 4 else min(columns, count)
    rows = -(-count // columns)
    # A single panel does not use the full width.
    width = WIDTH_IN if columns > 1 else 0.62 * WIDTH_IN
    figure = Figure(figsize=(width, rows * height_in + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, index + 1) for index in range(count)]
    return figure, axes


def pictures(rows: int, columns: int, width_in: float, height_in: float) -> tuple[Figure, list[list[Axes]]]:
    """Create a figure with a grid of images of the given size in inches."""
    figure = Figure(figsize=(columns * width_in + 0.4, rows * (height_in + 0.22) + 0.25), layout=_TIGHT)
    FigureCanvasAgg(figure)
    grid = [[figure.add_subplot(rows, columns, row * columns + column + 1) for column in range(columns)] for row in range(rows)]
    for axes in (axes for line in grid for axes in line):
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure, grid


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Add a legend below all panels, with as many columns as fit the figure width."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    for columns in range(len(labels), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.6, handletextpad=0.6)
        if columns == 1 or legend.get_window_extent(canvas.get_renderer()).width <= figure.bbox.width:  # type: ignore[no-untyped-call]
            return
        legend.remove()


def save(figure: Figure, stem: Path, dpi: float = DPI, svg_dpi: float = 72.0) -> list[Path]:
    """Save as PNG and SVG, reproducible byte for byte.

    Args:
        figure: The figure.
        stem: Path without its suffix.
        dpi: Resolution of the PNG.
        svg_dpi: Resolution of images in the SVG.

    Returns:
        The two paths.

    Raises:
        DatasetError: A file cannot be written.
    """
    written = []
    settings: tuple[tuple[str, float, dict[str, None]], ...] = (
        ("png", dpi, {"Software": None}),
        ("svg", svg_dpi, {"Date": None, "Creator": None}),
    )
    for kind, resolution, metadata in settings:
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=resolution, metadata=metadata)
        path = stem.with_name(f"{stem.name}.{kind}")
        write_bytes(path, content.getvalue())
        written.append(path)
    return written
