from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from csl_tracker.evaluation.bootstrap import block_length, block_number, error_over_frames, error_over_sequences
from csl_tracker.evaluation.paired_units import Units


def units(values: np.ndarray, name: str = "a", fold: str = "all") -> Units:
    return Units(fold, name, tuple(range(len(values))), values, np.ones_like(values))


@pytest.mark.parametrize(
    ("frames", "length", "number"), [(1, 1, 1), (25, 25, 1), (37, 25, 1), (50, 25, 2), (125, 25, 5), (126, 26, 5), (375, 75, 5)]
)
def test_blocks_of_a_sequence(frames: int, length: int, number: int) -> None:
    assert (block_length(frames), block_number(frames)) == (length, number)


@pytest.mark.filterwarnings("error")
def test_nothing_known_has_no_error_and_no_warning() -> None:
    nothing = Units("all", "a", (0, 1), np.zeros((2, 40)), np.zeros((2, 40)))
    assert math.isnan(error_over_frames(nothing, resamples=9))
    assert math.isnan(error_over_sequences([nothing, replace(nothing, sequence="b")], resamples=9))


@pytest.mark.parametrize(("frames", "block", "number"), [(125, None, 5), (60, None, 2), (60, 20, 3), (9, 1, 9)])
def test_blocks_of_frames_have_the_standard_error_of_one_fewer(frames: int, block: int | None, number: int) -> None:
    """Exactly: the variance of all circular blocks' means, over the number of blocks less one."""
    values = np.random.default_rng(4).normal(size=frames)
    length = block_length(frames, block)
    means = [np.mean(np.roll(values, -start)[:length]) for start in range(frames)]
    found = error_over_frames(units(values[None]), resamples=40_000, block=block)
    assert found == pytest.approx(np.std(means) / math.sqrt(number - 1), rel=0.02)


def test_frames_that_move_together_increase_the_error_over_sequences() -> None:
    slow = [np.repeat(np.random.default_rng(i).normal(size=4), 25)[None] for i in range(6)]
    parts = [units(values - values.mean(), str(i)) for i, values in enumerate(slow)]
    together, apart = (error_over_sequences(parts, block=block) for block in (25, 1))
    assert together > 3 * apart


def test_independent_frames_of_one_video_against_scipy() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=80)
    assert error_over_frames(units(values[None]), resamples=9000, block=1) == pytest.approx(stats.sem(values), rel=0.03)


@pytest.mark.parametrize("number", [2, 3, 6, 24])
def test_sequences_of_one_frame_have_the_standard_error_of_their_means(number: int) -> None:
    """Drawing all n sequences instead of n - 1 would be too small by 29, 18, 9 and 2 %."""
    values = np.random.default_rng(1).normal(size=number)
    parts = [units(np.full((1, 1), value), str(index)) for index, value in enumerate(values)]
    assert error_over_sequences(parts, resamples=40_000) == pytest.approx(stats.sem(values), rel=0.012)


def test_frames_that_move_together_increase_the_error() -> None:
    slow = np.repeat(np.random.default_rng(2).normal(size=15), 25)[None]
    together, apart = (error_over_frames(units(slow), block=block) for block in (None, 1))
    assert together > 3 * apart


def test_seeds_that_differ_increase_the_error() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.normal(scale=0.1, size=(3, 20)) for _ in range(8)]
    alike = error_over_sequences([units(values, str(i)) for i, values in enumerate(parts)])
    apart = error_over_sequences([units(values + np.arange(3.0)[:, None], str(i)) for i, values in enumerate(parts)])
    assert alike < 0.02
    assert apart == pytest.approx(math.sqrt(1 / 3), rel=0.1), "standard error of the mean of the seeds 0, 1 and 2"


def test_a_seed_without_units_in_a_sequence_is_skipped() -> None:
    total, count = np.array([[3.0, 3.0], [0.0, 0.0], [3.0, 3.0]]), np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    parts = [Units("all", name, (0, 1, 2), total, count) for name in "ab"]
    assert error_over_sequences(parts, resamples=50) == 0.0


@pytest.mark.parametrize("values", [np.zeros((2, 9)), np.full((1, 1), 3.0), np.full((2, 4), -1.0)])
def test_equal_units_have_no_error(values: np.ndarray) -> None:
    assert error_over_sequences([units(values, name) for name in "abcdef"], resamples=50) == 0.0
    assert error_over_frames(units(values), resamples=50) == 0.0


def test_resampling_is_reproducible_and_mirrored() -> None:
    parts = [units(np.random.default_rng(i).normal(size=(2, 30)), str(i)) for i in range(6)]
    mirrored = [units(-part.total, part.sequence) for part in parts]
    assert error_over_sequences(parts) == error_over_sequences(parts) == error_over_sequences(mirrored)
    assert error_over_sequences(parts) == error_over_sequences(parts, seed=0) != error_over_sequences(parts, seed=1)
    assert error_over_frames(parts[0]) == error_over_frames(parts[0], seed=0) != error_over_frames(parts[0], seed=1)
    assert error_over_frames(parts[0]) == error_over_frames(mirrored[0])
