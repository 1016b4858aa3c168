"""Pixel conventions: the one home of half pixels.

Integer coordinates are pixel centres, as in OpenCV and in the messages: the top-left pixel's centre is (0, 0) and the
image covers [-0.5, width - 0.5]. A resize maps edges to edges, so that ``x_to = (x_from + 0.5) * s - 0.5``; this is what
``cv2.resize``, ``torch.nn.functional.interpolate(align_corners=False)`` and this module all do. Sizes are (height,
width), points are (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Size = tuple[int, int]
"""(height, width) in px."""

FloatArray = npt.NDArray[np.float64]


def from_corner(points: npt.ArrayLike) -> FloatArray:
    """Points as a program counts them that has its origin at the top-left *corner* of the top-left pixel.

    Foxglove's annotations and the boxes of ``vision_msgs`` do: there the image covers [0, width] and the first pixel's centre
    is (0.5, 0.5).

    Args:
        points: (..., 2), px, integer coordinates being pixel centres; NaN stays NaN.

    Returns:
        float64 (..., 2), px from the corner.
    """
    return np.asarray(points, np.float64) + 0.5


def to_center(points: npt.ArrayLike) -> FloatArray:
    """The inverse of :func:`from_corner`: points in px from the top-left corner, with integer coordinates as pixel centres.

    Args:
        points: (..., 2), px from the corner; NaN stays NaN.
    """
    return np.asarray(points, np.float64) - 0.5


@dataclass(frozen=True)
class Resize:
    """The map of pixel coordinates that a resize of an image makes; x and y have scales of their own.

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

    @property
    def inverse(self) -> Resize:
        """The map back."""
        return Resize(self.target, self.source)

    def points(self, points: npt.ArrayLike) -> FloatArray:
        """Map points of shape (..., 2); NaN stays NaN."""
        return (np.asarray(points, np.float64) + 0.5) * self.scale - 0.5

    def covariances(self, covariances: npt.ArrayLike) -> FloatArray:
        """Map covariances of shape (..., 2, 2): ``S C S^T`` with ``S = diag(scale)``."""
        scale = self.scale
        return np.asarray(covariances, np.float64) * (scale[:, None] * scale[None, :])

    def matrix(self) -> FloatArray:
        """The same map as a 2x3 matrix for ``cv2.warpAffine``'s forward direction."""
        scale = self.scale
        shift = 0.5 * scale - 0.5
        return np.array([[scale[0], 0.0, shift[0]], [0.0, scale[1], shift[1]]])


def resize_image(
    image: npt.NDArray[np.uint8], size: Size, target: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Resize by area means, so that nothing is aliased (bilinear where it grows).

    Args:
        image: uint8 (H, W) or (H, W, 3).
        size: (height, width) to reach, px.
        target: Contiguous uint8 memory of that size to write to; new memory when None.

    Returns:
        uint8, contiguous; without a target the image itself where it has that size and is.
    """
    if image.shape[:2] == size:
        if target is None:
            return np.ascontiguousarray(image)
        np.copyto(target, image)
        return target
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size[1], size[0]), target, interpolation=interpolation), np.uint8)
