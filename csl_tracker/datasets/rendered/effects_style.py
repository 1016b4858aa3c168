"""Style augmentation: give a frame the colours or the low frequencies of another picture. Labels and landmarks stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, Image
from csl_tracker.datasets.rendered.effects_fields import to_uint8
from csl_tracker.datasets.sample import Sample

Pool = Callable[[np.random.Generator], Image]
"""Draws a picture, uint8 (h, w, 3) RGB, of any size."""

_COARSE = 64
"""Height of the picture whose amplitudes are mixed, px: its frequencies reach 32 cycles over the height."""


def random_style(rng: np.random.Generator, sample: Sample, pool: Pool) -> Sample:
    """Change the style of a frame by one random method of random strength.

    Args:
        rng: Random generator.
        sample: The frame.
        pool: Draws the other picture.
    """
    strength = float(rng.uniform(0.2, 1.0))
    kind = rng.random()
    if kind < 0.4:
        image = mix_amplitudes(sample.image, pool(rng), float(np.exp(rng.uniform(np.log(0.008), np.log(0.12)))), strength)
    elif kind < 0.75:
        image = transfer_color(sample.image, pool(rng), strength)
    else:
        image = mix_channels(rng, sample.image, strength)
    return replace(sample, image=image)


def mix_amplitudes(image: Image, other: Image, reach: float, strength: float) -> Image:
    """Replace the amplitudes of low spatial frequencies by those of another picture; phases stay (Yang and Soatto 2020).

    Low frequencies survive a reduction, so the transform runs on small pictures, and only the difference is enlarged.

    Args:
        image: uint8 (H, W, 3).
        other: uint8 (h, w, 3), of any size.
        reach: Highest frequency to mix, cycles per px of the small picture along each axis; the cut is smooth.
        strength: 0..1, share of the other amplitudes.
    """
    height, width = image.shape[:2]
    size = (max(8, round(_COARSE * width / height)), _COARSE)
    small, style = (cv2.resize(one, size, interpolation=cv2.INTER_AREA).astype(np.float32) for one in (image, other))
    spectrum, wanted = np.fft.rfft2(small, axes=(0, 1)), np.abs(np.fft.rfft2(style, axes=(0, 1)))
    amplitude = np.abs(spectrum)
    rows, columns = np.fft.fftfreq(size[1])[:, None], np.fft.rfftfreq(size[0])[None]
    share = strength * np.exp(-0.5 * (np.maximum(np.abs(rows), columns) / reach) ** 2)
    gain = 1.0 + share[..., None] * (wanted / np.maximum(amplitude, 1e-3) - 1.0)
    # Where the frame has hardly any amplitude, its phase is noise.
    gain = np.clip(gain, 0.0, 8.0)
    change = np.fft.irfft2(spectrum * (gain - 1.0), s=(size[1], size[0]), axes=(0, 1)).astype(np.float32)
    return to_uint8(image + cv2.resize(change, (width, height), interpolation=cv2.INTER_LINEAR))


def transfer_color(image: Image, other: Image, strength: float) -> Image:
    """Give the channels in Lab the mean and the standard deviation of another picture (Reinhard et al. 2001).

    Args:
        image: uint8 (H, W, 3).
        other: uint8 (h, w, 3), of any size.
        strength: 0..1, share of the change.
    """
    own = _lab(image)
    other = np.asarray(cv2.resize(other, (96, 72), interpolation=cv2.INTER_AREA), np.uint8)
    mean, deviation = (value.ravel() for value in cv2.meanStdDev(own))
    wanted_mean, wanted_deviation = (value.ravel() for value in cv2.meanStdDev(_lab(other)))
    gain = np.clip(wanted_deviation / np.maximum(deviation, 1.0), 0.3, 3.0)
    gain = 1.0 + strength * (gain - 1.0)
    offset = mean + strength * (wanted_mean - mean) - gain * mean
    moved = cv2.transform(own, np.column_stack((np.diag(gain), offset)))
    return to_uint8(np.float32(255.0) * cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_Lab2RGB))


def mix_channels(rng: np.random.Generator, image: Image, strength: float) -> Image:
    """Apply a random 3x3 colour matrix, whose rows sum to 1 up to a gain, with an offset."""
    matrix = np.eye(3) + strength * rng.normal(0.0, 0.35, (3, 3))
    total = matrix.sum(axis=1, keepdims=True)
    gains = np.exp(strength * rng.normal(0.0, 0.25, (3, 1)))
    matrix = matrix * gains / np.where(np.abs(total) < 0.4, 0.4, np.abs(total))
    offset = strength * rng.normal(0.0, 15.0, 3)
    return to_uint8(cv2.transform(image.astype(np.float32), np.column_stack((matrix, offset))))


def _lab(image: Image) -> Float32Array:
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2Lab), np.float32)
