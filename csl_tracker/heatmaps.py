"""Heatmaps: landmarks to Gaussians, and back with sub-pixel positions, covariances and confidences.

Coordinates here are px of the heatmap; ``csl_tracker.pixels`` carries them to the source image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
    if count < 1 or heatmap.size == 0:
        return []
    reach = max(1, round(2 * spec.sigma))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    clean = np.nan_to_num(heatmap, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    highest = clean >= cv2.dilate(clean, kernel, borderType=cv2.BORDER_REPLICATE)
    rows, columns = np.nonzero(highest & (clean > 0))
    if len(rows) == 0 and clean.max() > clean.min():
        # The paper takes the highest point whatever its height; nothing can be said about its shape.
        row, column = divmod(int(clean.argmax()), clean.shape[1])
        return [Peak(float(column), float(row), spec.sigma**2 * np.eye(2), 0.0)]
    order = np.argsort(-clean[rows, columns], kind="stable")
    peaks: list[Peak] = []
    taken: list[tuple[int, int]] = []
    for k in order:
        row, column = int(rows[k]), int(columns[k])
        # A plateau has many highest pixels; they are one peak.
        if any(max(abs(row - r), abs(column - c)) <= reach for r, c in taken):
            continue
        taken.append((row, column))
        peaks.append(_refine(clean, row, column, spec))
        if len(peaks) == count:
            break
    return peaks


def _refine(heatmap: npt.NDArray[np.float32], row: int, column: int, spec: HeatmapSpec) -> Peak:
    radius = max(2, round(_FIT_RADIUS_SIGMAS * spec.sigma))
    top, left = max(0, row - radius), max(0, column - radius)
    window = heatmap[top : row + radius + 1, left : column + radius + 1].astype(np.float64)
    height = float(heatmap[row, column])
    weight = np.where(window > 0.05 * height, window, 0.0).ravel()
    y, x = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]]
    dx, dy = (x - column).ravel().astype(np.float64), (y - row).ravel().astype(np.float64)
    log = np.log(np.maximum(window.ravel() / height, 1e-6))
    design = np.stack((np.ones_like(dx), dx, dy, -0.5 * dx * dx, -dx * dy, -0.5 * dy * dy), axis=1)
    prior = np.eye(2) / spec.sigma**2
    offset, precision, confidence = np.zeros(2), prior, height / spec.peak
    if np.count_nonzero(weight) >= 6:
        solution, _, rank, _ = np.linalg.lstsq(design * weight[:, None], log * weight, rcond=None)
        fitted = np.array([[solution[3], solution[4]], [solution[4], solution[5]]])
        if rank == 6 and np.linalg.eigvalsh(fitted)[0] > 1e-3 * prior[0, 0]:
            shift = np.linalg.solve(fitted, solution[1:3])
            if np.abs(shift).max() <= 1.0:
                offset, precision = shift, fitted
                confidence = height * math.exp(min(solution[0] + 0.5 * float(solution[1:3] @ shift), 0.5)) / spec.peak
    values, vectors = np.linalg.eigh(np.linalg.inv(precision) - spec.sigma**2 * np.eye(2))
    covariance = (vectors * np.maximum(values, _MIN_SIGMA_PX**2)) @ vectors.T
    return Peak(column + float(offset[0]), row + float(offset[1]), covariance, min(max(confidence, 0.0), 1.0))


def decode(heatmaps: npt.NDArray[np.float32], spec: HeatmapSpec, count: int) -> list[list[Peak]]:
    """Peaks of every landmark: :func:`find_peaks` on float32 (landmarks, height, width)."""
    return [find_peaks(heatmap, spec, count) for heatmap in heatmaps]
