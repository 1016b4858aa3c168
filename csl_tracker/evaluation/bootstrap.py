"""Block bootstrap of a mean difference, for frames of a video that are not independent.

The frames of a sequence are drawn in blocks of consecutive ones (circular block bootstrap, Politis and Romano 1992), the same
blocks for all seeds. Blocks are few and long, so that they are nearly independent. Of n independent parts (sequences, seeds,
blocks) n - 1 are drawn, which makes the variance of their mean unbiased (Rao and Wu, JASA 1988).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from csl_tracker.arrays import FloatArray, IntArray
from csl_tracker.evaluation.paired_units import Units

BLOCK_FRAMES = 25
"""Minimum block length: one second of the datasets' video."""
MOST_BLOCKS = 5
"""Maximum number of blocks per sequence; longer sequences use longer blocks."""
RESAMPLES = 4000


def error_over_sequences(units: Sequence[Units], resamples: int = RESAMPLES, block: int | None = None, seed: int = 0) -> float:
    """Standard error of the mean over sequences: draws sequences, the seeds of each fold, and blocks of frames.

    Args:
        units: One per fold and test sequence. Those of a fold have the same seeds.
        resamples: Number of bootstrap resamples.
        block: Block length, frames; None for :func:`block_length`.
        seed: Random seed; results are reproducible.
    """
    rng = np.random.default_rng(seed)
    seeds = {fold: _drawn(len(part.seeds), resamples, rng) for fold, part in {part.fold: part for part in units}.items()}
    names = sorted({part.sequence for part in units})
    drawn = _drawn(len(names), resamples, rng)
    means = np.full(drawn.shape, np.nan)
    for index, name in enumerate(names):
        rows, columns = np.nonzero(drawn == index)
        parts = [part for part in units if part.sequence == name]
        of_parts = [_mean(_Blocks(part, block).draw(len(rows), rng), seeds[part.fold][rows]) for part in parts]
        means[rows, columns] = _row_mean(np.stack(of_parts, axis=1))
    return _deviation(_row_mean(means))


def error_over_frames(units: Units, resamples: int = RESAMPLES, block: int | None = None, seed: int = 0) -> float:
    """Standard error of the mean over the frames of one sequence; its seeds are kept."""
    blocks = _Blocks(units, block)
    means = blocks.draw(resamples, np.random.default_rng(seed), drawn_parts(blocks.number))
    return _deviation(_row_mean(means))


def block_number(frames: int, block: int | None = None) -> int:
    """Number of blocks of a sequence of this many frames, for a block length (see :func:`block_length`)."""
    return max(1, round(frames / block_length(frames, block)))


def block_length(frames: int, block: int | None = None) -> int:
    """Block length for a sequence of this many frames: a fifth, and at least ``BLOCK_FRAMES``; or as given."""
    wanted = max(BLOCK_FRAMES, math.ceil(frames / MOST_BLOCKS)) if block is None else block
    return max(1, min(wanted, frames))


class _Blocks:
    """Precomputed sums over circular blocks of frames, for resampling."""

    def __init__(self, units: Units, block: int | None) -> None:
        self._frames = units.total.shape[1]
        length = block_length(self._frames, block)
        self.number = block_number(self._frames, block)
        self._total = _circular_sums(units.total, length)
        self._count = _circular_sums(units.count, length)

    def draw(self, times: int, rng: np.random.Generator, number: int | None = None) -> FloatArray:
        """Resample the frames.

        Args:
            times: Number of resamples.
            rng: Random generator.
            number: Number of blocks to draw; None for as many as the sequence has.

        Returns:
            float64 (times, seeds), the mean difference of each seed; NaN without units.
        """
        starts = rng.integers(self._frames, size=(times, self.number if number is None else number))
        total, count = self._total[:, starts].sum(axis=2), self._count[:, starts].sum(axis=2)
        return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0).T, np.float64)


def _circular_sums(values: FloatArray, length: int) -> FloatArray:
    """Circular sums of ``length`` consecutive columns, starting at each column."""
    padded = np.concatenate([values, values[:, : length - 1]], axis=1)
    sums = np.cumsum(np.concatenate([np.zeros((len(values), 1)), padded], axis=1), axis=1)
    return np.asarray(sums[:, length:] - sums[:, :-length], np.float64)


def drawn_parts(number: int) -> int:
    """How many of a number of independent parts are drawn: one fewer, and at least one."""
    return max(1, number - 1)


def _drawn(number: int, resamples: int, rng: np.random.Generator) -> IntArray:
    """Indices of drawn parts, int64 (resamples, drawn parts)."""
    return rng.integers(number, size=(resamples, drawn_parts(number)))


def _deviation(replicates: FloatArray) -> float:
    """Standard deviation of the finite replicates; NaN without any."""
    known = replicates[np.isfinite(replicates)]
    return float(known.std()) if len(known) else math.nan


def _mean(of_seeds: FloatArray, chosen: IntArray) -> FloatArray:
    """Mean over the chosen seeds, float64 (rows,).

    Args:
        of_seeds: float64 (rows, seeds).
        chosen: int64 (rows, drawn seeds).
    """
    return _row_mean(np.take_along_axis(of_seeds, chosen, axis=1))


def _row_mean(values: FloatArray) -> FloatArray:
    """Mean of each row over its finite values; NaN without any."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    means: FloatArray = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return means
