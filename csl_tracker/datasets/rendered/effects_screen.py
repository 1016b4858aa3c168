"""Overlays of a display: text, thin marks, bars and logos.

What an annotator sees decides on the labels. Thin text and lines leave the tool below visible, and annotators of recorded
surgeries draw the tool's outline through them: the labels stay. An opaque bar, logo or text box hides the tool: its pixels
become background, and landmarks below it are known to be absent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from csl_tracker.arrays import Image
from csl_tracker.datasets.rendered.effects_fields import Generator, amount, on_image
from csl_tracker.datasets.rendered.effects_pieces import Box, cover
from csl_tracker.datasets.sample import Sample

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_PLAIN,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX_SMALL,
)
_LETTERS = tuple("ABCDEFGHIJKLMNOPRSTUVWXYZabcdefghiklmnoprstuvwxyz0123456789")
Color = tuple[int, int, int]


@on_image
def text(rng: Generator, image: Image, strength: float) -> Image:
    """Lines of thin text: names, dates, timers, readings; plain, outlined or translucent."""
    drawn = image.copy()
    for _ in range(max(1, round(amount(rng, strength, 1, 9)))):
        line = _words(rng)
        font, scale = int(rng.choice(_FONTS)), image.shape[0] / 256 * float(np.exp(rng.uniform(-1.2, 0.0)))
        thick = max(1, round(scale * rng.uniform(0.8, 2.0)))
        place = (round(image.shape[1] * rng.uniform(-0.05, 0.85)), round(image.shape[0] * _near_edge(rng)))
        if rng.random() < 0.3:
            cv2.putText(drawn, line, place, font, scale, (0, 0, 0), thick + 2, cv2.LINE_AA)
        cv2.putText(drawn, line, place, font, scale, _bright(rng), thick, cv2.LINE_AA)
    opacity = rng.uniform(0.4, 1.0)
    return np.asarray(cv2.addWeighted(drawn, opacity, image, 1.0 - opacity, 0.0), np.uint8)


@on_image
def marks(rng: Generator, image: Image, strength: float) -> Image:
    """Thin marks: cross-hairs, rulers, grids, frames, circles and pointers."""
    drawn = image.copy()
    for _ in range(max(1, round(amount(rng, strength, 1, 4)))):
        line = 1 if rng.random() < 0.7 else max(1, round(image.shape[0] / 160))
        _MARKS[int(rng.integers(len(_MARKS)))](rng, drawn, _bright(rng), line)
    opacity = rng.uniform(0.5, 1.0)
    return np.asarray(cv2.addWeighted(drawn, opacity, image, 1.0 - opacity, 0.0), np.uint8)


def bars(rng: Generator, sample: Sample, strength: float) -> Sample:
    """Bars, panels and text boxes along the edges or anywhere; opaque or translucent, with text, icons and gauges on them."""
    image, hidden = sample.image.copy(), np.zeros(sample.image.shape[:2], bool)
    for _ in range(1 + int(rng.random() < strength * 0.7)):
        box = _panel(rng, (image.shape[0], image.shape[1]), amount(rng, strength, 0.05, 0.28))
        opacity = rng.uniform(0.9, 1.0) if rng.random() < 0.75 else rng.uniform(0.2, 0.5)
        below = image[box.slices]
        panel = np.broadcast_to(np.array(_dull(rng), np.uint8), below.shape)
        image[box.slices] = cv2.addWeighted(panel.copy(), opacity, below, 1.0 - opacity, 0.0)
        _fill_panel(rng, image[box.slices])
        if opacity > 0.8:
            hidden[box.slices] = True
    return cover(replace(sample, image=image), hidden)


def logos(rng: Generator, sample: Sample, strength: float) -> Sample:
    """Filled icons and logos: discs, polygons, stars, boxed letters; opaque."""
    image, mask = sample.image.copy(), np.zeros(sample.image.shape[:2], np.uint8)
    height, width = image.shape[:2]
    for _ in range(max(1, round(amount(rng, strength, 1, 5)))):
        radius = height * amount(rng, strength, 0.02, 0.11)
        middle = np.array([width * _near_edge(rng), height * _near_edge(rng)])
        corners = int(rng.integers(3, 13))
        reach = radius * (rng.uniform(0.4, 1.0, corners) if rng.random() < 0.5 else np.ones(corners))
        angles = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
        points = np.rint(middle + reach[:, None] * np.stack((np.cos(angles), np.sin(angles)), axis=1)).astype(np.int32)
        color = _bright(rng) if rng.random() < 0.6 else _dull(rng)
        cv2.fillPoly(image, [points], color, cv2.LINE_AA)
        cv2.fillPoly(mask, [points], 1)
        if rng.random() < 0.6:
            letter = str(rng.choice(_LETTERS))
            start = (round(middle[0] - radius / 3), round(middle[1] + radius / 3))
            cv2.putText(image, letter, start, int(rng.choice(_FONTS)), radius / 24, _bright(rng), 1, cv2.LINE_AA)
    return cover(replace(sample, image=image), mask > 0)


def _words(rng: Generator) -> str:
    kind = rng.random()
    if kind < 0.35:
        hour, minute, second, part = rng.integers(0, (24, 60, 60, 100))
        return f"{hour:02d}:{minute:02d}:{second:02d}" + (f".{part:02d}" if rng.random() < 0.3 else "")
    if kind < 0.5:
        year, month, day = rng.integers((1995, 1, 1), (2036, 13, 29))
        return f"{year}{rng.choice(['-', '/', '.'])}{month:02d}{rng.choice(['-', '/', '.'])}{day:02d}"
    if kind < 0.65:
        return f"{rng.normal(50, 60):.{rng.integers(0, 3)}f} {rng.choice(['mm', '%', 'bpm', 'mmHg', 'W', 'x', 'fps'])}"
    letters = rng.choice(_LETTERS, int(rng.integers(2, 14)))
    return "".join(letters) + ("" if rng.random() < 0.5 else f" {rng.integers(100)}")


def _near_edge(rng: Generator) -> float:
    """A place as a share of the side, mostly near one of its ends."""
    place = rng.beta(0.6, 2.0) if rng.random() < 0.8 else rng.uniform()
    return float(place if rng.random() < 0.5 else 1.0 - place)


def _bright(rng: Generator) -> Color:
    if rng.random() < 0.5:
        grey = int(rng.integers(190, 256))
        return grey, grey, grey
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue


def _dull(rng: Generator) -> Color:
    if rng.random() < 0.6:
        grey = int(rng.integers(0, 110))
        return grey, grey, grey
    red, green, blue = rng.integers(0, 200, 3).tolist()
    return red, green, blue


def _panel(rng: Generator, size: tuple[int, int], share: float) -> Box:
    """A bar along one edge, or a box anywhere; the share is its thickness by the side."""
    height, width = size
    kind = rng.random()
    if kind < 0.35:
        tall = max(3, round(height * share))
        return Box(0, 0 if rng.random() < 0.35 else height - tall, width, tall)
    if kind < 0.6:
        wide = max(3, round(width * share))
        return Box(0 if rng.random() < 0.5 else width - wide, 0, wide, height)
    tall, wide = max(3, round(height * share * rng.uniform(0.4, 1.2))), max(3, round(width * share * rng.uniform(0.6, 2.2)))
    left, top = round((width - wide) * _near_edge(rng)), round((height - tall) * _near_edge(rng))
    return Box(left, top, wide, tall)


def _fill_panel(rng: Generator, panel: Image) -> None:
    """Draw text, gauges and icons onto a panel, in place."""
    height, width = panel.shape[:2]
    for _ in range(int(rng.integers(0, 6))):
        x, y = int(rng.uniform(0, width)), int(rng.uniform(0.2, 1.0) * height)
        kind = rng.random()
        if kind < 0.6:
            scale = min(height, 60) / 60 * rng.uniform(0.4, 1.2)
            cv2.putText(panel, _words(rng), (x, y), int(rng.choice(_FONTS)), scale, _bright(rng), 1, cv2.LINE_AA)
        elif kind < 0.8:
            corner = (x + int(rng.uniform(0.1, 0.5) * width), y + max(2, int(rng.uniform(0.05, 0.3) * height)))
            cv2.rectangle(panel, (x, y), corner, _bright(rng), -1 if rng.random() < 0.5 else 1)
        else:
            cv2.circle(panel, (x, y), max(2, int(rng.uniform(0.1, 0.4) * min(height, width))), _bright(rng), -1, cv2.LINE_AA)


def _cross_hairs(rng: Generator, image: Image, color: Color, line: int) -> None:
    height, width = image.shape[:2]
    x, y = round(width * rng.normal(0.5, 0.12)), round(height * rng.normal(0.5, 0.12))
    reach = round(height * rng.uniform(0.03, 0.7))
    gap = round(reach * rng.choice([0.0, 0.2, 0.4]))
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        cv2.line(image, (x + gap * dx, y + gap * dy), (x + reach * dx, y + reach * dy), color, line, cv2.LINE_AA)
    if rng.random() < 0.5:
        cv2.circle(image, (x, y), max(1, round(reach * rng.uniform(0.3, 0.8))), color, line, cv2.LINE_AA)


def _ruler(rng: Generator, image: Image, color: Color, line: int) -> None:
    height, width = image.shape[:2]
    upright = rng.random() < 0.5
    place, pitch = _near_edge(rng), height * rng.uniform(0.02, 0.08)
    for number in range(int((height if upright else width) / pitch)):
        along, tick = round(number * pitch), round(height * (0.035 if number % 5 == 0 else 0.018))
        at = round(place * (width if upright else height))
        ends = ((at, along), (at + tick, along)) if upright else ((along, at), (along, at + tick))
        cv2.line(image, *ends, color, line, cv2.LINE_AA)


def _grid(rng: Generator, image: Image, color: Color, line: int) -> None:
    height, width = image.shape[:2]
    for number in range(1, cells := int(rng.integers(2, 6))):
        cv2.line(image, (0, number * height // cells), (width, number * height // cells), color, line)
        cv2.line(image, (number * width // cells, 0), (number * width // cells, height), color, line)


def _frame(rng: Generator, image: Image, color: Color, line: int) -> None:
    height, width = image.shape[:2]
    x, y = np.sort(rng.uniform(0, width, 2)).astype(int).tolist(), np.sort(rng.uniform(0, height, 2)).astype(int).tolist()
    cv2.rectangle(image, (x[0], y[0]), (x[1], y[1]), color, line)


def _pointer(rng: Generator, image: Image, color: Color, line: int) -> None:
    height, width = image.shape[:2]
    ends = (rng.uniform(0, 1, (2, 2)) * (width, height)).astype(int).tolist()
    cv2.arrowedLine(image, ends[0], ends[1], color, line, cv2.LINE_AA, 0, rng.uniform(0.05, 0.3))


def _stroke(rng: Generator, image: Image, color: Color, line: int) -> None:
    """A free line, as drawn on a telestrator."""
    height, width = image.shape[:2]
    points = np.cumsum(rng.normal(0.0, 0.06 * height, (12, 2)), axis=0) + rng.uniform(0, 1, 2) * (width, height)
    cv2.polylines(image, [np.rint(points).astype(np.int32)], rng.random() < 0.3, color, line, cv2.LINE_AA)


_MARKS: tuple[Callable[[Generator, Image, Color, int], None], ...] = (
    _cross_hairs,
    _ruler,
    _grid,
    _frame,
    _pointer,
    _stroke,
)
