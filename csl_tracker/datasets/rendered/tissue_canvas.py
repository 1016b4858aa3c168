"""A sheet of tissue as maps, and the shapes drawn on it: cells, folds, strands, vessels, lobes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array, FloatArray
from csl_tracker.datasets.blending import blend_color
from csl_tracker.datasets.rendered import srgb
from csl_tracker.datasets.synthetic.noise import fractal, smooth

Color = tuple[int, int, int]
"""8-bit sRGB."""


@dataclass(eq=False)
class Canvas:
    """Maps over a rectangle of the sheet; drawing changes them in place.

    Attributes:
        color: Linear albedo, float32 (h, w, 3), 0..1.
        height: Height towards the camera, mm, float32 (h, w).
        rough: Roughness of the surface under its wet film, float32 (h, w), 0..1.
        scale: Cells of the maps per mm.
        materials: Names of the materials that were painted.
    """

    color: Float32Array
    height: Float32Array
    rough: Float32Array
    scale: float
    materials: set[str] = field(default_factory=set)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the maps."""
        return self.height.shape[0], self.height.shape[1]

    def cells_of(self, mm: float) -> float:
        """Number of features of this size, mm, over the longer side, as the noise functions want it."""
        return max(0.5, max(self.size) / (self.scale * mm))

    def noise(self, rng: np.random.Generator, mm: float, octaves: int = 3, fall: float = 0.5) -> Float32Array:
        """Fractal noise of about unit variance with features of a size in mm."""
        return fractal(rng, self.size, min(self.cells_of(mm), max(self.size) / 2), octaves, fall)

    def tint(self, factor: Float32Array) -> None:
        """Multiply the colour by a plane."""
        self.color *= factor[..., None]

    def blend(self, alpha: Float32Array, color: npt.ArrayLike) -> None:
        """Blend an sRGB colour (3,) into the canvas."""
        blend_color(self.color, np.asarray(alpha, np.float32), srgb.decode(np.asarray(color, np.float32) / np.float32(255)))


def blank(size: tuple[int, int], scale: float, color: npt.ArrayLike) -> Canvas:
    """A flat canvas of one sRGB colour."""
    base = np.broadcast_to(srgb.decode(np.asarray(color, np.float32) / np.float32(255)), (*size, 3)).copy()
    return Canvas(base, np.zeros(size, np.float32), np.full(size, 0.4, np.float32), scale)


