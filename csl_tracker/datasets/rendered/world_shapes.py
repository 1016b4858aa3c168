"""Drawing helpers for procedural backgrounds: noise, planes in perspective, round bodies, light."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array, FloatArray, Image
from csl_tracker.datasets.rendered.tissue_canvas import curve_through
from csl_tracker.datasets.synthetic.noise import fractal, smooth

Size = tuple[int, int]
"""(height, width), px."""
Color = tuple[int, int, int]
"""8-bit RGB."""


def pick(rng: np.random.Generator, colors: tuple[Color, ...], spread: float = 8) -> Color:
    """One of the colours, slightly changed."""
    change = rng.normal(0, spread) + rng.normal(0, 0.4 * spread, 3)
    values = np.clip(np.asarray(colors[int(rng.integers(len(colors)))]) + change, 0, 255)
    return int(values[0]), int(values[1]), int(values[2])


def any_color(rng: np.random.Generator) -> Color:
    """A random colour of medium saturation."""
    hsv = np.array([[[rng.integers(180), rng.integers(20, 230), rng.integers(30, 250)]]], np.uint8)
    values = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0]
    return int(values[0]), int(values[1]), int(values[2])


def filled(size: Size, color: Color) -> Image:
    """A picture of one colour."""
    return np.full((*size, 3), color, np.uint8)


def noise_plane(rng: np.random.Generator, size: Size, cells: float, octaves: int = 2) -> Float32Array:
    """Noise of unit variance; coarse noise is computed on a small plane."""
    shrink = 4 if cells * 2**octaves < max(size) / 10 else 1
    small = (max(2, size[0] // shrink), max(2, size[1] // shrink))
    plane = fractal(rng, small, cells, octaves) if octaves > 1 else smooth(rng, small, cells).reshape(small)
    if shrink == 1:
        return plane
    return np.asarray(cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def shade(image: Image, gain: Float32Array) -> Image:
    """Multiply a picture by a plane."""
    return np.asarray(cv2.multiply(image, cv2.merge((gain, gain, gain)), dtype=cv2.CV_8U), np.uint8)


def textured(rng: np.random.Generator, image: Image, strength: float, cells: float, octaves: int = 2) -> Image:
    """Uneven brightness."""
    h, w = image.shape[:2]
    return shade(image, 1 + np.float32(strength) * noise_plane(rng, (h, w), cells, octaves))


def grain(rng: np.random.Generator, image: Image, sigma: float) -> Image:
    """Fine noise; one tile is repeated, which is fast and not seen."""
    h, w = image.shape[:2]
    tile = rng.normal(0, sigma, (160, 160, 1)).astype(np.float32)
    plane = np.tile(tile, (h // 160 + 1, w // 160 + 1, 1))[:h, :w, 0]
    return np.asarray(cv2.add(image, cv2.merge((plane, plane, plane)), dtype=cv2.CV_8U), np.uint8)


def blend(image: Image, cover: Float32Array, top: Image | Color) -> Image:
    """Blend a picture or a colour where ``cover``, float32 (h, w) 0..1, is above 0."""
    other = top if isinstance(top, np.ndarray) else filled((image.shape[0], image.shape[1]), top)
    return np.asarray(cv2.blendLinear(image, other, 1 - cover, np.ascontiguousarray(cover)), np.uint8)


def homography(rng: np.random.Generator, texture: Size, size: Size, span: tuple[float, float], tilt: float = 0.9) -> FloatArray:
    """View of a flat rectangle.

    Args:
        rng: Random generator.
        texture: (height, width) of the rectangle's picture.
        size: (height, width) of the view.
        span: Range of the rectangle's longer side over the view's width.
        tilt: Largest tilt, rad.

    Returns:
        float64 (3, 3), from pixels of the rectangle's picture to pixels of the view.
    """
    th, tw = texture
    h, w = size
    corners = np.array([(-tw, -th), (tw, -th), (tw, th), (-tw, th)], float) / (2 * max(th, tw))
    turn = rng.normal(0, 0.35) + (rng.integers(4) * math.pi / 2 if rng.random() < 0.3 else 0)
    c, s = math.cos(turn), math.sin(turn)
    flat = corners @ np.array([(c, s), (-s, c)])
    slope = np.clip(rng.normal(0, 0.4 * tilt, 2), -tilt, tilt)
    a, b = math.cos(slope[0]), math.cos(slope[1])
    depth = 1 + 0.8 * (flat[:, 0] * math.sin(slope[0]) + flat[:, 1] * math.sin(slope[1]))
    scale = rng.uniform(*span) * w
    at = np.array([w, h]) * rng.normal(0.5, 0.14, 2)
    view = at + flat * np.array([a, b]) * scale / np.maximum(depth, 0.35)[:, None]
    source = np.array([(0, 0), (tw, 0), (tw, th), (0, th)], np.float32) - np.float32(0.5)
    return np.asarray(cv2.getPerspectiveTransform(source, view.astype(np.float32)), float)


def lay_flat(image: Image, texture: Image, matrix: FloatArray, shadow: float = 0.4) -> Image:
    """Lay a flat picture into the view, with a soft shadow under it."""
    h, w = image.shape[:2]
    cover = cv2.warpPerspective(np.full(texture.shape[:2], 255, np.uint8), matrix, (w, h), flags=cv2.INTER_LINEAR)
    if shadow > 0:
        image = drop_shadow(image, np.asarray(cover, np.uint8), shadow)
    warped = cv2.warpPerspective(texture, matrix, (w, h), flags=cv2.INTER_AREA)
    return blend(image, cover.astype(np.float32) / np.float32(255), np.asarray(warped, np.uint8))


def drop_shadow(image: Image, cover: Image, strength: float, offset: float = 0.012) -> Image:
    """Darken the picture beside and below a shape, uint8 (h, w)."""
    h, w = cover.shape
    small = cv2.resize(cover, (max(1, w // 4), max(1, h // 4)), interpolation=cv2.INTER_AREA)
    move = np.array([[1, 0, offset * w / 4], [0, 1, 1.4 * offset * w / 4]], np.float32)
    small = cv2.GaussianBlur(cv2.warpAffine(small, move, (small.shape[1], small.shape[0])), (0, 0), max(0.5, offset * w / 5))
    dark = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.float32) * np.float32(strength / 255)
    return shade(image, 1 - dark)


def round_body(
    rng: np.random.Generator, image: Image, points: npt.ArrayLike, radius: tuple[float, float], color: Color, gloss: float = 0.3
) -> Image:
    """Draw a long round body, such as a finger or a cable, along a polyline (n, 2) in (x, y) px.

    Args:
        rng: Random generator.
        image: The picture.
        points: Centre line.
        radius: Radius at its start and end, px.
        color: Colour where it faces the camera.
        gloss: Strength of the highlight, 0..1.
    """
    line = np.asarray(points, float)
    box = around(image, line, 1.1 * max(radius) + 2)
    if box is None:
        return image
    part_of = np.ascontiguousarray(image[box])
    h, w = part_of.shape[:2]
    curve = curve_through(line - [box[1].start, box[0].start], (h, w))
    size = np.float32(radius[0]) + np.float32(radius[1] - radius[0]) * curve.along
    part = curve.distance / np.maximum(size, np.float32(0.5))
    cover: Float32Array = np.clip((1 - part) * size + np.float32(0.5), 0, 1)
    facing = np.sqrt(np.clip(1 - part * part, 0, 1))
    gain = np.float32(0.35) + np.float32(0.65) * facing + np.float32(0.03) * noise_plane(rng, (h, w), 12, 1)
    top = shade(filled((h, w), color), np.asarray(gain, np.float32))
    light: Float32Array = np.clip((facing - np.float32(0.93)) * np.float32(14), 0, 1) * np.float32(gloss)
    part_of = drop_shadow(part_of, (cover * 255).astype(np.uint8), 0.35, 0.012 * image.shape[1] / w)
    result: Image = image.copy()
    result[box] = blend(part_of, cover, blend(top, light, (255, 255, 250)))
    return result


def around(image: Image, points: FloatArray, margin: float) -> tuple[slice, slice] | None:
    """The part of the picture near some points, with room for a shadow; None if they are out of view."""
    h, w = image.shape[:2]
    low = np.floor(points.min(axis=0) - margin - 0.01 * w).astype(int)
    high = np.ceil(points.max(axis=0) + margin + 0.05 * w).astype(int)
    rows, columns = slice(max(0, low[1]), min(h, high[1])), slice(max(0, low[0]), min(w, high[0]))
    if rows.stop - rows.start < 8 or columns.stop - columns.start < 8:
        return None
    return rows, columns


def bent_line(rng: np.random.Generator, size: Size, bend: float = 0.25, points: int = 12) -> FloatArray:
    """A smooth line across the picture, (points, 2)."""
    h, w = size
    ends = rng.uniform(-0.2, 1.2, (4, 2)) * [w, h]
    ends[1:3] = ends[[0, 3]].mean(axis=0) + rng.normal(0, bend, (2, 2)) * [w, h]
    t = np.linspace(0, 1, points)[:, None]
    return np.asarray((1 - t) ** 3 * ends[0] + 3 * t * (1 - t) ** 2 * ends[1] + 3 * t * t * (1 - t) * ends[2] + t**3 * ends[3])


def lamp(rng: np.random.Generator, image: Image, even: float | None = None) -> Image:
    """Light from beside the lens or from the room: a bright middle, dark corners, a colour cast.

    Args:
        rng: Random generator.
        image: The evenly lit picture.
        even: 1 keeps the light even, 0 is a narrow spot; None draws it.
    """
    h, w = image.shape[:2]
    even = float(rng.uniform(0, 1)) if even is None else even
    gh, gw = max(2, h // 8), max(2, w // 8)
    at = rng.normal(0.5, 0.12, 2)
    y = (np.arange(gh, dtype=np.float32)[:, None] / np.float32(gh) - np.float32(at[1])) * np.float32(h / w)
    x = np.arange(gw, dtype=np.float32)[None] / np.float32(gw) - np.float32(at[0])
    reach = 0.4 + 1.1 * even
    gain = 1 / (1 + (x * x + y * y) / np.float32(reach**2)) ** 2
    gain = np.float32(math.exp(rng.normal(0.15, 0.3))) * gain
    planes = [cv2.resize(np.asarray(gain * np.float32(cast), np.float32), (w, h)) for cast in np.exp(rng.normal(0, 0.05, 3))]
    return np.asarray(cv2.multiply(image, cv2.merge(planes), dtype=cv2.CV_8U), np.uint8)


def glare(rng: np.random.Generator, image: Image, count: int = 1) -> Image:
    """White reflections of the lights."""
    h, w = image.shape[:2]
    small = np.zeros((max(2, h // 4), max(2, w // 4)), np.uint8)
    for _ in range(count):
        at = (int(rng.uniform(0.1, 0.9) * small.shape[1]), int(rng.uniform(0.1, 0.9) * small.shape[0]))
        axes = (max(1, int(rng.uniform(0.01, 0.10) * w / 4)), max(1, int(rng.uniform(0.01, 0.10) * w / 4)))
        cv2.ellipse(small, at, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
    small = np.asarray(cv2.GaussianBlur(small, (0, 0), float(rng.uniform(0.005, 0.04)) * w / 4 + 0.3), np.uint8)
    cover = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.float32) / np.float32(255)
    return blend(image, cover * np.float32(rng.uniform(0.5, 1.0)), (255, 255, 252))


def defocus(image: Image, sigma: float) -> Image:
    """Blur; wide blurs are computed on a smaller picture."""
    h, w = image.shape[:2]
    if sigma < 4:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), max(sigma, 0.2)), np.uint8)
    small = cv2.resize(image, (max(1, w // 4), max(1, h // 4)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), (w, h), interpolation=cv2.INTER_LINEAR), np.uint8)
