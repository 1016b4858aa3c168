"""Effects of exposure and colour: darkness, overexposure, vignettes, colour casts, white balance, monochrome displays."""

from __future__ import annotations

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, Image
from csl_tracker.datasets.blending import color_row, three_channels
from csl_tracker.datasets.rendered.effects_fields import Generator, amount, on_image, smooth_field, to_linear, to_srgb

_LEAST_LIGHT = 0.003
"""Mean linear light that :func:`dark` leaves, unless the frame has less."""


@on_image
def dark(rng: Generator, image: Image, strength: float) -> Image:
    """Too little light: the linear light falls to between 60 % and 2 %, and blacks are crushed in part."""
    light = to_linear(image)
    gain = 0.6 ** (1.0 + 6.6 * strength * rng.uniform(0.5, 1.0))
    # A frame that is dark already keeps enough light to see an instrument.
    light *= np.float32(max(gain, min(1.0, _LEAST_LIGHT / max(float(light.mean()), 1e-6))))
    return to_srgb(light - np.float32(rng.uniform(0.0, 0.004) * (rng.random() < 0.4)))


@on_image
def bright(rng: Generator, image: Image, strength: float) -> Image:
    """Too much light: highlights clip, and bloom around them."""
    light = to_linear(image) * np.float32(2.0 ** amount(rng, strength, 0.3, 3.2))
    if rng.random() < 0.6:
        excess = np.clip(light - 1.0, 0.0, 2.0)
        sigma = rng.uniform(0.01, 0.06) * image.shape[0]
        small = cv2.resize(excess, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), max(0.5, sigma / 4))
        glow = cv2.resize(small, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
        light = light + np.float32(rng.uniform(0.1, 0.6)) * glow
    return to_srgb(np.asarray(light, np.float32))


@on_image
def uneven(rng: Generator, image: Image, strength: float) -> Image:
    """Uneven light: a vignette around a random centre, or a smooth gradient."""
    size = (image.shape[0], image.shape[1])
    lowest = np.float32(1.0 - amount(rng, strength, 0.2, 0.97))
    if rng.random() < 0.6:
        rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
        y, x = rng.uniform(0.25, 0.75, 2) * size
        distance = np.hypot(rows - np.float32(y), columns - np.float32(x)) / np.float32(rng.uniform(0.5, 1.0) * size[0])
        field = 1.0 / (1.0 + distance**4)
    else:
        field = smooth_field(rng, size, int(rng.integers(1, 4)))
    gain = lowest + (np.float32(rng.uniform(1.0, 1.8)) - lowest) * field
    return to_srgb(np.asarray(to_linear(image) * three_channels(np.asarray(gain, np.float32)), np.float32))


@on_image
def cast(rng: Generator, image: Image, strength: float) -> Float32Array:
    """A colour cast of the display chain: gains and offsets by channel, and a small mix of the channels."""
    reach = amount(rng, strength, 0.05, 0.5)
    matrix = np.diag(np.exp(rng.normal(0.0, reach * 0.8, 3))) + rng.normal(0.0, reach * 0.2, (3, 3))
    moved = cv2.transform(image.astype(np.float32), matrix)
    return np.asarray(moved + color_row(rng.normal(0.0, 30.0 * reach, 3), image.shape[1]), np.float32)


@on_image
def white_balance(rng: Generator, image: Image, strength: float) -> Image:
    """A wrong white balance: red against blue, and a little green, in linear light."""
    warmth = rng.choice([-1.0, 1.0]) * amount(rng, strength, 0.1, 1.1)
    gains = np.exp(np.array([0.5 * warmth, rng.normal(0.0, 0.08 + 0.15 * strength), -0.6 * warmth]))
    return to_srgb(to_linear(image) * color_row(gains / max(1.0, gains.mean()), image.shape[1]))


@on_image
def saturation(rng: Generator, image: Image, strength: float) -> Float32Array:
    """Pale or garish colours, and a steep or a flat tone curve."""
    grey = three_channels(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32))
    gain = 1.0 - amount(rng, strength, 0.1, 1.0) if rng.random() < 0.6 else 1.0 + amount(rng, strength, 0.1, 1.5)
    colored = grey + np.float32(gain) * (image - grey)
    if rng.random() < 0.5:
        slope = np.exp(rng.uniform(-0.7, 0.7) * strength)
        colored = (colored - 128.0) * np.float32(slope) + 128.0
    return np.asarray(colored, np.float32)


@on_image
def swapped(rng: Generator, image: Image, strength: float) -> Image:
    """Red and blue exchanged, as by a driver that confuses RGB and BGR; the strength does not matter."""
    return np.ascontiguousarray(image[..., ::-1])


@on_image
def monochrome(rng: Generator, image: Image, strength: float) -> Image:
    """Full grey, a tinted old display, or fluorescence: light in one channel only; partly, at low strength."""
    weights = rng.dirichlet((3.0, 5.0, 2.0)).astype(np.float32)
    grey = cv2.transform(image, weights[None]).clip(0, 255).astype(np.uint8).reshape(image.shape[:2])
    if rng.random() < 0.15:
        grey = 255 - grey
    tint = _TINTS[int(rng.integers(len(_TINTS)))]
    level = np.linspace(0.0, 1.0, 256)[:, None]
    gamma = rng.uniform(0.7, 1.6)
    color = np.clip(np.array(tint) + rng.normal(0.0, 0.04, 3), 0.0, 1.0) if min(tint) < 1 else np.ones(3)
    # Bright parts of a tinted display go towards white.
    ramp = level**gamma * (color + (1.0 - color) * level**3 * rng.uniform(0.0, 0.8))
    toned = np.rint(255.0 * ramp).astype(np.uint8)[grey]
    share = 1.0 if strength > 0.4 else 0.6 + strength
    return np.asarray(cv2.addWeighted(toned, share, image, 1.0 - share, 0.0), np.uint8)


_TINTS = (
    (1.0, 1.0, 1.0),
    (1.0, 1.0, 1.0),
    (1.0, 1.0, 1.0),
    (0.15, 0.95, 0.3),
    (0.05, 0.8, 0.1),
    (0.95, 0.65, 0.15),
    (0.35, 0.6, 1.0),
    (0.9, 0.35, 0.75),
)
"""Tints of one-colour pictures: grey most often, fluorescence green, phosphor green, amber, blue, purple."""
