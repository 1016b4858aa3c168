"""Wet tissue: folds, fat, vessels, blood and specular highlights."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array
from csl_tracker.datasets.blending import blend_color, color_row, three_channels
from csl_tracker.datasets.synthetic.noise import fractal, smooth

_PALETTE = np.array(
    [
        (196, 112, 96),
        (168, 78, 70),
        (214, 150, 128),
        (172, 92, 104),
        (224, 184, 140),
        (140, 58, 56),
        (205, 130, 130),
        (120, 70, 78),
        (190, 150, 150),
        (150, 95, 70),
    ],
    np.float32,
)


def render_tissue(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Float32Array, Float32Array]:
    """Render tissue.

    Returns:
        The diffuse colour, float32 (h, w, 3) on the scale 0..255, and the height field, float32 (h, w), from which light and
        highlights are computed.
    """
    colors = _PALETTE[rng.choice(len(_PALETTE), 3, replace=False)] * np.float32(rng.uniform(0.7, 1.15))
    colors += rng.normal(0, 7, (3, 3)).astype(np.float32)
    mix = 1 / (1 + np.exp(-3 * fractal(rng, size, rng.uniform(1, 4), 3)))
    second = 1 / (1 + np.exp(-5 * (fractal(rng, size, rng.uniform(1, 5), 4) - rng.uniform(0.0, 1.2))))
    color = color_row(colors[0], size[1]) + three_channels(np.asarray(mix, np.float32)) * color_row(
        colors[1] - colors[0], size[1]
    )
    blend_color(color, second, colors[2])
    color *= three_channels(1 + np.float32(rng.uniform(0.02, 0.07)) * fractal(rng, size, 24, 3, 0.8))
    height = fractal(rng, size, rng.uniform(1, 3), 2) * np.float32(rng.uniform(0.8, 1.8))
    for _ in range(rng.integers(1, 4)):
        # A fold at the zero crossing of a smooth field.
        field = fractal(rng, size, rng.uniform(1, 3), 2)
        fold = np.exp(-np.abs(field) / np.float32(rng.uniform(0.1, 0.5)))
        mask = 1 / (1 + np.exp(-4 * smooth(rng, size, 2).reshape(size)))
        height -= np.float32(rng.uniform(0.15, 0.7)) * fold * mask
    height += np.float32(rng.uniform(0.01, 0.05)) * fractal(rng, size, 20, 2, 0.7)
    if rng.random() < 0.7:
        _vessels(rng, color, int(rng.integers(1, 7)))
    if rng.random() < 0.5:
        _blood(rng, color)
    return color, height


def _vessels(rng: np.random.Generator, color: Float32Array, count: int) -> None:
    h, w = color.shape[:2]
    mask = np.zeros((h, w), np.uint8)
    stack = [
        (rng.uniform(0, w), rng.uniform(0, h), rng.uniform(0, 2 * np.pi), rng.uniform(0.004, 0.014) * w) for _ in range(count)
    ]
    while stack and count < 40:
        x, y, angle, width = stack.pop()
        points = [(x, y)]
        for _ in range(int(rng.integers(10, 40))):
            angle += rng.normal(0, 0.18)
            x, y = x + 0.02 * w * np.cos(angle), y + 0.02 * w * np.sin(angle)
            points.append((x, y))
            if rng.random() < 0.05 and width > 0.003 * w:
                stack.append((x, y, angle + rng.choice((-0.7, 0.7)), 0.6 * width))
                count += 1
        line = np.rint(np.array(points) * 16).astype(np.int32)
        cv2.polylines(mask, [line], False, 255, max(1, round(width)), cv2.LINE_AA, 4)
    alpha = cv2.GaussianBlur(mask, (0, 0), 0.004 * w).astype(np.float32) / 255 * np.float32(rng.uniform(0.25, 0.7))
    tint = np.array(rng.choice([(110, 30, 40), (80, 45, 80), (150, 50, 45)]), np.float32)
    blend_color(color, alpha, tint)


def _blood(rng: np.random.Generator, color: Float32Array) -> None:
    field = fractal(rng, color.shape[:2], rng.uniform(2, 9), 4)
    alpha = np.clip((field - np.float32(rng.uniform(1.2, 2.2))) * 6, 0, 1) * np.float32(rng.uniform(0.4, 0.95))
    tint = np.array((rng.uniform(70, 150), rng.uniform(5, 25), rng.uniform(8, 28)), np.float32)
    blend_color(color, alpha, tint)


def light(
    rng: np.random.Generator,
    color: Float32Array,
    height: Float32Array,
    wetness: float,
    gloss_seed: int,
    sway: npt.NDArray[np.float64],
) -> Float32Array:
    """Light a height field from the camera and add highlights.

    Args:
        rng: Random generator.
        color: Diffuse colour, float32 (h, w, 3), 0..255.
        height: Height field, float32 (h, w).
        wetness: Extent of specular reflection, from -1.5 (little) to 1 (most of the tissue).
        gloss_seed: Seed of the ripples in the wet film.
        sway: Change of the light direction, (x, y).

    Returns:
        float32 (h, w, 3), may exceed 255.
    """
    h, w = height.shape
    scale = w / 320
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8) * 8 * scale
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8) * 8 * scale
    rows = (np.arange(h, dtype=np.float32)[:, None] / w - 0.5 * h / w) * 0.9
    columns = (np.arange(w, dtype=np.float32)[None, :] / w - 0.5) * 0.9
    norm = 1 / np.sqrt(1 + gx * gx + gy * gy)
    lx, ly = (rng.uniform(-0.25, 0.25, 2) + sway).astype(np.float32)
    facing = (1 + gx * (columns + lx) + gy * (rows + ly)) * norm / np.sqrt(1 + (columns + lx) ** 2 + (rows + ly) ** 2)
    diffuse = np.clip(facing, 0.05, 1.2) ** 1.3
    deep = 1 / (1 + np.exp(-1.6 * (height + 1.4)))
    shade = diffuse * (0.45 + 0.65 * deep)
    # Highlights: specular reflections of the ripples in the wet film.
    ripple_rng = np.random.default_rng(gloss_seed)
    cells, strength = rng.uniform(18, 55), np.float32(rng.uniform(0.15, 0.5))
    ripple = strength * smooth(ripple_rng, (h, w), cells, 2)
    rx, ry = gx + ripple[..., 0] + columns, gy + ripple[..., 1] + rows
    spread = np.float32(rng.uniform(0.04, 0.1))
    mirror = np.exp(-((rx - lx) ** 2 + (ry - ly) ** 2) / (2 * spread**2))
    wet = 1 / (1 + np.exp(-4 * (smooth(ripple_rng, (h, w), 5).reshape(h, w) + wetness)))
    gloss = np.clip(1.8 * mirror * wet - 0.3, 0, 1.2)
    return np.asarray(color * three_channels(shade) + three_channels(235 * gloss), np.float32)
