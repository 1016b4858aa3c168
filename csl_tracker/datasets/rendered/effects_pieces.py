"""Cut a rectangle out of a sample, resize it, and lay it onto another sample; labels and landmarks follow exactly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from csl_tracker.arrays import FloatArray, Image, Mask
from csl_tracker.datasets.blending import three_channels
from csl_tracker.datasets.sample import Sample, renumbered
from csl_tracker.pixels import Resize, Size


@dataclass(frozen=True)
class Box:
    """A rectangle of whole pixels.

    Attributes:
        left: First column.
        top: First row.
        width: Number of columns.
        height: Number of rows.
    """

    left: int
    top: int
    width: int
    height: int

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def whole(sample: Sample) -> Box:
    """The rectangle of the whole image."""
    return Box(0, 0, sample.image.shape[1], sample.image.shape[0])


def cut(sample: Sample, box: Box, size: Size, interpolation: int = cv2.INTER_LINEAR) -> Sample:
    """Cut out a rectangle and resize it.

    Args:
        sample: The frame.
        box: A rectangle within it.
        size: (height, width) of the result.
        interpolation: OpenCV's, for enlarging; a picture that shrinks is averaged.
    """
    target = (size[1], size[0])
    shrinks = size[0] <= box.height and size[1] <= box.width
    window = sample.image[box.slices]
    image = cv2.resize(window, target, interpolation=cv2.INTER_AREA if shrinks else interpolation)
    points = Resize(box.size, size).points(sample.landmarks - (box.left, box.top))
    inside = (points >= -0.5).all(axis=-1) & (points[..., 0] <= size[1] - 0.5) & (points[..., 1] <= size[0] - 0.5)

    def labels(values: Image | None) -> Image | None:
        if values is None:
            return None
        return np.asarray(cv2.resize(values[box.slices], target, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)

    return replace(
        sample,
        image=np.asarray(image, np.uint8),
        label_map=labels(sample.label_map),
        landmarks=np.where(inside[..., None], points, np.nan),
        instances=labels(sample.instances),
        anchors=Resize(box.size, size).points(sample.all_anchors - (box.left, box.top)),
    )


def lay(canvas: Sample, piece: Sample, left: int, top: int, alpha: FloatArray | None = None) -> Sample:
    """Lay a sample onto another, with the instruments of both.

    Args:
        canvas: The sample below; its landmarks below the piece become absent.
        piece: The sample above, entirely within the canvas.
        left: Column of the canvas for the piece's first column.
        top: Row of the canvas for the piece's first row.
        alpha: (height, width) of the piece: its opacity, 0..1; None if opaque. At 0.5, labels change from one to the other.
    """
    box = Box(left, top, piece.image.shape[1], piece.image.shape[0])
    above = np.ones(box.size, bool) if alpha is None else np.asarray(alpha >= 0.5)
    hidden = np.zeros(canvas.image.shape[:2], bool)
    hidden[box.slices] = above
    image = canvas.image.copy()
    if alpha is None:
        image[box.slices] = piece.image
    else:
        share = three_channels(alpha.astype(np.float32))
        below = image[box.slices].astype(np.float32)
        image[box.slices] = np.rint(below + share * (piece.image - below)).astype(np.uint8)
    below_points = absent(canvas.landmarks, hidden)
    instances = None if piece.instances is None else renumbered(piece.instances, len(canvas.landmarks))
    moved = absent(piece.landmarks, np.logical_not(above)) + np.array([left, top], np.float64)
    return replace(
        canvas,
        image=image,
        label_map=_joined(canvas.label_map, piece.label_map, box, above),
        landmarks=np.concatenate((below_points, moved)),
        labelled=np.concatenate((canvas.labelled, piece.labelled)),
        instances=_joined(canvas.instances, instances, box, above),
        anchors=np.concatenate((canvas.all_anchors, piece.all_anchors + np.array([left, top], np.float64))),
    )


def empty(like: Sample, color: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Sample:
    """A canvas of one colour without instruments; its label map is background."""
    shape = like.image.shape[:2]
    return replace(
        like,
        image=np.broadcast_to(np.rint(color).astype(np.uint8), like.image.shape).copy(),
        label_map=None if like.label_map is None else np.zeros(shape, np.uint8),
        landmarks=like.landmarks[:0],
        labelled=like.labelled[:0],
        instances=None if like.instances is None else np.zeros(shape, np.uint8),
        anchors=like.all_anchors[:0],
    )


def cover(sample: Sample, hidden: Mask) -> Sample:
    """Make the labels below an opaque overlay background, and the landmarks below it absent; the image stays."""
    zero = np.uint8(0)
    return replace(
        sample,
        label_map=None if sample.label_map is None else np.where(hidden, zero, sample.label_map),
        landmarks=absent(sample.landmarks, hidden),
        instances=None if sample.instances is None else np.where(hidden, zero, sample.instances),
    )


def absent(landmarks: FloatArray, hidden: Mask) -> FloatArray:
    """Landmarks (..., 2), px, with NaN for those whose pixel is hidden."""
    seen = np.asarray(np.isfinite(landmarks).all(axis=-1))
    places = np.rint(np.where(seen[..., None], landmarks, 0.0)).astype(int)
    columns = np.clip(places[..., 0], 0, hidden.shape[1] - 1)
    rows = np.clip(places[..., 1], 0, hidden.shape[0] - 1)
    stays = np.asarray(seen & ~hidden[rows, columns])
    return np.asarray(np.where(stays[..., None], landmarks, np.nan))


def _joined(below: Image | None, above: Image | None, box: Box, mask: Mask) -> Image | None:
    if below is None or above is None:
        return None
    joined: Image = below.copy()
    joined[box.slices] = np.where(mask, above, below[box.slices])
    return joined
