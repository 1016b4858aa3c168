"""Effects before and on the lens: smoke, fog, blood, dirt and water.

They hide an instrument softly. Labels stay, except below nearly opaque or strongly refracting drops, which become "ignore".
"""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, Image
from csl_tracker.datasets.blending import three_channels
from csl_tracker.datasets.rendered.effects_fields import (
    Generator,
    amount,
    cloud,
    enlarged,
    halved,
    ignoring,
    mix,
    on_image,
    px,
    smooth_field,
    softened,
    step,
    to_uint8,
)
from csl_tracker.datasets.sample import Sample
from csl_tracker.pixels import Size

_OPAQUE = 0.12
"""Transmission of red below which labels become "ignore"."""
_REFRACTED_PX = 2.5
"""Displacement above which labels become "ignore", px at 256 rows."""


@on_image
def smoke(rng: Generator, image: Image, strength: float) -> Float32Array:
    """Plumes of smoke, lit by the endoscope: brightest in the middle of the light."""
    size = (image.shape[0], image.shape[1])
    density = cloud(rng, size, int(rng.integers(2, 5)))
    density = step(density, rng.uniform(0.0, 0.45), rng.uniform(0.4, 0.8)) + np.float32(rng.uniform(0.0, 0.5))
    opacity = amount(rng, strength, 0.15, 0.95)
    alpha = np.asarray(np.clip(density / max(float(density.max()), 1e-3) * opacity, 0.0, 0.93), np.float32)
    grey = rng.uniform(120, 235)
    color = (grey + rng.normal(0.0, [7.0, 4.0, 8.0])).astype(np.float32)
    lit = 0.75 + 0.35 * smooth_field(rng, size, 2)
    return mix(image, three_channels(np.asarray(lit, np.float32)) * color, alpha)


@on_image
def fog(rng: Generator, image: Image, strength: float) -> Float32Array:
    """Condensation on the lens: a blurred, pale picture, thicker from one side or from the middle."""
    size = (image.shape[0], image.shape[1])
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    center = rng.uniform(-0.2, 1.2, 2) * size
    distance = np.hypot(rows - np.float32(center[0]), columns - np.float32(center[1])) / np.float32(size[0])
    clear = rng.uniform(0.0, 0.6)
    cover = step(distance if rng.random() < 0.5 else np.float32(1.2) - distance, clear, rng.uniform(0.3, 1.0))
    cover = np.asarray(cover * (0.7 + 0.3 * cloud(rng, size, 3, 2)), np.float32)
    blurred = softened(image, max(0.5, px(image, amount(rng, strength, 1.0, 6.0)))).astype(np.float32)
    tone = rng.uniform(110, 220)
    veil = blurred + np.float32(amount(rng, strength, 0.1, 0.75)) * (np.float32(tone) - blurred)
    return mix(image, veil, cover)


def blood(rng: Generator, sample: Sample, strength: float) -> Sample:
    """Drops and smears of blood, out of focus, that absorb light by their thickness (Beer and Lambert)."""
    frame = (sample.image.shape[0], sample.image.shape[1])
    size = halved(frame)
    thickness = _drops(rng, size, amount(rng, strength, 2, 28), (0.015, 0.09)) * rng.uniform(0.5, 3.0)
    if rng.random() < 0.6:  # a smear: noise stretched along a direction
        covered = _smear(rng, size)
        share = amount(rng, strength, 0.03, 0.4)
        edge = float(np.quantile(covered[::2, ::2], 1.0 - share))
        thickness = thickness + step(covered, edge, rng.uniform(0.05, 0.3)) * np.float32(rng.uniform(0.4, 2.5))
    thickness = thickness * (0.6 + 0.8 * cloud(rng, size, 6, 3))
    thickness = np.asarray(cv2.GaussianBlur(thickness, (0, 0), px(sample.image, rng.uniform(0.4, 1.75))), np.float32)
    absorption = np.array([rng.uniform(0.35, 0.9), rng.uniform(2.0, 4.0), rng.uniform(1.8, 4.0)], np.float32)
    through = enlarged(cv2.merge([np.exp(-thickness * k) for k in absorption]), frame)
    back = np.array([rng.uniform(30, 120), rng.uniform(0, 18), rng.uniform(0, 18)], np.float32)
    image = sample.image * through + (1.0 - through[..., 1:2]) * back * np.float32(rng.uniform(0.2, 1.0))
    return ignoring(replace(sample, image=to_uint8(image)), np.asarray(through[..., 0] < _OPAQUE))


