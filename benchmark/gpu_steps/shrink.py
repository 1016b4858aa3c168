"""Shrink the items of a bank of rendered instruments and scenes, with the cameras that belong to them.

Colour is averaged over areas, labels and depth are sampled at the nearest pixel; depth is also rounded, since its noise would
be half of the bytes. Both sides shrink by exactly the same factor, so that the camera keeps square pixels and a principal point
in the middle.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, Image
from csl_tracker.datasets.rendered.bank import Item, WholeScene
from csl_tracker.datasets.rendered.mesh_scene import View
from csl_tracker.datasets.rendered.sprites import Sprite
from csl_tracker.pixels import Resize, Size

DEPTH_STEP_M = 2e-4
"""Depth is a multiple of this; frames order their surfaces to a millimetre."""
_OPAQUE = 255


def shrink(item: Item, width: int) -> Item:
    """Shrink an item whose view is wider than ``width``; see :func:`exact_size`."""
    if isinstance(item, Sprite):
        return _sprite(item, width)
    target = exact_size((item.image.shape[0], item.image.shape[1]), width)
    if target == item.image.shape[:2]:
        return item
    image = np.asarray(cv2.resize(item.image, target[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    if not isinstance(item, WholeScene):
        return replace(item, image=image)
    planes = {name: nearest(getattr(item, name), target) for name in ("labels", "instances")}
    depth = _rounded(nearest(item.depth, target))
    return replace(item, image=image, depth=depth, view=_view(item.view, target), **planes)


def exact_size(size: Size, width: int) -> Size:
    """The largest (height, width) with the same ratio that is no wider than ``width``; ``size`` itself if there is none."""
    step = size[1] // math.gcd(*size)
    fitting = width // step * step
    if size[1] <= width or fitting == 0:
        return size
    return size[0] * fitting // size[1], fitting


def nearest(plane: Any, target: Size) -> Any:
    """Sample (h, w) at the pixels nearest to the centres of the target's pixels."""
    back = Resize(target, (plane.shape[0], plane.shape[1]))
    longest = np.arange(max(target))
    found = np.rint(back.points(np.stack([longest, longest], axis=1))).astype(int)
    return np.ascontiguousarray(plane[np.ix_(found[: target[0], 1], found[: target[1], 0])])


def _rounded(depth: Float32Array) -> Float32Array:
    return np.asarray(np.rint(depth / DEPTH_STEP_M) * DEPTH_STEP_M, np.float32)


def _view(view: View, target: Size) -> View:
    return View(target, view.focal_px * target[1] / view.size[1])


def _sprite(sprite: Sprite, width: int) -> Sprite:
    source = sprite.view.size
    target = exact_size(source, width)
    if target == source:
        return sprite
    # Pixels of the box do not align with those of the smaller view, so the whole view is resized and cut again.
    (h, w), (left, top) = sprite.labels.shape, sprite.corner
    there = np.s_[top : top + h, left : left + w]
    (first_row, last_row), (first_column, last_column) = (
        (begin * new // old, -(-(begin + length) * new // old))
        for begin, length, new, old in zip((top, left), (h, w), target, source, strict=True)
    )
    box = np.s_[first_row:last_row, first_column:last_column]

    def sampled(plane: Any) -> Any:
        full = np.zeros(source, plane.dtype)
        full[there] = plane
        return np.ascontiguousarray(nearest(full, target)[box])

    return replace(
        sprite,
        rgba=np.ascontiguousarray(_averaged(sprite.rgba, there, source, target)[box]),
        labels=sampled(sprite.labels),
        depth=_rounded(sampled(sprite.depth)),
        corner=(first_column, first_row),
        view=_view(sprite.view, target),
    )


def _averaged(rgba: Image, there: Any, source: Size, target: Size) -> Image:
    """The whole view, averaged over areas with colour weighted by alpha, uint8 (h, w, 4)."""
    alpha = rgba[..., 3:].astype(np.float32)
    full = np.zeros((*source, 4), np.float32)
    full[there] = np.concatenate([rgba[..., :3] * (alpha / _OPAQUE), alpha], axis=2)
    small = cv2.resize(full, target[::-1], interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:] / _OPAQUE, 1 / _OPAQUE)
    return np.asarray(np.rint(np.clip(small, 0, _OPAQUE)), np.uint8)
