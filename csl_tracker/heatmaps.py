"""Heatmaps: landmarks to Gaussians, and back with sub-pixel positions, covariances and confidences.

Coordinates here are px of the heatmap; ``csl_tracker.pixels`` carries them to the source image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float64]

_FIT_RADIUS_SIGMAS = 0.75
_MIN_SIGMA_PX = 0.25
"""Smallest standard deviation that is stated for a peak, px of the heatmap: what rounding of the network's output leaves."""
_LEAST_POSITIVE = np.nextafter(np.float32(0), np.float32(1))
_LEAST_SPREAD = 1e-12
"""Least share that the smallest eigenvalue of a fit's normal equations has of the largest: below it the fit says nothing."""


@dataclass(frozen=True)
class HeatmapSpec:
    """Shape of a landmark's Gaussian.

    Attributes:
        sigma: Standard deviation, px of the heatmap.
        peak: Height. The paper's is ``1 / sqrt(2 pi sigma^2)`` (:meth:`paper`); 1 makes heights confidences.
    """

    sigma: float
    peak: float = 1.0

    def __post_init__(self) -> None:
        """Reject impossible shapes.

        Raises:
            ValueError: Sigma or peak is not a positive number.
        """
        if not (math.isfinite(self.sigma) and self.sigma > 0 and math.isfinite(self.peak) and self.peak > 0):
            raise ValueError(f"a heatmap needs a positive sigma and peak, not sigma={self.sigma}, peak={self.peak}")

    @classmethod
    def paper(cls, sigma: float) -> HeatmapSpec:
        """The target of equation (2) of Laina et al. 2017: sigma 5 for RM, 7 for EndoVis at 640x480."""
        return cls(sigma, 1.0 / math.sqrt(2.0 * math.pi * sigma**2))

    def to_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeatmapSpec:
        """Rebuild from :meth:`to_dict`'s output."""
        return cls(float(data["sigma"]), float(data["peak"]))


def encode(points: Tensor, size: tuple[int, int], spec: HeatmapSpec) -> Tensor:
    """Draw one heatmap per landmark; several instruments share it by their maximum.

    Args:
        points: (..., instruments, landmarks, 2), (x, y) in heatmap px; NaN draws nothing.
        size: (height, width) of the maps.
        spec: Shape of the Gaussians.

    Returns:
        (..., landmarks, height, width), the dtype and device of ``points``: ``peak * exp(-|y - p|^2 / (2 sigma^2))``.
    """
    rows = torch.arange(size[0], dtype=points.dtype, device=points.device)
    columns = torch.arange(size[1], dtype=points.dtype, device=points.device)
    scale = -0.5 / spec.sigma**2
    gx = torch.exp(scale * (columns - points[..., 0, None]) ** 2)
    gy = torch.exp(scale * (rows - points[..., 1, None]) ** 2)
    maps = torch.nan_to_num(gy[..., :, None] * gx[..., None, :], nan=0.0)
    if maps.shape[-4] == 0:
        return maps.sum(dim=-4)
    return spec.peak * maps.amax(dim=-4)


@dataclass(frozen=True)
class Peak:
    """One local maximum of a heatmap.

    Attributes:
        x: Column, px of the heatmap, sub-pixel.
        y: Row.
        covariance: float64 (2, 2), px^2 of the heatmap: what the peak is wider than the Gaussian it was trained on.
        confidence: 0..1, the height over the spec's.
    """

    x: float
    y: float
    covariance: FloatArray
    confidence: float


def find_peaks(heatmap: npt.NDArray[np.float32], spec: HeatmapSpec, count: int) -> list[Peak]:
    """The highest local maxima, highest first, at least two sigmas apart.

    The position is that of a Gaussian fitted to the logarithm of the map around the maximum (weighted least squares, the
    weights being the squared heights; for a pure Gaussian this is exact, as in DARK, Zhang et al. 2020). A network that is
    unsure spreads the expected Gaussian; the fitted covariance less the spec's is therefore the landmark's own.

    Args:
        heatmap: float32 (height, width).
        spec: What the network was trained to draw.
        count: Largest number of peaks.

    Returns:
        Up to ``count`` peaks; where the map is nowhere positive its highest point alone, and none where it is flat.
    """
    return decode(heatmap[None], spec, count)[0]


