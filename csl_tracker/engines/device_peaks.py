"""Peak finding on the network's device: downloads a few kB instead of full heatmaps.

Implements the steps of :mod:`csl_tracker.heatmaps` and :mod:`csl_tracker.grouping` with fixed shapes and without
synchronisation, so that they can be captured in a CUDA graph. (``masked_fill`` is used because ``torch.where`` with a scalar
copies it from the host.) Fits run in float64, as on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from csl_tracker.engines.base import LARGEST_LOGIT
from csl_tracker.grouping import ALONG_LINE, LineSupport, skeleton_hops
from csl_tracker.heatmaps import (
    LEAST_POSITIVE,
    LEAST_RELATIVE,
    LEAST_SPREAD,
    HeatmapSpec,
    Peak,
    fit_design,
    fitted_peak,
    guessed_peak,
)
from csl_tracker.instruments import InstrumentSet

_NONE, _FITTED, _GUESSED = 0.0, 1.0, 2.0
_KIND, _ROW, _COLUMN, _HEIGHT, _FIT, _ENOUGH = 0, 1, 2, 3, slice(4, 10), 10
"""Columns of the peak table; the six fit columns are ``a, gx, gy, xx, xy, yy`` of :func:`csl_tracker.heatmaps.fitted_peak`."""
_NO_KEY = -1
_KEYS_PER_HEIGHT = 2**32


def joined_pairs(instruments: InstrumentSet, count: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pairs of peaks connected by the skeleton, each once.

    Args:
        instruments: Landmarks and skeleton.
        count: Peaks per landmark.

    Returns:
        Two index arrays; the peak of landmark ``i`` with rank ``r`` has index ``i * count + r``.
    """
    landmark = np.arange(instruments.num_landmarks).repeat(count)
    hops = skeleton_hops(instruments)[landmark[:, None], landmark]
    one, other = np.nonzero(np.triu(np.isfinite(hops) & (hops > 0)))
    return one, other


