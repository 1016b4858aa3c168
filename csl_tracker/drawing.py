"""Visualisation: coloured label maps, and results drawn over the image.

Drawing is anti-aliased with a resolution of 1/16 px. Line widths and text scale with the image size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, Image, Mask
from csl_tracker.instruments import IGNORE_LABEL, Color, InstrumentSet
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

MASK_OPACITY = 0.35
ELLIPSE_SIGMAS = 2.0
_FALLBACK_COLORS: tuple[Color, ...] = ((255, 0, 255), (255, 160, 0), (255, 255, 0), (0, 255, 0), (0, 200, 255), (120, 120, 255))
_IGNORE_COLOR: Color = (128, 128, 128)
_DARK: Color = (0, 0, 0)
_LIGHT: Color = (255, 255, 255)
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
_FARTHEST_PX = 100_000.0
_REFERENCE_SIDE = 640.0  # sqrt(width * height), px, of the image for which the lengths below are defined
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def colorize(label_map: Image, instruments: InstrumentSet) -> Image:
    """Convert a label map to colours.

    Args:
        label_map: uint8 (H, W).
        instruments: Names and colours of the classes.

    Returns:
        uint8 (H, W, 3), RGB; the background is black by default, ignored pixels are gray.
    """
    table = np.zeros((256, 3), np.uint8)
    for label in range(1, instruments.num_classes):
        table[label] = _FALLBACK_COLORS[(label - 1) % len(_FALLBACK_COLORS)]
    if instruments.class_colors:
        table[: instruments.num_classes] = instruments.class_colors
    table[IGNORE_LABEL] = _IGNORE_COLOR
    return np.asarray(np.take(table, label_map, axis=0), np.uint8)


def draw_overlay(
    image: Image, result: TrackingResult, instruments: InstrumentSet, ground_truth: npt.ArrayLike | None = None
) -> Image:
    """Draw a result over its image.

    Classes are semi-transparent. Visible landmarks are discs with a two-sigma covariance ellipse, joined by the skeleton and
    labelled with slot and track number. Ground truth is drawn as crosses. Landmarks below the working threshold are omitted.

    Args:
        image: uint8 (H, W, 3), RGB; not modified.
        result: The result for this image.
        instruments: Names, skeleton and colours of the model.
        ground_truth: (instruments, landmarks, 2), px, in the model's order, NaN where not visible.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ValueError: The result is for an image of another size.
    """
    if image.shape[:2] != tuple(result.size):
        raise ValueError(f"the result is for an image of (height, width) {result.size}, not {image.shape[:2]}")
    canvas = np.array(image)
    pen = _Pen.on(canvas)
    if result.label_map is not None:
        _blend(canvas, result.label_map, instruments)
    colors = landmark_colors(instruments)
    for instrument in result.instruments:
        _draw_instrument(pen, instrument, instruments, colors)
    if ground_truth is not None:
        for points in np.asarray(ground_truth, np.float64):
            for point, color in zip(points, colors, strict=True):
                if np.isfinite(point).all():
                    pen.cross(point, color)
    for instrument in result.instruments:  # labels last, on top
        _draw_name(pen, instrument)
    return canvas


def draw_outlines(image: Image, label_map: Image, instruments: InstrumentSet, weight: float = 1.0) -> Image:
    """Draw the outline of every class.

    Args:
        image: uint8 (H, W, 3), RGB; not modified.
        label_map: uint8 (H, W).
        instruments: Names and colours of the classes.
        weight: Line width factor, for images that are shown small.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    canvas = np.array(image)
    pen = _Pen.on(canvas, weight)
    colors = colorize(np.arange(instruments.num_classes, dtype=np.uint8)[None], instruments)[0]
    for label in range(1, instruments.num_classes):
        contours, _ = cv2.findContours((label_map == label).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        pen.contours(contours, (int(colors[label, 0]), int(colors[label, 1]), int(colors[label, 2])))
    return canvas


def draw_landmarks(
    image: Image,
    points: npt.ArrayLike,
    instruments: InstrumentSet,
    visible: Mask | None = None,
    weight: float = 1.0,
) -> Image:
    """Draw landmarks as discs, joined by the skeleton.

    Args:
        image: uint8 (H, W, 3), RGB; not modified.
        points: (instruments, landmarks, 2), px; NaN is not drawn.
        instruments: Names, skeleton and colours of the landmarks.
        visible: bool (instruments, landmarks), None for all. Other landmarks are drawn as rings without skeleton lines.
        weight: Factor of disc size and line width, for images that are shown small.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    canvas = np.array(image)
    pen = _Pen.on(canvas, weight)
    places = np.asarray(points, np.float64)
    drawn = np.asarray(np.isfinite(places).all(axis=-1))
    filled = drawn if visible is None else np.asarray(drawn & visible)
    colors = landmark_colors(instruments)
    for index in range(len(places)):
        for pair in instruments.skeleton:
            start, end = (instruments.landmarks.index(name) for name in pair)
            if filled[index, start] and filled[index, end]:
                pen.line(places[index, start], places[index, end], _LIGHT)
        for mark in np.flatnonzero(drawn[index]):
            draw = pen.disc if filled[index, mark] else pen.ring
            draw(places[index, mark], colors[mark])
    return canvas


@dataclass(frozen=True)
class _Pen:
    """Draws on a canvas at a scale; lines have a dark rim for contrast on tissue and metal."""

    canvas: Image
    scale: float

    @classmethod
    def on(cls, canvas: Image, weight: float = 1.0) -> _Pen:
        """Create a pen scaled to the canvas size."""
        return cls(canvas, weight * max(0.5, math.sqrt(canvas.shape[0] * canvas.shape[1]) / _REFERENCE_SIDE))

    def _width(self, px: float) -> int:
        return max(1, round(px * self.scale))

    def line(self, start: FloatArray, end: FloatArray, color: Color) -> None:
        for width, tint in ((self._width(2) + 2, _DARK), (self._width(2), color)):
            cv2.line(self.canvas, _fixed(start), _fixed(end), tint, width, cv2.LINE_AA, _SHIFT)

    def disc(self, center: FloatArray, color: Color) -> None:
        for radius, tint in ((4 * self.scale + 1, _DARK), (4 * self.scale, color)):
            cv2.circle(self.canvas, _fixed(center), round(radius * (1 << _SHIFT)), tint, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def ring(self, center: FloatArray, color: Color) -> None:
        for width, tint in ((self._width(2) + 2, _DARK), (self._width(2), color)):
            radius = round(4 * self.scale * (1 << _SHIFT))
            cv2.circle(self.canvas, _fixed(center), radius, tint, width, cv2.LINE_AA, _SHIFT)

    def contours(self, contours: Sequence[cv2.typing.MatLike], color: Color) -> None:
        for width, tint in ((self._width(1.5) + 2, _DARK), (self._width(1.5), color)):
            cv2.drawContours(self.canvas, contours, -1, tint, width, cv2.LINE_AA)

    def cross(self, center: FloatArray, color: Color) -> None:
        arm = 7 * self.scale
        for width, tint in ((self._width(1.5) + 2, _DARK), (self._width(1.5), color)):
            for step in (np.array([arm, arm]), np.array([arm, -arm])):
                cv2.line(self.canvas, _fixed(center - step), _fixed(center + step), tint, width, cv2.LINE_AA, _SHIFT)

    def ellipse(self, center: FloatArray, covariance: FloatArray, color: Color) -> None:
        if not np.isfinite(covariance).all():
            return
        variances, axes = np.linalg.eigh(covariance)
        radii = ELLIPSE_SIGMAS * np.sqrt(np.maximum(variances, 0.0))
        if radii.max() > max(self.canvas.shape):
            return  # larger than the image
        angle = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
        size = (int(radii[1] * (1 << _SHIFT)), int(radii[0] * (1 << _SHIFT)))
        cv2.ellipse(self.canvas, _fixed(center), size, angle, 0, 360, color, self._width(1), cv2.LINE_AA, _SHIFT)

    def text(self, anchor: FloatArray, text: str) -> None:
        """Write text next to an anchor, inside the canvas, on a dark background."""
        scale, width = max(0.35, 0.5 * self.scale), self._width(1)
        (text_width, text_height), below = cv2.getTextSize(text, _FONT, scale, width)
        pad = max(2, round(3 * self.scale))
        canvas_height, canvas_width = self.canvas.shape[:2]
        x = float(np.clip(anchor[0] + 8 * self.scale, pad, max(pad, canvas_width - text_width - pad)))
        y = float(np.clip(anchor[1] - 12 * self.scale, text_height + pad, max(text_height + pad, canvas_height - below - pad)))
        left, top, right, bottom = round(x) - pad, round(y) - text_height - pad, round(x) + text_width + pad, round(y) + below
        ground = self.canvas[max(0, top) : bottom, max(0, left) : right]
        ground[:] = ground // 3
        cv2.putText(self.canvas, text, (round(x), round(y)), _FONT, scale, _LIGHT, width, cv2.LINE_AA)


def _fixed(point: FloatArray) -> tuple[int, int]:
    """Fixed-point coordinates, clipped to the 32 bits of OpenCV; integers are pixel centres."""
    x, y = np.clip(point, -_FARTHEST_PX, _FARTHEST_PX)
    return round(float(x) * (1 << _SHIFT)), round(float(y) * (1 << _SHIFT))


def _blend(canvas: Image, label_map: Image, instruments: InstrumentSet) -> None:
    tool = ((label_map > 0) & (label_map != IGNORE_LABEL)).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(tool)
    if not width:
        return
    box = np.s_[y : y + height, x : x + width]
    mixed = cv2.addWeighted(canvas[box], 1 - MASK_OPACITY, colorize(label_map[box], instruments), MASK_OPACITY, 0)
    cv2.copyTo(mixed, tool[box], canvas[box])


def landmark_colors(instruments: InstrumentSet) -> tuple[Color, ...]:
    """One RGB colour per landmark: from the set, or the defaults of this module."""
    if instruments.landmark_colors:
        return instruments.landmark_colors
    return tuple(_FALLBACK_COLORS[index % len(_FALLBACK_COLORS)] for index in range(instruments.num_landmarks))


def _point(landmark: LandmarkEstimate) -> FloatArray:
    return np.array([landmark.x, landmark.y])


def _drawable(instrument: InstrumentEstimate) -> dict[str, LandmarkEstimate]:
    return {
        mark.name: mark for mark in instrument.landmarks if mark.visible and math.isfinite(mark.x) and math.isfinite(mark.y)
    }


def _draw_instrument(pen: _Pen, instrument: InstrumentEstimate, instruments: InstrumentSet, colors: tuple[Color, ...]) -> None:
    marks = _drawable(instrument)
    by_name = dict(zip(instruments.landmarks, colors, strict=True))
    for start, end in instruments.skeleton:
        if start in marks and end in marks:
            pen.line(_point(marks[start]), _point(marks[end]), _LIGHT)
    for name, mark in marks.items():
        pen.ellipse(_point(mark), mark.covariance, by_name[name])
        pen.disc(_point(mark), by_name[name])


def _draw_name(pen: _Pen, instrument: InstrumentEstimate) -> None:
    marks = list(_drawable(instrument).values())
    if marks:
        pen.text(_point(marks[0]), f"{instrument.slot} #{instrument.track_id}" + (" predicted" if instrument.predicted else ""))