def decode(heatmaps: npt.NDArray[np.float32], spec: HeatmapSpec, count: int) -> list[list[Peak]]:
    """Peaks of every landmark: :func:`find_peaks` on float32 (landmarks, height, width)."""
    if count < 1 or heatmaps.size == 0:
        return [[] for _ in heatmaps]
    clean = heatmaps
    if not np.isfinite(heatmaps.sum(dtype=np.float64)):
        clean = np.nan_to_num(heatmaps, nan=0.0, posinf=0.0, neginf=0.0)
    places = [_summits(heatmap, spec, count) for heatmap in clean]
    maxima = [(index, row, column) for index, found in enumerate(places) for row, column in found]
    # All peaks of an image are fitted at once: small matrices cost their number of calls and not their size.
    fitted = iter(_fit(clean, maxima, spec) if maxima else [])
    return [[next(fitted) for _ in found] or _highest_point(clean[i], spec) for i, found in enumerate(places)]


def _summits(heatmap: npt.NDArray[np.float32], spec: HeatmapSpec, count: int) -> list[tuple[int, int]]:
    """(row, column) of the highest positive local maxima of a finite map, highest first."""
    reach = max(1, round(2 * spec.sigma))
    neighbourhood = cv2.dilate(heatmap, _square(2 * reach + 1), borderType=cv2.BORDER_REPLICATE)
    np.maximum(neighbourhood, _LEAST_POSITIVE, out=neighbourhood)
    places = np.flatnonzero(heatmap >= neighbourhood)
    heights = heatmap.ravel()[places]
    taken: list[tuple[int, int]] = []
    for place in places[np.argsort(-heights, kind="stable")].tolist():
        row, column = divmod(place, heatmap.shape[1])
        # A plateau has many highest pixels; they are one peak.
        if any(max(abs(row - r), abs(column - c)) <= reach for r, c in taken):
            continue
        taken.append((row, column))
        if len(taken) == count:
            break
    return taken


@lru_cache(maxsize=8)
def _square(size: int) -> npt.NDArray[np.uint8]:
    return np.ones((size, size), np.uint8)


def _highest_point(heatmap: npt.NDArray[np.float32], spec: HeatmapSpec) -> list[Peak]:
    """The paper takes the highest point whatever its height; nothing can be said about its shape. None of a flat map."""
    if heatmap.max() == heatmap.min():
        return []
    row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
    return [Peak(float(column), float(row), spec.sigma**2 * np.eye(2), 0.0)]


@lru_cache(maxsize=8)
def _design(radius: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray, FloatArray]:
    """A window and a quadratic over it.

    Returns:
        Rows and columns relative to the centre, the design matrix (pixels, 6), and the products of its columns (pixels, 36).
    """
    dy, dx = (axis.ravel() for axis in np.mgrid[-radius : radius + 1, -radius : radius + 1])
    x, y = dx.astype(np.float64), dy.astype(np.float64)
    design = np.stack((np.ones_like(x), x, y, -0.5 * x * x, -x * y, -0.5 * y * y), axis=1)
    return dy, dx, design, (design[:, :, None] * design[:, None, :]).reshape(-1, 36)


