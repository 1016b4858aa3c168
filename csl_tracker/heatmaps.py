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

from csl_tracker.arrays import FloatArray

_FIT_RADIUS_SIGMAS = 0.75
LEAST_RELATIVE = 0.05
"""Pixels below this share of their maximum take no part in its fit."""
_MAX_SIGMA_PX = 200.0
"""Largest sigma of a heatmap, px: peaks are sought in squares of four sigmas."""
_MIN_SIGMA_PX = 0.25
"""Smallest standard deviation that is stated for a peak, px of the heatmap: what rounding of the network's output leaves."""
LEAST_POSITIVE = float(np.finfo(np.float32).tiny)
"""Smallest positive normal float32; safe under flush-to-zero, which training switches on."""
LEAST_SPREAD = 1e-12
"""Smallest eigenvalue of a usable fit's normal equations, relative to the largest."""


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
            ValueError: Sigma or peak is not a positive number of a usable size.
        """
        if not (math.isfinite(self.sigma) and self.sigma > 0 and math.isfinite(self.peak) and self.peak > 0):
            raise ValueError(f"a heatmap needs a positive sigma and peak, not sigma={self.sigma}, peak={self.peak}")
        if not (0.1 <= self.sigma <= _MAX_SIGMA_PX and 1e-6 <= self.peak <= 1e6):
            raise ValueError(
                f"a heatmap needs a sigma from 0.1 to {_MAX_SIGMA_PX:g} px and a peak from 1e-06 to 1e+06, not"
                f" sigma={self.sigma}, peak={self.peak}"
            )

    @classmethod
    def paper(cls, sigma: float) -> HeatmapSpec:
        """The target of equation (2) of Laina et al. 2017: sigma 5 for RM, 7 for EndoVis at 640x480."""
        return cls(sigma, 1.0 / math.sqrt(2.0 * math.pi * sigma**2))

    @property
    def reach(self) -> int:
        """Two peaks are more than this many px apart, in x or in y."""
        return max(1, round(2 * self.sigma))

    @property
    def fit_radius(self) -> int:
        """The fit of a peak sees a square window of ``2 * fit_radius + 1`` px."""
        return max(2, round(_FIT_RADIUS_SIGMAS * self.sigma))

    @property
    def least_curvature(self) -> float:
        """Smallest eigenvalue of a fitted precision matrix, px^-2, with which a fit still describes a peak."""
        return 1e-3 / self.sigma**2

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
    if not np.isfinite(heatmaps.max()):  # a NaN is handed on, too; what is infinitely low is no peak anyway
        clean = np.nan_to_num(heatmaps, nan=0.0, posinf=0.0, neginf=0.0)
    places = [_summits(heatmap, spec, count) for heatmap in clean]
    maxima = [(index, row, column) for index, found in enumerate(places) for row, column in found]
    # All peaks of an image are fitted at once: small matrices cost their number of calls and not their size.
    fitted = iter(_fit(clean, maxima, spec) if maxima else [])
    return [[next(fitted) for _ in found] or _highest_point(clean[i], spec) for i, found in enumerate(places)]


def _summits(heatmap: npt.NDArray[np.float32], spec: HeatmapSpec, count: int) -> list[tuple[int, int]]:
    """(row, column) of the highest positive local maxima of a finite map, highest first."""
    reach = spec.reach
    neighbourhood = cv2.dilate(heatmap, _square(2 * reach + 1), borderType=cv2.BORDER_REPLICATE)
    np.maximum(neighbourhood, LEAST_POSITIVE, out=neighbourhood)
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
    return [guessed_peak(row, column, spec)]


def guessed_peak(row: int, column: int, spec: HeatmapSpec) -> Peak:
    """The highest point of a map that is nowhere positive: a best guess without any confidence."""
    return Peak(float(column), float(row), spec.sigma**2 * np.eye(2), 0.0)


@lru_cache(maxsize=8)
def fit_design(radius: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray, FloatArray]:
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
    radius = spec.fit_radius
    height, width = heatmaps.shape[1:]
    dy, dx, design, products = fit_design(radius)
    centre = np.array([(landmark * height + row) * width + column for landmark, row, column in maxima])
    # Outside of its map any value will do.
    window = np.take(heatmaps.ravel(), centre[:, None] + (dy * width + dx), mode="clip").astype(np.float64)
    heights = window[:, len(dy) // 2]
    relative = window / heights[:, None]
    usable = relative > LEAST_RELATIVE
    if not all(radius <= row < height - radius and radius <= column < width - radius for _, row, column in maxima):
        _, row, column = np.array(maxima).T[:, :, None]
        rows, columns = row + dy, column + dx
        usable &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    squared = np.where(usable, relative, 0.0) ** 2
    log = np.log(np.maximum(relative, 1e-6))
    # The normal equations of six well-scaled columns: their condition number is in the thousands.
    left = (squared @ products).reshape(-1, 6, 6)
    right = (squared * log) @ design
    enough = np.ones(len(maxima), bool)
    if not usable.all():
        used = np.count_nonzero(squared, axis=1)
        enough = used >= 6
        # Px on one conic determine no quadratic; more than two lines of them cannot be on one.
        doubtful = np.flatnonzero(used <= 2 * (2 * radius + 1))
        if len(doubtful):
            spread = np.linalg.eigvalsh(left[doubtful])
            enough[doubtful] &= spread[:, 0] > LEAST_SPREAD * spread[:, 5]
            left[~enough] = np.eye(6)
    solution = np.linalg.solve(left, right[..., None])[..., 0]
    return [
        fitted_peak(row, column, top, quadratic if known else None, spec)
        for (_, row, column), top, quadratic, known in zip(
            maxima, heights.tolist(), solution.tolist(), enough.tolist(), strict=True
        )
    ]


def fitted_peak(row: int, column: int, height: float, quadratic: Sequence[float] | None, spec: HeatmapSpec) -> Peak:
    """What a fit says, in plain numbers: there are few peaks.

    Args:
        row: Of the maximum, px of the heatmap.
        column: Likewise.
        height: There.
        quadratic: (a, gx, gy, xx, xy, yy): the logarithm of what is relative to the height is ``a + g.d - d.P.d / 2`` at d from
            the maximum, P being [[xx, xy], [xy, yy]]; None where there were too few px.
        spec: The trained Gaussian. A peak whose fit is no peak nearby is taken to have its shape.
    """
    trained = spec.sigma**2
    if quadratic is not None:
        a, gx, gy, xx, xy, yy = quadratic
        determinant = xx * yy - xy * xy
        if 0.5 * (xx + yy - math.hypot(xx - yy, 2.0 * xy)) > spec.least_curvature:  # smallest eigenvalue
            dx, dy = (yy * gx - xy * gy) / determinant, (xx * gy - xy * gx) / determinant
            if max(abs(dx), abs(dy)) <= 1.0:
                rise = min(a + 0.5 * (gx * dx + gy * dy), 0.5)
                covariance = _own_covariance(yy / determinant - trained, -xy / determinant, xx / determinant - trained)
                return Peak(column + dx, row + dy, covariance, min(max(height * math.exp(rise) / spec.peak, 0.0), 1.0))
    return Peak(float(column), float(row), _own_covariance(0.0, 0.0, 0.0), min(max(height / spec.peak, 0.0), 1.0))


def _own_covariance(xx: float, xy: float, yy: float) -> FloatArray:
    """What a peak is wider than the trained Gaussian, [[xx, xy], [xy, yy]], in each direction at least the least stated."""
    mean, half = 0.5 * (xx + yy), 0.5 * (xx - yy)
    radius = math.hypot(half, xy)
    # The eigenvalues are mean +- radius; (half, xy) / radius are cosine and sine of twice the angle of the larger one's vector.
    large, small = max(mean + radius, _MIN_SIGMA_PX**2), max(mean - radius, _MIN_SIGMA_PX**2)
    mean, grown = 0.5 * (large + small), 0.5 * (large - small) / (radius or 1.0)
    return np.array(((mean + grown * half, grown * xy), (grown * xy, mean - grown * half)))