@on_image
def dirt(rng: Generator, image: Image, strength: float) -> Float32Array:
    """Blurred specks, fibres and smears on the lens, brighter or darker than the scene."""
    frame = (image.shape[0], image.shape[1])
    size = halved(frame)
    spots = _drops(rng, size, amount(rng, strength, 2, 30), (0.01, 0.07))
    for _ in range(int(rng.integers(0, 3))):  # fibres
        points = np.cumsum(rng.normal(0.0, 0.12 * size[0], (6, 2)), axis=0) + rng.uniform(0, 1, 2) * size[::-1]
        cv2.polylines(spots, [np.rint(points).astype(np.int32)], False, rng.uniform(0.3, 0.9), max(1, round(px(image, 1))))
    spots = np.asarray(cv2.GaussianBlur(spots, (0, 0), px(image, rng.uniform(0.4, 2.0))), np.float32)
    spots = spots / max(float(spots.max()), 1e-3)
    alpha = enlarged(np.clip(1.5 * spots, 0.0, 1.0) * np.float32(amount(rng, strength, 0.2, 0.9)), frame)
    blurred = softened(image, px(image, 6.0)).astype(np.float32)
    grey = rng.uniform(0, 50) if rng.random() < 0.5 else rng.uniform(130, 255)
    color = (grey * np.exp(rng.normal(0.0, 0.12, 3))).astype(np.float32)
    tone = three_channels(0.6 + 0.4 * smooth_field(rng, frame, 3)) * color
    return mix(image, np.float32(0.3) * blurred + np.float32(0.7) * tone, alpha)


def water(rng: Generator, sample: Sample, strength: float) -> Sample:
    """Drops of clear water that refract: each shows a small, partly upside-down picture, with a dark and a bright rim."""
    size = (sample.image.shape[0], sample.image.shape[1])
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    shift = np.zeros((2, *size), np.float32)
    rim = np.zeros(size, np.float32)
    for _ in range(max(1, round(amount(rng, strength, 1, 12)))):
        radius = float(np.exp(rng.uniform(np.log(0.02), np.log(0.16)))) * size[0]
        x, y = rng.uniform(0, size[1]), rng.uniform(0, size[0])
        left, top = max(0, int(x - radius)), max(0, int(y - radius))
        window = np.s_[top : max(top, int(y + radius + 2)), left : max(left, int(x + radius + 2))]
        dx, dy = columns[window] - np.float32(x), rows[window] - np.float32(y)
        squared = (dx * dx + dy * dy * np.float32(rng.uniform(0.7, 1.4))) / np.float32(radius**2)
        inside = np.clip(1.0 - squared, 0.0, 1.0)
        pull = np.float32(rng.uniform(0.3, 1.8)) * np.sqrt(inside)
        shift[0][window] -= pull * dx
        shift[1][window] -= pull * dy
        light = np.float32(rng.uniform(-40, 40)) * (dx + dy) / np.float32(radius)
        rim[window] += np.where(inside > 0, light * squared * squared, 0.0)
    moved = cv2.remap(sample.image, columns + shift[0], rows + shift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    wet = np.asarray(np.hypot(shift[0], shift[1]), np.float32)
    soft = softened(np.asarray(moved, np.uint8), px(sample.image, rng.uniform(0.6, 2.5)))
    image = mix(sample.image, soft, np.asarray(np.clip(wet, 0.0, 1.0), np.float32)) + three_channels(rim)
    return ignoring(replace(sample, image=to_uint8(image)), np.asarray(wet > px(sample.image, _REFRACTED_PX)))


def _drops(rng: Generator, size: Size, count: float, radii: tuple[float, float]) -> Float32Array:
    """Filled ellipses of values 0.4..1 at random places; radii are shares of the height, small ones more frequent."""
    field = np.zeros(size, np.float32)
    for _ in range(max(1, round(count))):
        center = (int(rng.integers(size[1])), int(rng.integers(size[0])))
        radius = math.exp(rng.uniform(*np.log(radii))) * size[0]
        axes = (max(1, round(radius)), max(1, round(radius * rng.uniform(0.4, 1.0))))
        cv2.ellipse(field, center, axes, rng.uniform(0, 180), 0, 360, rng.uniform(0.4, 1.0), -1)
    return field


def _smear(rng: Generator, size: Size) -> Float32Array:
    """Fractal noise that is stretched along a random direction, 0..1."""
    side = max(size)
    field = cloud(rng, (side // 2, side // 2), 3)
    angle, stretch = rng.uniform(0, 180), rng.uniform(1.0, 4.0)
    turn = cv2.getRotationMatrix2D((side / 4, side / 4), angle, 1.0)
    turn[0] *= stretch
    turn[:, 2] += np.array([size[1] / 2 - stretch * side / 4, size[0] / 2 - side / 4])
    return np.asarray(
        cv2.warpAffine(field, turn, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101), np.float32
    )
