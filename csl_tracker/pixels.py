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

from csl_tracker.arrays import FloatArray

Size = tuple[int, int]
"""(height, width) in px."""


def parse_size(text: str) -> Size | None:
    """The (height, width) that a text such as ``480x640`` says; None where it is no size of at most 99999 px a side."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and len(side) < 6 and int(side) > 0 for side in sides):
        return None
    return int(sides[0]), int(sides[1])


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


def halvings(source: Size, target: Size) -> list[Size]:
    """Sizes that :func:`resize_image` goes through before the last step: half of each side, as often as both can be halved."""
    steps: list[Size] = []
    height, width = source
    while height % 2 == 0 and width % 2 == 0 and height >= 2 * target[0] and width >= 2 * target[1]:
        height, width = height // 2, width // 2
        steps.append((height, width))
    return steps


def halve(image: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
    """Mean of each 2x2 px, into memory of half the size where it is given; both sides are even."""
    size = (image.shape[1] // 2, image.shape[0] // 2)
    return np.asarray(cv2.resize(image, size, target, interpolation=cv2.INTER_AREA), np.uint8)


def last_interpolation(source: Size, target: Size) -> int:
    """OpenCV's number of the interpolation that takes :func:`resize_image` from the last of its halvings to the target."""
    shrinks = target[0] <= source[0] and target[1] <= source[1]
    # Between one and two px of the source for one of the target: a bilinear sample leaves none of them out.
    much = source[0] > 2 * target[0] or source[1] > 2 * target[1]
    return cv2.INTER_AREA if shrinks and much else cv2.INTER_LINEAR


def resize_image(
    image: npt.NDArray[np.uint8], size: Size, target: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Resize as mipmaps do: means of 2x2 px while the image stays large enough, and the rest bilinearly.

    Where an odd side stands in the way of halving, area means take its place: slower, and nothing is aliased either.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        size: (height, width) to reach, px.
        target: Contiguous uint8 memory of that size to write to; new memory when None.

    Returns:
        uint8, contiguous; without a target the image itself where it has that size and is.
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
    """The last step of :func:`resize_image` as two matrices, for devices: ``rows @ plane @ columns.T``, rounded.

    Args:
        source: (height, width) after the halvings.
        target: (height, width) to reach.

    Returns:
        float32 (h, H) and float32 (w, W).
    """
    interpolation = last_interpolation(source, target)
    rows, columns = (
        np.asarray(cv2.resize(np.eye(old, dtype=np.float32), (old, new), interpolation=interpolation), np.float32)
        for old, new in zip(source, target, strict=True)
    )
    return rows, columns