class PeakFinder(nn.Module):
    """Finds the peaks of heatmaps on their device.

    Args:
        spec: Gaussian of the training targets.
        instruments: Landmarks and skeleton.
        count: Peaks per landmark, at least 1.
    """

    def __init__(self, spec: HeatmapSpec, instruments: InstrumentSet, count: int) -> None:
        super().__init__()
        self.spec, self.count, self.landmarks = spec, count, instruments.num_landmarks
        dy, dx, design, products = fit_design(spec.fit_radius)
        one, other = joined_pairs(instruments, count)
        for name, values in (
            ("dy", dy),
            ("dx", dx),
            ("design", design),
            ("products", products),
            ("one", one),
            ("other", other),
            ("along", ALONG_LINE),
        ):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)
        self.dy: Tensor
        self.dx: Tensor
        self.design: Tensor
        self.products: Tensor
        self.one: Tensor
        self.other: Tensor
        self.along: Tensor

    def forward(self, heatmaps: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Find the peaks.

        Args:
            heatmaps: (landmarks, h, w), any floating dtype.
            scores: (classes, h, w), the background first.

        Returns:
            The peak table, float64 (landmarks, count, 11), and the line support, float64 (pairs,), in the order of
            :func:`joined_pairs`.
        """
        maps = torch.nan_to_num(heatmaps.float(), nan=0.0, posinf=0.0, neginf=0.0).contiguous()
        index, height, found = self._summits(maps)
        guess, flat = _highest_points(maps)
        width = maps.shape[2]
        first = torch.zeros_like(found)
        first[:, 0] = ~found[:, 0] & ~flat
        index = torch.where(first, guess[:, None], index)
        row, column = torch.div(index, width, rounding_mode="floor").double(), (index % width).double()
        fit, enough = self._fit(maps, index, height)
        kind = _FITTED * found.double() + _GUESSED * first.double()
        numbers = torch.stack((kind, row, column, height.double()), dim=-1)
        table = torch.cat((numbers, fit, enough.double()[..., None]), dim=-1)
        x, y = self._refined(row, column, fit, found & enough)
        return table, self._support(x.flatten(), y.flatten(), scores)

    def _summits(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Flat index, height and presence of the highest positive local maxima, each (landmarks, count), highest first."""
        rows, columns = maps.shape[1:]
        reach = self.spec.reach
        # Separable square maximum. The padding value is minus infinity.
        around = functional.max_pool2d(maps[:, None], (1, 2 * reach + 1), 1, (0, reach))
        around = functional.max_pool2d(around, (2 * reach + 1, 1), 1, (reach, 0))[:, 0]
        is_summit = maps >= around.clamp_min(LEAST_POSITIVE)
        # The bits of positive floats sort like the floats. Among equal heights, the first pixel gets the highest key.
        backwards = torch.arange(rows * columns - 1, -1, -1, device=maps.device).view(rows, columns)
        keys = (maps.view(torch.int32).long() * _KEYS_PER_HEIGHT + backwards).masked_fill(~is_summit, _NO_KEY)
        row = torch.arange(rows, device=maps.device)[None, :, None]
        column = torch.arange(columns, device=maps.device)[None, None, :]
        taken: list[Tensor] = []
        for rank in range(self.count):
            best = keys.flatten(1).amax(dim=1)
            taken.append(best)
            if rank + 1 == self.count:
                break
            place = _index_of(best, rows * columns)[:, None, None]
            # The pixels of a plateau count as one peak.
            near_row = (row - torch.div(place, columns, rounding_mode="floor")).abs() <= reach
            near_column = (column - place % columns).abs() <= reach
            keys = keys.masked_fill(near_row & near_column, _NO_KEY)
        best = torch.stack(taken, dim=1)
        found = best >= 0
        index = _index_of(best, rows * columns).masked_fill(~found, 0)
        bits = torch.div(best.clamp_min(0), _KEYS_PER_HEIGHT, rounding_mode="floor").int()
        return index, bits.view(torch.float32), found

    def _fit(self, maps: Tensor, index: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
        """The quadratic around each maximum, float64 (landmarks, count, 6), and whether there were enough pixels."""
        landmarks, rows, columns = maps.shape
        row, column = torch.div(index, columns, rounding_mode="floor")[..., None], (index % columns)[..., None]
        y, x = row + self.dy, column + self.dx
        inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
        first = torch.arange(landmarks, device=maps.device)[:, None, None] * (rows * columns)
        at = first + y.clamp(0, rows - 1) * columns + x.clamp(0, columns - 1)
        relative = maps.flatten()[at].double() / height.double().clamp_min(LEAST_POSITIVE)[..., None]
        usable = inside & (relative > LEAST_RELATIVE)
        squared = relative.masked_fill(~usable, 0.0).square()
        log = relative.clamp_min(1e-6).log()
        left = (squared @ self.products).view(*index.shape, 6, 6)
        right = (squared * log) @ self.design
        return _solve(left, right)

    def _refined(self, row: Tensor, column: Tensor, fit: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
        """Sub-pixel (x, y) of each peak, float64, by the rule of :func:`csl_tracker.heatmaps.fitted_peak`."""
        _, gx, gy, xx, xy, yy = fit.unbind(-1)
        determinant = xx * yy - xy * xy
        curved = 0.5 * (xx + yy - torch.hypot(xx - yy, 2.0 * xy)) > self.spec.least_curvature
        dx, dy = (yy * gx - xy * gy) / determinant, (xx * gy - xy * gx) / determinant
        near = usable & curved & (torch.maximum(dx.abs(), dy.abs()) <= 1.0)
        return torch.where(near, column + dx, column), torch.where(near, row + dy, row)

    def _support(self, x: Tensor, y: Tensor, scores: Tensor) -> Tensor:
        """Mean foreground probability along the line between the peaks of each pair."""
        rows, columns = scores.shape[1:]
        samples = []
        for values, last in ((y, rows - 1), (x, columns - 1)):
            start = values[self.one]
            line = start[:, None] + self.along * (values[self.other] - start)[:, None]
            samples.append(line.round().clamp(0, last).long())
        picked = scores.flatten(1)[:, samples[0] * columns + samples[1]].float()
        # 1 minus the softmax of the background.
        odds = (picked[1:] - picked[0]).clamp_max(LARGEST_LOGIT).exp().sum(dim=0)
        return (odds / (1.0 + odds)).mean(dim=-1, dtype=torch.float64)


def read_peaks(table: npt.NDArray[np.float64], spec: HeatmapSpec) -> list[list[Peak]]:
    """The peaks in a downloaded table, highest first, like :func:`csl_tracker.heatmaps.decode`."""
    return [[_read_peak(entry, spec) for entry in entries if entry[_KIND] != _NONE] for entries in table.tolist()]


def _read_peak(entry: Sequence[float], spec: HeatmapSpec) -> Peak:
    row, column = int(entry[_ROW]), int(entry[_COLUMN])
    if entry[_KIND] == _GUESSED:
        return guessed_peak(row, column, spec)
    return fitted_peak(row, column, entry[_HEIGHT], entry[_FIT] if entry[_ENOUGH] else None, spec)


class SupportReader:
    """Converts the downloaded line support to the input of grouping.

    Args:
        instruments: Landmarks and skeleton.
        count: Peaks per landmark.
    """

    def __init__(self, instruments: InstrumentSet, count: int) -> None:
        self.landmarks, self.count = instruments.num_landmarks, count
        self.pairs = joined_pairs(instruments, count)

    def __call__(self, support: npt.NDArray[np.float64], shape: tuple[int, int]) -> LineSupport:
        """Read (pairs,) values, sampled on heatmaps of (h, w)."""
        number = self.landmarks * self.count
        values = np.full((number, number), math.nan)
        values[self.pairs] = support
        return LineSupport(shape, values.reshape(self.landmarks, self.count, self.landmarks, self.count))


def _index_of(key: Tensor, pixels: int) -> Tensor:
    return pixels - 1 - key % _KEYS_PER_HEIGHT


def _highest_points(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Flat index of the first maximum of each map, and whether the map is flat."""
    flat = maps.flatten(1)
    highest, lowest = flat.amax(dim=1), flat.amin(dim=1)
    number = torch.arange(flat.shape[1], device=maps.device).expand_as(flat)
    return number.masked_fill(flat != highest[:, None], flat.shape[1] - 1).amin(dim=1), highest == lowest


def _solve(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Jordan elimination for small symmetric positive definite systems; library solvers synchronise.

    Args:
        left: float64 (..., n, n).
        right: float64 (..., n).

    Returns:
        The solutions, float64 (..., n), and whether each system is solvable (no pivot is close to zero).
    """
    size = left.shape[-1]
    scale = left.diagonal(dim1=-2, dim2=-1).amax(dim=-1)
    rows = torch.cat((left, right[..., None]), dim=-1)
    solvable = scale > 0
    for k in range(size):
        pivot = rows[..., k, k]
        solvable = solvable & (pivot > LEAST_SPREAD * scale)
        row = rows[..., k, :] / pivot[..., None]
        factors = rows[..., :, k].clone()
        factors[..., k] -= 1.0  # the pivot row itself is divided by the pivot
        rows = rows - factors[..., None] * row[..., None, :]
    return rows[..., size], solvable
