"""Where a sprite goes in a frame: a similarity transform that keeps the cut end of the shaft out of view."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, FloatArray, LabelMap, Mask
from csl_tracker.datasets.rendered.sprites import Sprite
from csl_tracker.pixels import Resize, Size

_STEP = 0.03  # image widths
_STEPS = 40
_HALVING = 0.62  # below this scale, a sprite is first halved, against aliasing
_SPREAD = 0.2  # image widths, of the wrist around the middle
_MARGIN = 1.5  # px


@dataclass(frozen=True)
class Placed:
    """A sprite in a frame.

    Attributes:
        color: float32 (h, w, 3), 0..255, premultiplied by alpha.
        alpha: float32 (h, w), 0..1.
        labels: uint8 (h, w), parts of :mod:`csl_tracker.datasets.rendered.tool`.
        depth: float32 (h, w), m at the frame's scale; infinite outside.
        matrix: From px of the sprite's view to px of the frame, float64 (2, 3).
        depth_divisor: Factor by which the matrix brings the tool nearer.
    """

    color: Float32Array
    alpha: Float32Array
    labels: LabelMap
    depth: Float32Array
    matrix: FloatArray
    depth_divisor: float

    @property
    def mask(self) -> Mask:
        """Pixels of the tool, bool (h, w)."""
        return self.labels > 0


def draw_matrix(rng: np.random.Generator, sprite: Sprite, size: Size, target: FloatArray | None = None) -> FloatArray:
    """Draw a similarity from px of the sprite's view to px of a frame, float64 (2, 3).

    Args:
        rng: Random generator.
        sprite: The sprite.
        size: (height, width) of the frame.
        target: Where the wrist goes, px; drawn around the middle when None.
    """
    h, w = size
    zoom = w / sprite.view.size[1] * np.exp(rng.uniform(np.log(0.62), np.log(1.7)))
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < 0.12 else rng.normal(0, 0.3)
    c, s = zoom * np.cos(angle), zoom * np.sin(angle)
    linear = np.array([[c, -s], [s, c]])
    if rng.random() < 0.5:
        linear[:, 0] *= -1
    wrist = sprite.view.project(sprite.tool.links["yaw"][None, :3, 3])[0]
    if not np.isfinite(wrist).all():
        wrist = (np.array(sprite.view.size[::-1]) - 1) / 2
    if target is None:
        target = np.array([w, h]) * (0.5 + rng.normal(0, _SPREAD, 2))
    matrix = np.concatenate([linear, (target - linear @ wrist)[:, None]], axis=1)
    return _pushed_out(sprite, matrix, wrist, size)


def _cut_end(sprite: Sprite) -> FloatArray:
    """Pixels of the tool on the border of its view, float64 (n, 2); there the shaft is cut."""
    h, w = sprite.view.size
    rows, columns = np.nonzero(sprite.labels)
    rows, columns = rows + sprite.corner[1], columns + sprite.corner[0]
    border = (rows == 0) | (columns == 0) | (rows == h - 1) | (columns == w - 1)
    return np.stack([columns[border], rows[border]], axis=1).astype(np.float64)


def _pushed_out(sprite: Sprite, matrix: FloatArray, wrist: FloatArray, size: Size) -> FloatArray:
    """Move the sprite towards its shaft until the cut end is out of the frame."""
    cut = _cut_end(sprite)
    if not len(cut):
        return matrix
    h, w = size
    where = cut @ matrix[:, :2].T + matrix[:, 2]
    away = where.mean(axis=0) - (matrix[:, :2] @ wrist + matrix[:, 2])
    length = float(np.linalg.norm(away))
    away = away / length if length > 1 else np.array([1.0, 0.0])
    moved = matrix.copy()
    for _ in range(_STEPS):
        inside = (where > -0.5 - _MARGIN).all(axis=1) & (where[:, 0] < w - 0.5 + _MARGIN) & (where[:, 1] < h - 0.5 + _MARGIN)
        if not inside.any():
            break
        moved[:, 2] += _STEP * w * away
        where = where + _STEP * w * away
    return np.asarray(moved, np.float64)


def place(sprite: Sprite, matrix: FloatArray, size: Size) -> Placed:
    """Warp a sprite into a frame.

    Args:
        sprite: The sprite.
        matrix: From px of its view to px of the frame, a similarity, float64 (2, 3).
        size: (height, width) of the frame.
    """
    h, w = size
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    to_view = np.array([[1.0, 0.0, sprite.corner[0]], [0.0, 1.0, sprite.corner[1]], [0.0, 0.0, 1.0]])
    nearest = matrix @ to_view
    rgba = sprite.rgba.astype(np.float32)
    rgba[..., :3] *= rgba[..., 3:] / 255
    smooth = nearest
    if zoom < _HALVING and min(rgba.shape[:2]) > 1:
        old = (rgba.shape[0], rgba.shape[1])
        half = ((old[0] + 1) // 2, (old[1] + 1) // 2)
        rgba = np.asarray(cv2.resize(rgba, (half[1], half[0]), interpolation=cv2.INTER_AREA), np.float32)
        smooth = nearest @ np.vstack([Resize(half, old).matrix(), [0, 0, 1]])
    warped = cv2.warpAffine(rgba, smooth, (w, h), flags=cv2.INTER_LINEAR)
    labels = cv2.warpAffine(sprite.labels, nearest, (w, h), flags=cv2.INTER_NEAREST)
    depth = cv2.warpAffine(sprite.depth, nearest, (w, h), flags=cv2.INTER_NEAREST)
    nearer = zoom * sprite.view.size[1] / w
    scaled = np.where((depth > 0) & (labels > 0), depth / np.float32(nearer), np.float32(np.inf))
    return Placed(
        np.asarray(warped[..., :3], np.float32),
        np.asarray(warped[..., 3] / np.float32(255), np.float32),
        np.asarray(labels, np.uint8),
        np.asarray(scaled, np.float32),
        matrix,
        nearer,
    )
