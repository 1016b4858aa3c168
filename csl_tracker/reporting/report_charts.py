"""Report charts as inline SVG without scripts; colours follow the light or dark theme of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 700, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 44
_MOST_POINTS = 3000


@dataclass(frozen=True)
class Axes:
    """Axes of a chart.

    Attributes:
        x: (minimum, maximum) of the horizontal axis.
        y: (minimum, maximum) of the vertical axis.
        x_label: Quantity and unit.
        y_label: Quantity and unit.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str

    def across(self, value: float) -> float:
        """Convert an x value to px."""
        return _LEFT + (value - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - _LEFT - _RIGHT)

    def up(self, value: float) -> float:
        """Convert a y value to px."""
        return HEIGHT - _BOTTOM - (value - self.y[0]) / (self.y[1] - self.y[0]) * (HEIGHT - _TOP - _BOTTOM)

    def polyline(self, points: Iterable[tuple[float, float]], look: str = "curve") -> str:
        """A line with gaps at values that are not finite."""
        parts: list[list[str]] = [[]]
        for x, y in points:
            if math.isfinite(x) and math.isfinite(y):
                parts[-1].append(f"{self.across(x):.1f},{self.up(y):.1f}")
            elif parts[-1]:
                parts.append([])
        lines = [f'<polyline class="{look}" points="{" ".join(part)}"/>' for part in parts if len(part) > 1]
        # Draw isolated values as dots.
        dots = [part[0].split(",") for part in parts if len(part) == 1]
        return "".join(lines + [f'<circle class="bar" cx="{x}" cy="{y}" r="1.5"/>' for x, y in dots])

    def bar(self, start: float, end: float, height: float, title: str) -> str:
        """A bar from the axis, with a title for tooltips and screen readers."""
        x, y = self.across(start), self.up(height)
        width = max(self.across(end) - x - 1, 0.5)
        base = self.up(self.y[0])
        return (
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(base - y, 0):.1f}">'
            f"<title>{escape(title)}</title></rect>"
        )

    def drawing(self, title: str, content: str, interactive: bool = False) -> Markup:
        """The complete chart.

        Args:
            title: Accessible description.
            content: SVG content.
            interactive: It contains selectable marks, so its role is ``group``, not ``img``.
        """
        low, left = self.up(self.y[0]), self.across(self.x[0])
        lines = []
        for value in ticks(*self.x):
            x = self.across(value)
            lines.append(f'<text x="{x:.1f}" y="{low + 16:.1f}" text-anchor="middle">{value:g}</text>')
        for value in ticks(*self.y):
            y = self.up(value)
            lines.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{WIDTH - _RIGHT}"/>')
            lines.append(f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        lines.append(f'<path class="axis" d="M{left:.1f} {_TOP}V{low:.1f}H{WIDTH - _RIGHT}"/>')
        middle = (_TOP + low) / 2
        lines.append(f'<text x="{(left + WIDTH) / 2:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self.x_label)}</text>')
        lines.append(
            f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(self.y_label)}</text>'
        )
        role = "group" if interactive else "img"
        head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="{role}" aria-label="{escape(title)}">'
        return Markup(f"{head}{''.join(lines)}{content}</svg>")  # all texts are escaped above


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers between two values."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    return [round(index * step, 10) for index in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def share_curve(curve: Sequence[tuple[float, float]], x_label: str, y_label: str, title: str) -> Markup:
    """A curve of fractions, 0 to 1."""
    axes = Axes((0.0, max(x for x, _ in curve)), (0.0, 1.0), x_label, y_label)
    return axes.drawing(title, axes.polyline(curve))


def errors_over_time(
    seconds: Sequence[float], errors: Sequence[float], dropped: Sequence[int], worst: Sequence[tuple[int, float, str]]
) -> Markup:
    """Mean error per frame, dropped frames below the axis, and marks on the worst frames.

    Args:
        seconds: Time of each frame since the first one, s.
        errors: Mean error of each frame, px; NaN without any.
        dropped: Indices of the frames without poses.
        worst: (index, largest error in px, text) of the selectable frames.
    """
    finite = [value for value in [*errors, *(error for _, error, _ in worst)] if math.isfinite(value)]
    top = max(max(finite, default=1.0) * 1.05, 1e-3)
    axes = Axes((0.0, max([*seconds, 1e-3])), (0.0, top), "time, s", "error, px")
    stride = max(1, len(seconds) // _MOST_POINTS)
    chunks = range(0, len(seconds), stride)
    # Draw the largest error of each chunk, so that decimation hides no peak.
    points = [(seconds[start], _peak(errors[start : start + stride])) for start in chunks]
    base = axes.up(0.0)
    marks = [
        f'<rect class="drop" x="{axes.across(seconds[index]) - 0.75:.1f}" y="{base:.1f}" width="1.5" height="5"/>'
        for index in dropped[:: max(1, len(dropped) // _MOST_POINTS)]
    ]
    for index, error, text in worst:
        height = axes.up(min(error, top))
        marks.append(
            f'<circle class="worst" data-frame="{index}" tabindex="0" role="button" aria-label="{escape(text)}"'
            f' cx="{axes.across(seconds[index]):.1f}" cy="{height:.1f}" r="6"><title>{escape(text)}</title></circle>'
        )
    return axes.drawing("Error over time", axes.polyline(points) + "".join(marks), interactive=True)


def histogram(values: Sequence[float], x_label: str, title: str, bins: int = 40) -> Markup:
    """A histogram."""
    counts, edges = np.histogram(values, bins=bins)
    axes = Axes((float(edges[0]), float(edges[-1])), (0.0, float(max(counts.max(), 1))), x_label, "frames")
    bars = [
        axes.bar(edges[i], edges[i + 1], count, f"{edges[i]:.3g} to {edges[i + 1]:.3g}: {count}")
        for i, count in enumerate(counts)
        if count
    ]
    return axes.drawing(title, "".join(bars))


def reliability(bins: Sequence[dict[str, float | int | None]], y_label: str) -> Markup:
    """A reliability diagram; the dashed line is perfect calibration."""
    axes = Axes((0.0, 1.0), (0.0, 1.0), "confidence", y_label)
    bars = [
        axes.bar(float(part["from"] or 0), float(part["to"] or 0), share, f"{part['count']} guesses, {share:.3f} correct")
        for part in bins
        if (share := part["correct"]) is not None
    ]
    return axes.drawing("Reliability diagram", "".join(bars) + axes.polyline([(0, 0), (1, 1)], "other"))


def _peak(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return max(finite) if finite else math.nan
