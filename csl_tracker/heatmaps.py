"""Heatmaps: encode landmarks as Gaussians; decode sub-pixel positions, covariances and confidences.

Coordinates are heatmap px; ``csl_tracker.pixels`` maps them to the source image.
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
"""Pixels below this fraction of the peak height are excluded from the fit."""
_MAX_SIGMA_PX = 200.0
"""Largest heatmap sigma, px: the peak search window is four sigmas wide."""
_MIN_SIGMA_PX = 0.25
"""Smallest reported standard deviation of a peak, heatmap px: the rounding error of the network output."""
LEAST_POSITIVE = float(np.finfo(np.float32).tiny)
"""Smallest positive normal float32; safe under flush-to-zero, which training enables."""
LEAST_SPREAD = 1e-12
"""Minimum eigenvalue ratio (smallest to largest) of usable normal equations."""


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
        """Validate the values.

        Raises:
            ValueError: Sigma or peak is not positive or out of range.
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
        """Minimum peak distance (exclusive) in x or y, px."""
        return max(1, round(2 * self.sigma))

    @property
    def fit_radius(self) -> int:
        """The fit window of a peak is a square of ``2 * fit_radius + 1`` px."""
        return max(2, round(_FIT_RADIUS_SIGMAS * self.sigma))

    @property
    def least_curvature(self) -> float:
        """Minimum eigenvalue of a valid fitted precision matrix, px^-2."""
        return 1e-3 / self.sigma**2

    def to_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeatmapSpec:
        """Rebuild from :meth:`to_dict`'s output."""
        return cls(float(data["sigma"]), float(data["peak"]))


def encode(points: Tensor, size: tuple[int, int], spec: HeatmapSpec) -> Tensor:
    """Draw one heatmap per landmark: the maximum over the instruments.

    Args:
        points: (..., instruments, landmarks, 2), (x, y) in heatmap px; NaN draws nothing.
        size: (height, width) of the maps.
        spec: Shape of the Gaussians.

    Returns:
        (..., landmarks, height, width), dtype and device of ``points``: ``peak * exp(-|y - p|^2 / (2 sigma^2))``.
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
        x: Column, heatmap px, sub-pixel.
        y: Row, heatmap px, sub-pixel.
        covariance: float64 (2, 2), heatmap px^2: the fitted covariance minus that of the training target.
        confidence: 0..1, the height relative to the spec's.
    """

    x: float
    y: float
    covariance: FloatArray
    confidence: float


def find_peaks(heatmap: npt.NDArray[np.float32], spec: HeatmapSpec, count: int) -> list[Peak]:
    """The highest local maxima, highest first, at least two sigmas apart.

    Positions come from a Gaussian fitted to the logarithm of the map around the maximum (least squares weighted by the
    squared heights; exact for a pure Gaussian, as in DARK, Zhang et al. 2020). An uncertain network widens the Gaussian, so
    the fitted covariance minus that of the spec is the landmark's covariance.

    Args:
        heatmap: float32 (height, width).
        spec: Gaussian of the training targets.
        count: Maximum number of peaks.

    Returns:
        Up to ``count`` peaks; only the highest point if the map is nowhere positive; none if it is flat.
    """
    return decode(heatmap[None], spec, count)[0]


def decode(heatmaps: npt.NDArray[np.float32], spec: HeatmapSpec, count: int) -> list[list[Peak]]:
    """Peaks of every landmark: :func:`find_peaks` on float32 (landmarks, height, width)."""
    if count < 1 or heatmaps.size == 0:
        return [[] for _ in heatmaps]
    clean = heatmaps
    if not np.isfinite(heatmaps.max()):  # max() propagates NaN; -inf cannot be a peak
        clean = np.nan_to_num(heatmaps, nan=0.0, posinf=0.0, neginf=0.0)
    places = [_summits(heatmap, spec, count) for heatmap in clean]
    maxima = [(index, row, column) for index, found in enumerate(places) for row, column in found]
    # Fit all peaks at once: for small matrices the number of calls dominates the run time.
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
        # The pixels of a plateau count as one peak.
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
    """The highest point regardless of its height, as in the paper; empty for a flat map."""
    if heatmap.max() == heatmap.min():
        return []
    row, column = divmod(int(heatmap.argmax()), heatmap.shape[1])
    return [guessed_peak(row, column, spec)]


