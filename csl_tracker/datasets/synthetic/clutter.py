"""Clutter that resembles instruments: pale bands, gauze, threads, tubes."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array
from csl_tracker.datasets.blending import blend_color
from csl_tracker.datasets.synthetic.noise import fractal, smooth

_PALE = np.array(
    [(228, 206, 186), (214, 178, 160), (205, 200, 196), (236, 214, 160), (190, 160, 150), (225, 190, 190), (170, 150, 120)],
    np.float32,
)
_THREADS = np.array([(35, 30, 60), (20, 20, 24), (90, 40, 120), (40, 70, 150), (225, 225, 215)], np.float32)


def add_clutter(rng: np.random.Generator, color: Float32Array, height: Float32Array) -> None:
    """Add one to three objects to the tissue, in place; lighting and highlights follow from the height.

    Args:
        rng: Random generator.
        color: Diffuse colour, float32 (h, w, 3), 0..255.
        height: Height field, float32 (h, w).
    """
    kinds: list[Callable[[np.random.Generator, Float32Array, Float32Array], None]] = [_band, _gauze, _thread, _tube]
    for kind in rng.choice(len(kinds), int(rng.integers(1, 4)), p=(0.55, 0.15, 0.15, 0.15)):
        kinds[int(kind)](rng, color, height)


def _across(rng: np.random.Generator, size: tuple[int, int], bend: float) -> tuple[Float32Array, Float32Array]:
    """Coordinates along and across a curved line through the image, px."""
    h, w = size
    angle = rng.uniform(0, np.pi)
    x0, y0 = rng.uniform(0.1, 0.9) * w, rng.uniform(0.1, 0.9) * h
    rows, columns = (
        np.arange(h, dtype=np.float32)[:, None] - np.float32(y0),
        np.arange(w, dtype=np.float32)[None] - np.float32(x0),
    )
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = columns * c + rows * s, rows * c - columns * s
    for frequency in (1.5, 4.0):
        swing = np.float32(rng.normal(0, bend * w / frequency**1.5))
        across = across - swing * np.sin(along * np.float32(frequency / w) + np.float32(rng.uniform(0, 6.3)))
    return along, across


def _lay(color: Float32Array, height: Float32Array, alpha: Float32Array, tint: Float32Array, rise: Float32Array) -> None:
    blend_color(color, alpha, tint)
    height += alpha * (rise + 0.7 * (float(np.mean(height)) - height))


def _band(rng: np.random.Generator, color: Float32Array, height: Float32Array) -> None:
    """A ligament, a fold of peritoneum or a duct: round profile, frayed edges, tapering."""
    h, w = height.shape
    along, across = _across(rng, (h, w), 0.05)
    half = w * np.float32(np.exp(rng.uniform(np.log(0.015), np.log(0.12))))
    half = half * (1 + np.float32(rng.uniform(0, 0.5)) * np.sin(along * np.float32(rng.uniform(1, 5) / w)))
    half = half * (1 + np.float32(rng.uniform(0.0, 0.25)) * smooth(rng, (h, w), rng.uniform(4, 12)).reshape(h, w))
    half = np.maximum(half, 1.0)
    if rng.random() < 0.4:  # it ends in view
        half = half * np.clip(1 - (along / np.float32(rng.uniform(0.1, 0.6) * w)), 0, 1) ** 0.5 + 1e-3
    inside = np.clip(1 - np.abs(across) / half, 0, 1)
    alpha = np.clip(inside * np.float32(rng.uniform(2, 8)), 0, 1) * np.float32(rng.uniform(0.6, 1.0))
    grain = fractal(rng, (h, w), rng.uniform(6, 30), 3, 0.7)[..., None]
    # Fibres along the band.
    fibres = np.sin(across * np.float32(rng.uniform(0.2, 1.2) * 320 / w) + 2 * smooth(rng, (h, w), 6).reshape(h, w))[..., None]
    tint = _pick(rng, _PALE) * (1 + np.float32(rng.uniform(0.02, 0.1)) * grain + np.float32(rng.uniform(0, 0.06)) * fibres)
    round_ = np.sqrt(np.clip(1 - (across / half) ** 2, 0, 1))
    rise = round_ * half * np.float32(rng.uniform(0.01, 0.07) * 320 / w)
    _lay(color, height, np.asarray(alpha, np.float32), np.asarray(tint, np.float32), np.asarray(rise, np.float32))


def _tube(rng: np.random.Generator, color: Float32Array, height: Float32Array) -> None:
    """A drain, a catheter or the end of a trocar: straight, smooth, one colour."""
    h, w = height.shape
    along, across = _across(rng, (h, w), 0.01)
    half = np.float32(w * rng.uniform(0.008, 0.03))
    end = np.float32(rng.uniform(-0.3, 0.6) * w)
    alpha = np.clip((half - np.abs(across)) * 0.7, 0, 1) * np.clip((end - along) * 0.5, 0, 1) * np.float32(rng.uniform(0.5, 1))
    shade = rng.uniform(130, 240)  # a dark one is a shaft
    tint = np.full(3, shade, np.float32) + rng.normal(0, 15, 3).astype(np.float32)
    rise = np.sqrt(np.clip(1 - (across / half) ** 2, 0, 1)) * half * np.float32(rng.uniform(0.03, 0.09) * 320 / w)
    _lay(color, height, np.asarray(alpha, np.float32), np.broadcast_to(tint, color.shape), np.asarray(rise, np.float32))


def _gauze(rng: np.random.Generator, color: Float32Array, height: Float32Array) -> None:
    """A swab: white, woven, partly soaked."""
    h, w = height.shape
    along, across = _across(rng, (h, w), 0.02)
    extent = np.float32(w * rng.uniform(0.08, 0.3))
    shape = extent - np.maximum(np.abs(along), np.abs(across)) + np.float32(0.02 * w) * fractal(rng, (h, w), 5, 3)
    alpha = np.clip(shape * 0.5, 0, 1)
    pitch = np.float32(rng.uniform(0.6, 1.6) * 320 / w)
    weave = np.sin(along * pitch) * np.sin(across * pitch)
    soaked = np.clip(smooth(rng, (h, w), 4).reshape(h, w) - np.float32(rng.uniform(0, 1.5)), 0, 1)[..., None]
    tint = np.array((225, 220, 212), np.float32) * (1 + 0.09 * weave[..., None])
    tint = tint + soaked * (np.array((170, 60, 55), np.float32) - tint)
    rise = 0.04 * weave + 0.3 * smooth(rng, (h, w), 8).reshape(h, w)
    _lay(color, height, np.asarray(alpha, np.float32), np.asarray(tint, np.float32), np.asarray(rise, np.float32))


def _thread(rng: np.random.Generator, color: Float32Array, height: Float32Array) -> None:
    """A suture."""
    h, w = height.shape
    angle, points = rng.uniform(0, 2 * np.pi), [np.array([rng.uniform(0, w), rng.uniform(0, h)])]
    for _ in range(int(rng.integers(15, 50))):
        angle += rng.normal(0, 0.22)
        points.append(points[-1] + 0.02 * w * np.array([np.cos(angle), np.sin(angle)]))
    mask: npt.NDArray[np.uint8] = np.zeros((h, w), np.uint8)
    line = np.rint(np.array(points) * 16).astype(np.int32)
    cv2.polylines(mask, [line], False, 255, max(1, round(rng.uniform(0.003, 0.009) * w)), cv2.LINE_AA, 4)
    alpha = np.asarray(mask.astype(np.float32) / 255, np.float32)
    blend_color(color, alpha, _pick(rng, _THREADS))
    height += np.float32(0.1) * alpha


def _pick(rng: np.random.Generator, palette: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    shade = palette[rng.integers(len(palette))] * np.float32(rng.uniform(0.75, 1.15))
    return np.asarray(shade + rng.normal(0, 8, 3), np.float32)