def step(values: Float32Array, low: float, high: float) -> Float32Array:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def grid(size: tuple[int, int]) -> tuple[Float32Array, Float32Array]:
    """(columns, rows) of every cell, float32 (h, w)."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    return columns, rows


def warp(rng: np.random.Generator, canvas: Canvas, mm: float, amount: float) -> tuple[Float32Array, Float32Array]:
    """(columns, rows) moved by noise with features of ``mm`` and displacements of ``amount`` mm."""
    columns, rows = grid(canvas.size)
    moved = np.float32(amount * canvas.scale)
    return columns + moved * canvas.noise(rng, mm, 2), rows + moved * canvas.noise(rng, mm, 2)


def cells(rng: np.random.Generator, canvas: Canvas, mm: float, wobble: float = 0.25) -> tuple[Float32Array, Float32Array]:
    """A pattern of cells, as lobules.

    Args:
        rng: Random generator.
        canvas: Gives size and scale.
        mm: Size of a cell.
        wobble: Distortion of the cells, as a share of their size.

    Returns:
        Distance to the border of the cell over half the cell's size, and a normal random value per cell; float32 (h, w).
    """
    h, w = canvas.size
    pitch = max(3.0, mm * canvas.scale)
    ny, nx = int(h / pitch) + 3, int(w / pitch) + 3
    at = np.moveaxis(np.mgrid[0:ny, 0:nx], 0, -1).reshape(-1, 2) + rng.uniform(-0.45, 0.45, (ny * nx, 2))
    seeds = np.ones((int((ny + 1) * pitch), int((nx + 1) * pitch)), np.uint8)
    spots = np.clip(np.rint((at + 0.5) * pitch).astype(int), 0, np.array(seeds.shape) - 1)
    seeds[spots[:, 0], spots[:, 1]] = 0
    labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]
    inside = np.ones(seeds.shape, np.uint8)
    inside[:, 1:] &= labels[:, 1:] == labels[:, :-1]
    inside[1:] &= labels[1:] == labels[:-1]
    border = cv2.distanceTransform(inside, cv2.DIST_L2, 3) / np.float32(pitch / 2)
    tones = rng.standard_normal(int(labels.max()) + 1).astype(np.float32)[labels]
    columns, rows = warp(rng, canvas, 2 * mm, wobble * mm)
    shift = np.float32(pitch)
    moved = [
        cv2.remap(plane, columns + shift, rows + shift, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for plane in (border, tones)
    ]
    return np.asarray(moved[0], np.float32), np.asarray(moved[1], np.float32)


def fibres(rng: np.random.Generator, canvas: Canvas, angle: float, length_mm: float, width_mm: float) -> Float32Array:
    """Streaks along a direction, of about unit variance."""
    columns, rows = warp(rng, canvas, 3 * length_mm, 0.14 * length_mm)
    c, s = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    along, across = columns * c + rows * s, rows * c - columns * s
    h, w = canvas.size
    reach = math.hypot(h, w)
    shape = (max(4, int(2 * reach / (width_mm * canvas.scale))), max(4, int(2 * reach / (length_mm * canvas.scale))))
    values = rng.standard_normal((min(shape[0], 1500), min(shape[1], 1500)), np.float32)
    u = (along / np.float32(2 * reach) + np.float32(0.5)) * np.float32(values.shape[1] - 1)
    v = (across / np.float32(2 * reach) + np.float32(0.5)) * np.float32(values.shape[0] - 1)
    streaks = cv2.remap(values, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(streaks / (streaks.std() + np.float32(1e-6)), np.float32)


def ridges(rng: np.random.Generator, canvas: Canvas, mm: float, octaves: int = 2) -> Float32Array:
    """Winding lines where noise crosses zero: 1 on a line, falling to 0 beside it; unit slope of the noise."""
    return np.asarray(np.exp(-np.abs(canvas.noise(rng, mm, octaves)) * 4), np.float32)


@dataclass(frozen=True, eq=False)
class Curve:
    """Coordinates along a curved line, float32 (h, w).

    Attributes:
        along: Position along the line, 0..1.
        across: Signed distance, map cells; its sign flips beyond the ends of the line.
        distance: Distance, map cells.
    """

    along: Float32Array
    across: Float32Array
    distance: Float32Array


def wander(
    rng: np.random.Generator, start: FloatArray, angle: float, length: float, bend: float, points: int = 40
) -> FloatArray:
    """A smooth line from a point, (points, 2): ``bend`` is the typical turn over its length, rad."""
    turn = np.cumsum(np.cumsum(rng.normal(0, 1, points)))
    turn = bend * (turn - turn[0]) / (np.abs(turn - turn[0]).max() + 1e-9)
    steps = np.stack([np.cos(angle + turn), np.sin(angle + turn)], -1) * length / (points - 1)
    return np.asarray(start + np.vstack([np.zeros(2), np.cumsum(steps[:-1], axis=0)]), float)


def curve_through(points: FloatArray, size: tuple[int, int]) -> Curve:
    """Coordinates along a polyline (n, 2) given in (x, y) map cells."""
    h, w = size
    shrink = 4
    gh, gw = max(2, h // shrink), max(2, w // shrink)
    x = ((np.arange(gw, dtype=np.float32) + np.float32(0.5)) * np.float32(w / gw) - np.float32(0.5))[None, :]
    y = ((np.arange(gh, dtype=np.float32) + np.float32(0.5)) * np.float32(h / gh) - np.float32(0.5))[:, None]
    best = np.full((gh, gw), np.inf, np.float32)
    along, across = np.zeros((gh, gw), np.float32), np.zeros((gh, gw), np.float32)
    count = len(points) - 1
    for number in range(count):
        (ax, ay), (bx, by) = points[number].astype(np.float32), points[number + 1].astype(np.float32)
        dx, dy = bx - ax, by - ay
        length2 = max(float(dx * dx + dy * dy), 1e-6)
        t = np.clip(((x - ax) * dx + (y - ay) * dy) / np.float32(length2), 0, 1)
        ox, oy = x - ax - t * dx, y - ay - t * dy
        square = ox * ox + oy * oy
        near = square < best
        side = np.sign(oy * dx - ox * dy)
        best = np.where(near, square, best)
        along = np.where(near, (t + number) / np.float32(count), along)
        across = np.where(near, side * np.sqrt(square), across)
    resized = [cv2.resize(plane, (w, h), interpolation=cv2.INTER_LINEAR) for plane in (along, across, np.sqrt(best))]
    return Curve(np.asarray(resized[0], np.float32), np.asarray(resized[1], np.float32), np.asarray(resized[2], np.float32))


def random_line(rng: np.random.Generator, canvas: Canvas, bend: float, inside: float = 0.3) -> FloatArray:
    """A line through the canvas; with probability ``inside`` it starts or ends in view."""
    h, w = canvas.size
    angle = float(rng.uniform(0, 2 * math.pi))
    middle = np.array([w, h]) * rng.uniform(0.2, 0.8, 2)
    length = 1.6 * math.hypot(h, w)
    start = middle - 0.5 * length * np.array([math.cos(angle), math.sin(angle)])
    if rng.random() < inside:
        start = middle - rng.uniform(-0.05, 0.1) * length * np.array([math.cos(angle), math.sin(angle)])
    return wander(rng, start, angle, length, bend)


def vessels(rng: np.random.Generator, canvas: Canvas, trees: int, radius_mm: float, branch: float = 0.05) -> Float32Array:
    """Branching vessels as a coverage map, float32 (h, w), 0..1, with radii that fall along each branch."""
    h, w = canvas.size
    cover = np.zeros((h, w), np.uint8)
    for _ in range(trees):
        stack = [
            (
                np.array([w, h]) * rng.uniform(-0.05, 1.05, 2),
                float(rng.uniform(0, 2 * math.pi)),
                radius_mm * float(rng.uniform(0.5, 1.3)),
            )
        ]
        budget = 12
        while stack and budget:
            budget -= 1
            _branch(rng, canvas, cover, stack, branch)
    soft: Float32Array = np.asarray(cv2.GaussianBlur(cover, (0, 0), 0.7), np.float32) / np.float32(255)
    return soft


def _branch(
    rng: np.random.Generator,
    canvas: Canvas,
    cover: npt.NDArray[np.uint8],
    stack: list[tuple[FloatArray, float, float]],
    branch: float,
) -> None:
    """Draw the stack's first vessel and push the branches that leave it."""
    point, angle, radius = stack.pop(0)
    count = int(rng.integers(15, 60))
    angles = angle + np.cumsum(rng.normal(0, 0.22, count))
    stride = max(2.0, 1.2 * canvas.scale)
    points = point + stride * np.cumsum(np.stack([np.cos(angles), np.sin(angles)], -1), axis=0)
    fixed = np.rint(16 * np.vstack([point[None], points])).astype(np.int32)
    for first in range(0, count, 8):
        thickness = 2 * radius * 0.985**first * canvas.scale
        strength = int(255 * min(1.0, thickness))
        cv2.polylines(cover, [fixed[first : first + 9]], False, strength, max(1, round(thickness)), cv2.LINE_AA, 4)
    for number in np.flatnonzero(rng.random(count) < branch):
        turn = float(rng.choice((-1, 1)) * rng.uniform(0.4, 1.1))
        stack.append((points[number], float(angles[number]) + turn, radius * 0.985**number * float(rng.uniform(0.5, 0.8))))


def soften(plane: Float32Array, sigma: float) -> Float32Array:
    """Gaussian blur; wide ones are computed on a smaller plane."""
    if sigma < 8:
        return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)
    h, w = plane.shape
    small = cv2.resize(plane, (max(1, w // 4), max(1, h // 4)), interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), (w, h), interpolation=cv2.INTER_LINEAR), np.float32
    )


def lay(canvas: Canvas, top: Canvas, cover: Float32Array) -> None:
    """Lay another canvas over this one where ``cover``, float32 (h, w) 0..1, is above zero; its height replaces the height."""
    three = cover[..., None]
    canvas.color += three * (top.color - canvas.color)
    canvas.height += cover * (top.height - canvas.height)
    canvas.rough += cover * (top.rough - canvas.rough)
    canvas.materials |= top.materials


def smooth_plane(rng: np.random.Generator, size: tuple[int, int], count: float) -> Float32Array:
    """Smooth noise with ``count`` features over the longer side."""
    return np.asarray(smooth(rng, size, count).reshape(size), np.float32)
