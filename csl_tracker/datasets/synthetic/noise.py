"""Smooth random fields."""

from __future__ import annotations

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array


def smooth(rng: np.random.Generator, size: tuple[int, int], cells: float, channels: int = 1) -> Float32Array:
    """Normal noise on a coarse grid, upsampled.

    Args:
        rng: Random generator.
        size: (height, width).
        cells: Grid cells over the longer side.
        channels: Number of planes.

    Returns:
        float32 (height, width) or (height, width, channels), of about unit variance.
    """
    longer = max(size)
    grid = [max(2, round(side / longer * cells) + 3) for side in size]
    values = rng.standard_normal((*grid, channels), np.float32)
    field = cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field, np.float32)


def fractal(rng: np.random.Generator, size: tuple[int, int], cells: float, octaves: int, fall: float = 0.5) -> Float32Array:
    """Sum of :func:`smooth` at doubling frequencies; about unit variance."""
    total = np.zeros(size, np.float32)
    weight, power = 1.0, 0.0
    for octave in range(octaves):
        total += np.float32(weight) * smooth(rng, size, cells * 2**octave).reshape(size)
        power += weight * weight
        weight *= fall
    return np.asarray(total / np.float32(np.sqrt(power)), np.float32)
