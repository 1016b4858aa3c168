"""Effects of optics, sensor and transmission: blur, noise, interlacing, resampling, chroma, JPEG. None moves the picture.

The shift between the fields of an interlaced picture is symmetric, so that labels and landmarks stay right on average.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array, Image
from csl_tracker.datasets.rendered.effects_fields import Generator, amount, on_image, px, to_linear, to_srgb

_OFFSET = 32768.0
_UNIT = 3000.0


@on_image
def blur(rng: Generator, image: Image, strength: float) -> Image:
    """A Gaussian blur, or a straight motion during the exposure."""
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), px(image, amount(rng, strength, 0.4, 3.5))), np.uint8)
    length = px(image, amount(rng, strength, 2.0, 20.0))
    side = 2 * math.ceil(length / 2) + 3
    middle, angle = side // 2, rng.uniform(0.0, math.pi)
    kernel = np.zeros((side, side), np.float32)
    for t in np.linspace(-0.5, 0.5, 2 * side) * length:
        _splat(kernel, middle + t * math.cos(angle), middle + t * math.sin(angle))
    return _filtered(image, kernel)


@on_image
def defocus(rng: Generator, image: Image, strength: float) -> Image:
    """The disc or polygon of an aperture out of focus."""
    radius = px(image, amount(rng, strength, 0.8, 5.0))
    reach = math.ceil(radius) + 1
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    if rng.random() < 0.5:
        distance = np.hypot(rows, columns)
    else:
        turns = rng.uniform(0, math.pi) + np.arange(6) * math.pi / 3
        distance = np.max([columns * math.cos(t) + rows * math.sin(t) for t in turns], axis=0)
    return _filtered(image, np.clip(radius + 0.5 - distance, 0.0, 1.0))


@on_image
def noise(rng: Generator, image: Image, strength: float) -> Image:
    """Shot and read noise in linear light, white or correlated as by demosaicing, and perhaps a denoiser after it."""
    light = to_linear(image)
    if rng.random() < 0.6:
        sites = rng.standard_normal(image.shape[:2], np.float32) * np.float32(_UNIT) + np.float32(_OFFSET)
        unit = cv2.cvtColor(np.clip(sites, 0, 65535).astype(np.uint16), cv2.COLOR_BayerRG2RGB).astype(np.float32)
        grain = (unit - np.float32(_OFFSET)) / np.float32(_UNIT)
    else:
        grain = rng.standard_normal(image.shape, np.float32)
    shot = np.float32(amount(rng, strength, 0.01, 0.16) ** 2)
    read = np.float32(amount(rng, strength, 0.001, 0.03) ** 2 * rng.uniform(0.2, 1.0))
    noisy = to_srgb(light + np.sqrt(shot * light + read) * grain)
    treatment = rng.random()
    if treatment < 0.15:
        return np.asarray(cv2.medianBlur(noisy, 3), np.uint8)
    if treatment < 0.35:
        return np.asarray(cv2.GaussianBlur(noisy, (0, 0), rng.uniform(0.5, 1.0)), np.uint8)
    return noisy


@on_image
def interlace(rng: Generator, image: Image, strength: float) -> Image:
    """Combs: the even rows are of half a motion earlier, the odd rows of half a motion later; or one field doubled."""
    height, width = image.shape[:2]
    motion = px(image, amount(rng, strength, 0.5, 10.0)) * float(rng.choice([-1.0, 1.0]))
    drop = px(image, rng.normal(0.0, 0.7)) * strength
    fields = []
    for sign in (-0.5, 0.5):
        affine = np.array([[1.0, 0.0, sign * motion], [0.0, 1.0, sign * drop]])
        fields.append(cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    woven = fields[0]
    woven[1::2] = fields[1][1::2]
    return np.asarray(woven, np.uint8)


@on_image
def resample(rng: Generator, image: Image, strength: float) -> Image:
    """Sent at a lower resolution and enlarged again, in one or both directions."""
    height, width = image.shape[:2]
    factor = 1.0 / amount(rng, strength, 1.2, 4.5)
    x = 1.0 if rng.random() < 0.15 else factor
    y = 1.0 if x < 1 and rng.random() < 0.15 else factor
    small = cv2.resize(image, (max(8, round(width * x)), max(8, round(height * y))), interpolation=cv2.INTER_AREA)
    way = int(rng.choice([cv2.INTER_NEAREST_EXACT, cv2.INTER_LINEAR, cv2.INTER_CUBIC], p=[0.15, 0.5, 0.35]))
    return np.asarray(cv2.resize(small, (width, height), interpolation=way), np.uint8)


@on_image
def chroma(rng: Generator, image: Image, strength: float) -> Image:
    """Subsampled and bleeding colour: chroma of low resolution, shifted against the luma, of few levels or noisy."""
    height, width = image.shape[:2]
    luma, *colors = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    across, down = amount(rng, strength, 2.0, 9.0), float(rng.choice([1.0, 2.0, amount(rng, strength, 2.0, 6.0)]))
    shift = np.array([[1.0, 0.0, px(image, rng.normal(0.0, 2.0) * strength)], [0.0, 1.0, 0.0]])
    size = (max(4, round(width / across)), max(4, round(height / down)))
    bled = []
    for plane in colors:
        small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        if rng.random() < 0.4:
            small = cv2.add(small, rng.standard_normal(small.shape, np.float32) * np.float32(12 * strength), dtype=cv2.CV_8U)
        large = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        bled.append(cv2.warpAffine(large, shift, (width, height), borderMode=cv2.BORDER_REPLICATE))
    return np.asarray(cv2.cvtColor(cv2.merge([luma, *bled]), cv2.COLOR_YCrCb2RGB), np.uint8)


@on_image
def sharpen(rng: Generator, image: Image, strength: float) -> Float32Array:
    """Edge enhancement of a camera, with its halos."""
    soft = cv2.GaussianBlur(image, (0, 0), px(image, rng.uniform(0.7, 2.0))).astype(np.float32)
    return np.asarray(image + np.float32(amount(rng, strength, 0.3, 2.5)) * (image - soft), np.float32)


@on_image
def jpeg(rng: Generator, image: Image, strength: float) -> Image:
    """JPEG at a quality from 85 down to 4, with a random chroma subsampling, once or twice."""
    coded = image
    for _ in range(1 + (rng.random() < 0.2)):
        quality = round(85 - amount(rng, strength, 0, 81))
        sampling = int(rng.choice(_SAMPLINGS))
        settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        data = cv2.imencode(".jpg", cv2.cvtColor(coded, cv2.COLOR_RGB2BGR), settings)[1]
        coded = np.asarray(cv2.cvtColor(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB), np.uint8)
    return coded


_SAMPLINGS = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
)


def _splat(kernel: Float32Array, x: float, y: float) -> None:
    """Add a unit weight at a point, shared by the four pixels around it."""
    column, row = math.floor(x), math.floor(y)
    u, v = x - column, y - row
    kernel[row : row + 2, column : column + 2] += np.outer((1 - v, v), (1 - u, u))


def _filtered(image: Image, kernel: npt.NDArray[np.generic]) -> Image:
    weights = kernel.astype(np.float32)
    return np.asarray(cv2.filter2D(image, -1, weights / weights.sum(), borderType=cv2.BORDER_REPLICATE), np.uint8)
