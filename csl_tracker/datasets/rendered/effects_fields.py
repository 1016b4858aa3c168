"""Random fields, and conversions shared by the effects."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array, Image, Mask
from csl_tracker.datasets.blending import three_channels
from csl_tracker.datasets.rendered import srgb
from csl_tracker.datasets.sample import Sample
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.pixels import Size

ROWS = 256
"""Image height to which lengths in px refer; they grow with the image."""

Generator = np.random.Generator
Apply = Callable[[Generator, Sample, float], Sample]
"""An effect: random generator, sample and strength 0..1 to the changed sample."""


def on_image(change: Callable[[Generator, Image, float], npt.NDArray[np.generic]]) -> Apply:
    """Make an effect of a function that changes the image alone; rounds and clips its result."""

    @functools.wraps(change)
    def apply(rng: Generator, sample: Sample, strength: float) -> Sample:
        return replace(sample, image=to_uint8(change(rng, sample.image, strength)))

    return apply


def to_uint8(image: npt.NDArray[np.generic]) -> Image:
    """Round and clip to uint8."""
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    return np.asarray(cv2.convertScaleAbs(np.maximum(image, 0)), np.uint8)


def amount(rng: Generator, strength: float, weakest: float, strongest: float) -> float:
    """A random value between the weakest and the one that the strength permits, mostly near the latter."""
    return float(weakest + (strongest - weakest) * strength * rng.uniform(0.6, 1.0))


def px(image: Image, length: float) -> float:
    """A length given for :data:`ROWS` rows, in px of this image."""
    return float(length * image.shape[0] / ROWS)


def smooth_field(rng: Generator, size: Size, cells: int) -> Float32Array:
    """A smooth random field, float32 (height, width), 0..1, with ``cells`` cells over the height."""
    small = rng.random((cells + 1, round(cells * size[1] / size[0]) + 1), np.float32)
    large = cv2.resize(small, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.normalize(large, None, 0.0, 1.0, cv2.NORM_MINMAX), np.float32)  # type: ignore[call-overload]


def cloud(rng: Generator, size: Size, cells: int, octaves: int = 4) -> Float32Array:
    """Fractal noise, float32 (height, width), 0..1: octaves of :func:`smooth_field` with halved amplitudes."""
    small = halved(size)
    total = np.zeros(small, np.float32)
    for octave in range(octaves):
        total += np.float32(0.5**octave) * smooth_field(rng, small, cells * 2**octave)
    return enlarged(cv2.normalize(total, None, 0.0, 1.0, cv2.NORM_MINMAX), size)  # type: ignore[call-overload]


def halved(size: Size) -> Size:
    """Half the size, (height, width): smooth fields need no more, and cost a quarter."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def enlarged(field: Float32Array, size: Size) -> Float32Array:
    """A smooth field at another size."""
    return np.asarray(cv2.resize(field, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def softened(image: Image, sigma: float) -> Image:
    """A Gaussian blur; a wide one runs on half the size."""
    if sigma < 2.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)
    height, width = image.shape[:2]
    small = cv2.resize(image, halved((height, width))[::-1], interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 2)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def step(field: Float32Array, edge: float, width: float) -> Float32Array:
    """Smooth step from 0 below the edge to 1 a width above it."""
    t = np.clip((field - np.float32(edge)) / np.float32(width), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), np.float32)


def mix(image: npt.NDArray[np.generic], other: npt.NDArray[np.generic], alpha: Float32Array) -> Float32Array:
    """``image + alpha * (other - image)`` with alpha (height, width); ``other`` is an image or a colour (3,)."""
    base = image.astype(np.float32)
    if other.ndim == 1:
        other = np.broadcast_to(other.astype(np.float32), base.shape)
    return np.asarray(base + three_channels(alpha) * (other.astype(np.float32) - base), np.float32)


def ignoring(sample: Sample, unsure: Mask) -> Sample:
    """Set the labels of pixels to "ignore", where nobody can tell what lies below; landmarks stay.

    A landmark under a drop stays labelled: the rest of the instrument tells where it is.
    """
    labels = None if sample.label_map is None else np.where(unsure, np.uint8(IGNORE_LABEL), sample.label_map)
    return replace(sample, label_map=labels)


@functools.cache
def linear_table() -> Float32Array:
    """Linear light 0..1 of the 256 values of sRGB."""
    return srgb.decode(np.arange(256) / 255.0)


_CODES = 4096


@functools.cache
def _code_table() -> Image:
    return np.asarray(np.rint(255.0 * srgb.encode(np.arange(_CODES) / (_CODES - 1))), np.uint8)


def to_linear(image: Image) -> Float32Array:
    """uint8 sRGB to linear light, float32, 0..1."""
    return linear_table()[image]


def to_srgb(light: Float32Array) -> Image:
    """Linear light to uint8 sRGB; clips to 0..1."""
    codes = np.clip(light * np.float32(_CODES - 1) + np.float32(0.5), 0.0, _CODES - 1).astype(np.uint16)
    return np.asarray(_code_table()[codes], np.uint8)
