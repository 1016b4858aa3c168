"""Frames that show nothing: covered, blinded or disconnected cameras."""

from __future__ import annotations

import math

import cv2
import numpy as np

from csl_tracker.arrays import Image
from csl_tracker.datasets.rendered.world_shapes import (
    Size,
    any_color,
    bent_line,
    blend,
    defocus,
    filled,
    grain,
    noise_plane,
    pick,
    shade,
)


def black(rng: np.random.Generator, size: Size) -> Image:
    """Lens covered or lamp off: almost black, with sensor noise and sometimes a faint glow."""
    image = filled(size, pick(rng, ((4, 3, 4), (10, 8, 8), (16, 14, 16)), 2))
    if rng.random() < 0.5:
        glow = np.clip(noise_plane(rng, size, 1.5, 1) * np.float32(0.15), 0, 0.35)
        image = blend(image, np.asarray(glow, np.float32), pick(rng, ((80, 20, 20), (50, 50, 60), (90, 60, 40))))
    return grain(rng, image, float(rng.uniform(0, 5)))


def red_out(rng: np.random.Generator, size: Size) -> Image:
    """The lens touches tissue or is covered with blood."""
    image = filled(size, pick(rng, ((190, 20, 20), (130, 10, 14), (230, 60, 50), (90, 8, 10), (220, 110, 100)), 10))
    image = shade(image, 1 + np.float32(rng.uniform(0.05, 0.4)) * noise_plane(rng, size, float(rng.uniform(1, 4)), 4))
    cover = np.clip(noise_plane(rng, size, 2, 4) * np.float32(0.5), 0, np.float32(rng.uniform(0, 0.7)))
    image = blend(image, np.asarray(cover, np.float32), pick(rng, ((250, 140, 120), (60, 4, 8), (250, 200, 180))))
    return grain(rng, defocus(image, size[1] / 100), float(rng.uniform(0, 4)))


def white_out(rng: np.random.Generator, size: Size) -> Image:
    """Overexposed, or fogged, with faint shapes."""
    image = filled(size, pick(rng, ((250, 248, 245), (225, 222, 220), (240, 225, 220)), 5))
    cover = np.clip(
        noise_plane(rng, size, float(rng.uniform(1.5, 5)), 2) * np.float32(0.3), 0, np.float32(rng.uniform(0.0, 0.6))
    )
    image = blend(image, np.asarray(cover, np.float32), pick(rng, ((200, 150, 140), (170, 175, 180), (220, 200, 190))))
    return grain(rng, defocus(image, size[1] / 80), float(rng.uniform(0, 3)))


def gradient(rng: np.random.Generator, size: Size) -> Image:
    """A smooth change between colours, in a line or around a point."""
    h, w = size
    y, x = np.arange(h, dtype=np.float32)[:, None] / np.float32(w), np.arange(w, dtype=np.float32)[None] / np.float32(w)
    angle = float(rng.uniform(0, 2 * math.pi))
    if rng.random() < 0.5:
        way = x * math.cos(angle) + y * math.sin(angle)
    else:
        way = np.hypot(x - np.float32(rng.uniform(0, 1)), y - np.float32(rng.uniform(0, 1)))
    way = np.asarray((way - way.min()) / (way.max() - way.min()), np.float32)
    return grain(rng, blend(filled(size, any_color(rng)), way, any_color(rng)), float(rng.uniform(0, 4)))


def noise(rng: np.random.Generator, size: Size) -> Image:
    """Noise of any grain, grey or coloured, sometimes in stripes."""
    h, w = size
    kind = rng.random()
    if kind < 0.3:
        values = rng.integers(0, 256, (max(2, h // 2), max(2, w // 2), 3 if rng.random() < 0.5 else 1), np.uint8)
        plane = cv2.resize(values, (w, h), interpolation=cv2.INTER_NEAREST)
        return np.asarray(plane if plane.ndim == 3 else cv2.merge((plane, plane, plane)), np.uint8)
    shared = noise_plane(rng, size, float(np.exp(rng.uniform(1, 4))), 3)
    planes = [
        shared + np.float32(rng.uniform(0, 1)) * noise_plane(rng, size, float(np.exp(rng.uniform(1, 3))), 2) for _ in range(3)
    ]
    base, spread = np.asarray(any_color(rng), np.float32), np.float32(rng.uniform(15, 70))
    image = np.asarray(cv2.merge([np.clip(base[k] + spread * planes[k], 0, 255) for k in range(3)]), np.float32)
    if kind < 0.5:
        image *= (1 + np.float32(0.3) * np.sin(np.arange(h, dtype=np.float32) * np.float32(rng.uniform(0.05, 2))))[
            :, None, None
        ]
    return np.clip(image, 0, 255).astype(np.uint8)


def screen(rng: np.random.Generator, size: Size) -> Image:
    """Colour bars, a menu or text on a plain screen: no camera connected."""
    h, w = size
    image = filled(size, pick(rng, ((0, 0, 0), (0, 0, 160), (40, 40, 44), (200, 200, 200)), 4))
    if rng.random() < 0.5:
        count = int(rng.integers(4, 10))
        for number in range(count):
            image[: int(h * 0.75), number * w // count : (number + 1) * w // count] = any_color(rng)
    for _ in range(int(rng.integers(1, 7))):
        at = (int(rng.uniform(0, 0.7) * w), int(rng.uniform(0.1, 0.95) * h))
        text = str(rng.choice(("NO SIGNAL", "12:40:07", "INPUT 2", "SDI 1080i", "REC", "00:13", "MENU", "CH 1", "L", "R")))
        cv2.putText(
            image,
            text,
            at,
            cv2.FONT_HERSHEY_DUPLEX,
            w / 640 * float(rng.uniform(0.5, 1.6)),
            (235, 235, 235),
            max(1, w // 400),
            cv2.LINE_AA,
        )
    return image


def smear(rng: np.random.Generator, size: Size) -> Image:
    """A dirty or wet lens: wide blurred streaks and blobs of colour."""
    image = filled(size, pick(rng, ((150, 80, 70), (90, 60, 60), (180, 150, 140), (60, 40, 40)), 15))
    for _ in range(int(rng.integers(2, 8))):
        line = np.rint(bent_line(rng, size)).astype(np.int32)
        color = pick(rng, ((200, 120, 100), (120, 20, 24), (220, 200, 180), (60, 30, 30), (230, 190, 110)), 15)
        cv2.polylines(image, [line], False, color, int(rng.uniform(0.05, 0.3) * size[1]) + 1, cv2.LINE_AA)
    return grain(rng, defocus(image, float(rng.uniform(0.02, 0.06)) * size[1]), float(rng.uniform(0, 4)))
