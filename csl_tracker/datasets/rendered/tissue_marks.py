"""What people put on training pads: printed marks, cuts, stitches."""

from __future__ import annotations

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, FloatArray
from csl_tracker.datasets.rendered.tissue_canvas import Canvas, curve_through, random_line, step
from csl_tracker.datasets.rendered.tissue_parts import log_uniform, pick


def print_marks(rng: np.random.Generator, canvas: Canvas, ink: tuple[float, float, float]) -> None:
    """A row of dots, or a drawn line."""
    line = random_line(rng, canvas, float(rng.uniform(0, 1)), 0.5)
    cover = np.zeros(canvas.size, np.uint8)
    radius = max(1, round(log_uniform(rng, 0.4, 1.6) * canvas.scale))
    if rng.random() < 0.6:
        for x, y in line[:: int(rng.integers(1, 3))]:
            cv2.circle(cover, (int(x), int(y)), radius, 255, -1, cv2.LINE_AA)
    else:
        cv2.polylines(cover, [np.rint(line).astype(np.int32)], False, 255, radius, cv2.LINE_AA)
    alpha: Float32Array = cover.astype(np.float32) / np.float32(255)
    canvas.blend(alpha * np.float32(rng.uniform(0.5, 0.95)), ink)


def cut(rng: np.random.Generator, canvas: Canvas) -> None:
    """A cut with raised lips, often sewn with thread."""
    line = random_line(rng, canvas, float(rng.uniform(0, 0.5)), 1.0)
    curve = curve_through(line[: int(rng.integers(8, 20))], canvas.size)
    mm = curve.distance / np.float32(canvas.scale)
    ends = np.clip(4 * curve.along * (1 - curve.along), 0, 1)
    wide = np.float32(rng.uniform(0.3, 2.0)) * ends
    gap = step(-mm, -1.0, 0.0) * step(wide - mm, -0.2, 0.3)
    lips = np.exp(-((mm - wide - np.float32(0.8)) ** 2)).astype(np.float32) * ends
    canvas.height += np.float32(0.6) * lips - np.float32(2.0) * gap
    canvas.blend(gap * np.float32(0.85), pick(rng, ((120, 40, 40), (200, 90, 90), (60, 30, 34), (150, 150, 150))))
    if rng.random() < 0.6:
        _stitches(rng, canvas, line, float(rng.uniform(3, 8)))


def _stitches(rng: np.random.Generator, canvas: Canvas, line: FloatArray, half_mm: float) -> None:
    """Threads across a cut."""
    cover = np.zeros(canvas.size, np.uint8)
    for number in range(1, 14, int(rng.integers(1, 4))):
        way = line[number + 1] - line[number]
        normal = np.array([-way[1], way[0]]) / (np.hypot(*way) + 1e-9) * half_mm * canvas.scale
        ends = line[number] + np.stack([-normal, normal]) + rng.normal(0, 0.6 * canvas.scale, (2, 2))
        cv2.polylines(cover, [np.rint(ends).astype(np.int32)], False, 255, max(1, round(0.5 * canvas.scale)), cv2.LINE_AA)
    alpha: Float32Array = cover.astype(np.float32) / np.float32(255)
    canvas.blend(
        alpha * np.float32(0.95), pick(rng, ((24, 24, 40), (40, 30, 90), (90, 40, 120), (30, 90, 60), (220, 220, 210)))
    )
    canvas.height += np.float32(0.4) * alpha
