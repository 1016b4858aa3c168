"""The transfer function of sRGB, IEC 61966-2-1, between 0..1 and 0..1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array


def encode(linear: npt.ArrayLike) -> Float32Array:
    """Linear light to sRGB, float32; values outside 0..1 are clipped."""
    light = np.clip(np.asarray(linear, np.float32), 0, 1)
    curve = np.float32(1.055) * np.maximum(light, np.float32(1e-6)) ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.asarray(np.where(light <= 0.0031308, np.float32(12.92) * light, curve), np.float32)


def decode(value: npt.ArrayLike) -> Float32Array:
    """The inverse of :func:`encode`."""
    coded = np.asarray(value, np.float32)
    curve = ((coded + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.asarray(np.where(coded <= 0.04045, coded / np.float32(12.92), curve), np.float32)