def guessed_peak(row: int, column: int, spec: HeatmapSpec) -> Peak:
    """The highest point of a map that is nowhere positive, with confidence 0."""
    return Peak(float(column), float(row), spec.sigma**2 * np.eye(2), 0.0)


@lru_cache(maxsize=8)
def fit_design(radius: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], FloatArray, FloatArray]:
    """Fit window and design matrix of a quadratic.

    Returns:
        Row and column offsets, the design matrix (pixels, 6), and the products of its columns (pixels, 36).
    """
    dy, dx = (axis.ravel() for axis in np.mgrid[-radius : radius + 1, -radius : radius + 1])
    x, y = dx.astype(np.float64), dy.astype(np.float64)
    design = np.stack((np.ones_like(x), x, y, -0.5 * x * x, -x * y, -0.5 * y * y), axis=1)
    return dy, dx, design, (design[:, :, None] * design[:, None, :]).reshape(-1, 36)


def _fit(heatmaps: npt.NDArray[np.float32], maxima: Sequence[tuple[int, int, int]], spec: HeatmapSpec) -> list[Peak]:
    """Fit a Gaussian around each maximum (landmark, row, column); see :func:`find_peaks`."""
    radius = spec.fit_radius
    height, width = heatmaps.shape[1:]
    dy, dx, design, products = fit_design(radius)
    centre = np.array([(landmark * height + row) * width + column for landmark, row, column in maxima])
    # Values outside of the map are masked below.
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
    # Normal equations are safe here: six well-scaled columns, condition number in the thousands.
    left = (squared @ products).reshape(-1, 6, 6)
    right = (squared * log) @ design
    enough = np.ones(len(maxima), bool)
    if not usable.all():
        used = np.count_nonzero(squared, axis=1)
        # Pixels on one conic do not determine a quadratic; more than two window rows of pixels cannot lie on one.
        doubtful = np.flatnonzero(used <= 2 * (2 * radius + 1))
        if len(doubtful):
            spread = np.linalg.eigvalsh(left[doubtful])
            enough[doubtful] = spread[:, 0] > LEAST_SPREAD * spread[:, 5]
            left[~enough] = np.eye(6)
    solution = np.linalg.solve(left, right[..., None])[..., 0]
    return [
        fitted_peak(row, column, top, quadratic if known else None, spec)
        for (_, row, column), top, quadratic, known in zip(
            maxima, heights.tolist(), solution.tolist(), enough.tolist(), strict=True
        )
    ]


def fitted_peak(row: int, column: int, height: float, quadratic: Sequence[float] | None, spec: HeatmapSpec) -> Peak:
    """Convert a fit to a peak. Plain floats: faster than arrays for few peaks.

    Args:
        row: Row of the maximum, heatmap px.
        column: Column of the maximum, heatmap px.
        height: Height of the maximum.
        quadratic: (a, gx, gy, xx, xy, yy): the log of the relative height at offset d from the maximum is
            ``a + g.d - d.P.d / 2`` with P = [[xx, xy], [xy, yy]]; None if there were too few pixels.
        spec: The trained Gaussian; also the shape of a peak whose fit is not a peak nearby.
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
    """The covariance [[xx, xy], [xy, yy]] with eigenvalues of at least ``_MIN_SIGMA_PX`` squared."""
    mean, half = 0.5 * (xx + yy), 0.5 * (xx - yy)
    radius = math.hypot(half, xy)
    # Eigenvalues: mean +- radius. (half, xy) / radius = cosine and sine of twice the angle of the major axis.
    large, small = max(mean + radius, _MIN_SIGMA_PX**2), max(mean - radius, _MIN_SIGMA_PX**2)
    mean, grown = 0.5 * (large + small), 0.5 * (large - small) / (radius or 1.0)
    return np.array(((mean + grown * half, grown * xy), (grown * xy, mean - grown * half)))