def _fit(heatmaps: npt.NDArray[np.float32], maxima: Sequence[tuple[int, int, int]], spec: HeatmapSpec) -> list[Peak]:
    """Fit a Gaussian around every maximum, given as (landmark, row, column); see :func:`find_peaks`."""
    radius = max(2, round(_FIT_RADIUS_SIGMAS * spec.sigma))
    dy, dx, design, products = _design(radius)
    landmark, row, column = (values[:, None] for values in np.array(maxima).T)
    rows, columns = row + dy, column + dx
    inside = (rows >= 0) & (rows < heatmaps.shape[1]) & (columns >= 0) & (columns < heatmaps.shape[2])
    places = (landmark * heatmaps.shape[1] + rows) * heatmaps.shape[2] + columns
    window = np.take(heatmaps.ravel(), places, mode="clip")  # outside of its map any value will do
    height = window[:, len(dy) // 2].astype(np.float64)
    relative = window / height[:, None]
    squared = np.where(inside & (relative > 0.05), relative, 0.0) ** 2
    log = np.log(np.maximum(relative, 1e-6))
    # The normal equations of six well-scaled columns: their condition number is in the thousands.
    left = (squared @ products).reshape(-1, 6, 6)
    right = (squared * log) @ design
    spread = np.linalg.eigvalsh(left)
    enough = (np.count_nonzero(squared, axis=1) >= 6) & (spread[:, 0] > _LEAST_SPREAD * spread[:, 5])
    left[~enough] = np.eye(6)
    log_height, gx, gy, xx, xy, yy = np.linalg.solve(left, right[..., None])[..., 0].T
    # From here on 2x2 matrices, in closed form: the log is log_height + g.d - d.P.d / 2 with the precision P.
    determinant = xx * yy - xy * xy
    with np.errstate(divide="ignore", invalid="ignore"):
        least = 0.5 * (xx + yy - np.hypot(xx - yy, 2 * xy))
        dx_, dy_ = (yy * gx - xy * gy) / determinant, (xx * gy - xy * gx) / determinant
        enough &= (least > 1e-3 / spec.sigma**2) & (np.maximum(np.abs(dx_), np.abs(dy_)) <= 1.0)
    dx_, dy_ = np.where(enough, dx_, 0.0), np.where(enough, dy_, 0.0)
    rise = np.where(enough, np.minimum(log_height + 0.5 * (gx * dx_ + gy * dy_), 0.5), 0.0)
    confidence = np.clip(height * np.exp(rise) / spec.peak, 0.0, 1.0)
    return [
        Peak(x, y, covariance, sure)
        for x, y, covariance, sure in zip(
            (column[:, 0] + dx_).tolist(),
            (row[:, 0] + dy_).tolist(),
            _own_covariances(xx, xy, yy, determinant, enough, spec),
            confidence.tolist(),
            strict=True,
        )
    ]


def _own_covariances(
    xx: FloatArray, xy: FloatArray, yy: FloatArray, determinant: FloatArray, known: npt.NDArray[np.bool_], spec: HeatmapSpec
) -> FloatArray:
    """What peaks are wider than the Gaussian they were trained on, in each direction at least the smallest that is stated.

    Args:
        xx: Of the precision matrices [[xx, xy], [xy, yy]], float64 (peaks,).
        xy: Likewise.
        yy: Likewise.
        determinant: Of these matrices.
        known: Whether a peak's precision is; else it has the trained Gaussian's width.
        spec: The trained Gaussian.

    Returns:
        float64 (peaks, 2, 2), px^2.
    """
    scale = np.where(known, 1.0 / np.where(known, determinant, 1.0), 0.0)
    wide = np.where(known, 0.0, spec.sigma**2)
    a, b, c = yy * scale + wide - spec.sigma**2, -xy * scale, xx * scale + wide - spec.sigma**2
    # Eigenvalues of [[a, b], [b, c]] are mean +- radius; (cos, sin) of twice the angle of the first vector is (dx, b) / radius.
    mean, dx = 0.5 * (a + c), 0.5 * (a - c)
    radius = np.hypot(dx, b)
    large, small = (np.maximum(value, _MIN_SIGMA_PX**2) for value in (mean + radius, mean - radius))
    mean, half = 0.5 * (large + small), 0.5 * (large - small) / np.where(radius > 0, radius, 1.0)
    found: FloatArray = np.stack((mean + half * dx, half * b, half * b, mean - half * dx), axis=1).reshape(-1, 2, 2)
    return found
