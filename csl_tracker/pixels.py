"""Pixel conventions; all half-pixel offsets are defined here.

Integer coordinates are pixel centres, as in OpenCV and in the messages: the top-left pixel's centre is (0, 0) and the
image covers [-0.5, width - 0.5]. A resize maps edges to edges: ``x_to = (x_from + 0.5) * s - 0.5``, as in ``cv2.resize``
and ``torch.nn.functional.interpolate(align_corners=False)``. Sizes are (height, width), points are (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray

Size = tuple[int, int]
"""(height, width) in px."""


def parse_size(text: str) -> Size | None:
    """Parse (height, width) from text such as ``480x640``; None if invalid or a side exceeds 99999 px."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and len(side) < 6 and int(side) > 0 for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def from_corner(points: npt.ArrayLike) -> FloatArray:
    """Convert points to coordinates with the origin at the top-left *corner* of the top-left pixel.

    Foxglove annotations and ``vision_msgs`` boxes use this convention: the image covers [0, width] and the first pixel's
    centre is (0.5, 0.5).

    Args:
        points: (..., 2), px, integer coordinates are pixel centres; NaN stays NaN.

    Returns:
        float64 (..., 2), px from the corner.
    """
    return np.asarray(points, np.float64) + 0.5


def to_center(points: npt.ArrayLike) -> FloatArray:
    """The inverse of :func:`from_corner`, for points of shape (..., 2); NaN stays NaN."""
    return np.asarray(points, np.float64) - 0.5


@dataclass(frozen=True)
class Resize:
    """The coordinate mapping of an image resize; x and y have separate scales.

    Attributes:
        source: Size before, (height, width).
        target: Size after, (height, width).
    """

    source: Size
    target: Size

    @property
    def scale(self) -> FloatArray:
        """Target px per source px, as (x, y)."""
        return np.array([self.target[1] / self.source[1], self.target[0] / self.source[0]])

    def points(self, points: npt.ArrayLike) -> FloatArray:
        """Map points of shape (..., 2); NaN stays NaN."""
        return (np.asarray(points, np.float64) + 0.5) * self.scale - 0.5

    def covariances(self, covariances: npt.ArrayLike) -> FloatArray:
        """Map covariances of shape (..., 2, 2): ``S C S^T`` with ``S = diag(scale)``."""
        scale = self.scale
        return np.asarray(covariances, np.float64) * (scale[:, None] * scale[None, :])

    def matrix(self) -> FloatArray:
        """The mapping as a 2x3 forward matrix for ``cv2.warpAffine``."""
        scale = self.scale
        shift = 0.5 * scale - 0.5
        return np.array([[scale[0], 0.0, shift[0]], [0.0, scale[1], shift[1]]])


def halvings(source: Size, target: Size) -> list[Size]:
    """Intermediate sizes of :func:`resize_image`: both sides are halved as often as possible."""
    steps: list[Size] = []
    height, width = source
    while height % 2 == 0 and width % 2 == 0 and height >= 2 * target[0] and width >= 2 * target[1]:
        height, width = height // 2, width // 2
        steps.append((height, width))
    return steps


def halve(image: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
    """Mean of each 2x2 px block, optionally written to ``target``; both sides must be even."""
    size = (image.shape[1] // 2, image.shape[0] // 2)
    return np.asarray(cv2.resize(image, size, target, interpolation=cv2.INTER_AREA), np.uint8)


def last_interpolation(source: Size, target: Size) -> int:
    """OpenCV interpolation flag of the last step of :func:`resize_image`, after the halvings."""
    shrinks = target[0] <= source[0] and target[1] <= source[1]
    # Up to a factor of two, bilinear sampling uses every source pixel.
    aliases = source[0] > 2 * target[0] or source[1] > 2 * target[1]
    return cv2.INTER_AREA if shrinks and aliases else cv2.INTER_LINEAR


def resize_image(
    image: npt.NDArray[np.uint8], size: Size, target: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Resize like a mipmap: halve (2x2 means) while the image stays large enough, then resize bilinearly.

    If an odd side prevents halving, area interpolation is used instead: slower, but also without aliasing.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        size: (height, width) of the result, px.
        target: Contiguous uint8 buffer of that size for the result; a new array if None.

    Returns:
        uint8, contiguous; may be the image itself if it already has that size and there is no target.
    """
    for _ in halvings((image.shape[0], image.shape[1]), size):
        image = halve(image)
    if image.shape[:2] == size:
        if target is None:
            return np.ascontiguousarray(image)
        np.copyto(target, image)
        return target
    interpolation = last_interpolation((image.shape[0], image.shape[1]), size)
    return np.asarray(cv2.resize(image, (size[1], size[0]), target, interpolation=interpolation), np.uint8)


def resize_matrices(source: Size, target: Size) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The last step of :func:`resize_image` as two matrices, for GPUs: ``rows @ channel @ columns.T``, rounded.

    Args:
        source: (height, width) after the halvings.
        target: (height, width) of the result.

    Returns:
        float32 (h, H) and float32 (w, W).
    """
    interpolation = last_interpolation(source, target)
    rows, columns = (
        np.asarray(cv2.resize(np.eye(old, dtype=np.float32), (old, new), interpolation=interpolation), np.float32)
        for old, new in zip(source, target, strict=True)
    )
    return rows, columns
