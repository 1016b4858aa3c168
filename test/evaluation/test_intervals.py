from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from csl_tracker.evaluation.bootstrap import error_over_frames, error_over_sequences
from csl_tracker.evaluation.intervals import Interval, Part, holm, over_frames, over_sequences, sequence_means, student
from csl_tracker.evaluation.paired_units import Units


def units(values: np.ndarray, name: str = "a", fold: str = "all") -> Units:
    return Units(fold, name, tuple(range(len(values))), values, np.ones_like(values))


def one_frame_each(values: list[float]) -> list[Units]:
    return [units(np.full((1, 1), value), str(index)) for index, value in enumerate(values)]


def test_each_sequence_counts_once_and_each_seed_once_in_it() -> None:
    long = Units("all", "a", (0, 1), np.array([[4.0, 4.0], [2.0, 0.0]]), np.array([[2.0, 2.0], [1.0, 0.0]]))
    short = units(np.array([[5.0], [7.0]]), "b")
    assert sequence_means([short, long]) == {"a": 2.0, "b": 6.0}
    assert over_sequences([short, long]).estimate == 4.0


def test_a_sequence_tested_in_two_folds_is_one_sequence() -> None:
    found = over_sequences([units(np.full((1, 3), value), "a", fold) for fold, value in (("x", 1.0), ("y", 3.0))])
    assert found == Interval(2.0), "one sequence has no interval"


@pytest.mark.parametrize("values", [[0.5, 0.4, -0.02], [0.5, 0.4, 0.1, 0.3, 0.45], [1.0, 2.0]])
def test_few_sequences_have_the_interval_of_the_paired_t_test(values: list[float]) -> None:
    found, theirs = over_sequences(one_frame_each(values)), stats.ttest_1samp(values, 0.0)
    for confidence in (0.5, 0.95, 0.99):
        expected, interval = theirs.confidence_interval(confidence), over_sequences(one_frame_each(values), confidence)
        assert (interval.low, interval.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert over_sequences(one_frame_each(values), 0.95) == found
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.estimate == pytest.approx(np.mean(values))


def test_many_sequences_of_one_frame_have_nearly_the_interval_of_the_paired_t_test() -> None:
    values = np.random.default_rng(1).normal(size=6)
    found, expected = over_sequences(one_frame_each(list(values)), resamples=40_000), stats.ttest_1samp(values, 0.0)
    np.testing.assert_allclose([found.low, found.high], expected.confidence_interval(0.95), atol=0.02)
    assert found.p == pytest.approx(expected.pvalue, abs=0.01)


def test_seeds_of_one_fold_that_differ_widen_the_interval() -> None:
    """All sequences agree, but only because they share the same three trainings."""
    rng = np.random.default_rng(2)
    of_seed = np.array([[1.0], [2.0], [6.0]])
    shared = [units(of_seed + rng.normal(scale=0.01, size=(3, 40)), str(i)) for i in range(4)]
    found = over_sequences(shared)
    expected = stats.ttest_1samp(of_seed.ravel(), 0.0).confidence_interval(0.95)
    np.testing.assert_allclose([found.low, found.high], expected, rtol=0.02)
    own = [Units(str(i), str(i), part.seeds, part.total, part.count) for i, part in enumerate(shared)]
    alone = over_sequences(own)
    assert alone.low is not None
    assert alone.low > 2.9, "seeds of different folds are independent, and average out over the sequences"


def half_width(*parts: tuple[float, int], confidence: float = 0.95) -> float:
    """Banerjee's half width: of variances with their degrees of freedom."""
    return math.sqrt(sum(variance * stats.t.ppf((1 + confidence) / 2, degrees) ** 2 for variance, degrees in parts))


def seed_variance(table: np.ndarray) -> float:
    """Variance of the mean that is due to the seeds (columns): of two-way mean squares, cell by cell."""
    sequences, seeds = table.shape
    of_seeds = sequences * sum((table[:, j].mean() - table.mean()) ** 2 for j in range(seeds)) / (seeds - 1)
    rest = 0.0
    for i in range(sequences):
        for j in range(seeds):
            rest += (table[i, j] - table[i].mean() - table[:, j].mean() + table.mean()) ** 2
    return max(0.0, (of_seeds - rest / ((sequences - 1) * (seeds - 1))) / sequences / seeds)


@pytest.mark.parametrize(
    ("sequences", "seeds", "scale"), [(2, 2, 1.0), (2, 2, 0.01), (2, 4, 1.0), (3, 2, 0.1), (4, 3, 1.0), (5, 4, 0.05)]
)
@pytest.mark.parametrize("of_both", [0.0, 0.6, 5.0])
def test_the_variance_between_shared_seeds_is_a_part_of_its_own(
    sequences: int, seeds: int, scale: float, of_both: float
) -> None:
    """Without what differs in single sequences only (5.0: nothing is left), with the degrees of the smaller number."""
    rng = np.random.default_rng(sequences + seeds)
    table = 0.5 * rng.normal(size=(sequences, 1)) + np.arange(seeds) + of_both * rng.normal(size=(sequences, seeds))
    table *= scale
    found = over_sequences([units(row[:, None], str(i)) for i, row in enumerate(table)])
    of_sequences = (table.mean(axis=1).var(ddof=1) / sequences, sequences - 1)
    half = half_width(of_sequences, (seed_variance(table), min(seeds, sequences) - 1))
    assert (found.low, found.high) == pytest.approx((table.mean() - half, table.mean() + half))


def test_the_seeds_of_two_folds_are_two_parts() -> None:
    """Half of the sequences share each, so that each counts a quarter of its variance."""
    rows = 0.1 * np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 7.0], [0.0, 4.0, 5.0], [1.0, 5.0, 6.0]])
    found = over_sequences([units(row[:, None], str(i), "xxyy"[i]) for i, row in enumerate(rows)])
    parts = [(rows[half].mean(axis=0).var(ddof=1) / 3 / 4, 2) for half in (slice(0, 2), slice(2, 4))]
    half = half_width((rows.mean(axis=1).var(ddof=1) / 4, 3), *parts)
    assert found.high == pytest.approx(rows.mean() + half)


@pytest.mark.parametrize("block", [None, 1])
def test_many_sequences_have_the_bootstrap_error_less_the_part_of_the_seeds(block: int | None) -> None:
    rng = np.random.default_rng(5)
    table = rng.normal(size=(8, 1)) + 0.3 * np.arange(3)
    slow = np.repeat(rng.normal(size=(8, 1, 4)), 25, axis=2)
    parts = [units(row[:, None] + more - more.mean(), str(i)) for i, (row, more) in enumerate(zip(table, slow, strict=True))]
    found = over_sequences(parts, 0.9, resamples=500, block=block, seed=3)
    of_all = error_over_sequences(parts, 500, block, 3) ** 2
    of_seeds = seed_variance(table)
    assert 0.01 < of_seeds < of_all
    half = half_width((of_all - of_seeds, 7), (of_seeds, 2), confidence=0.9)
    assert (found.low, found.high) == pytest.approx((table.mean() - half, table.mean() + half))


@pytest.mark.parametrize(("count", "drawn"), [(5, False), (6, True)])
def test_the_bootstrap_starts_at_six_sequences(count: int, drawn: bool) -> None:
    parts = [units(np.random.default_rng(i).normal(size=(1, 30)), str(i)) for i in range(count)]
    found = over_sequences(parts, resamples=50)
    assert found == over_sequences(parts, resamples=50, seed=0)
    assert (found != over_sequences(parts, resamples=50, seed=1)) is drawn
    assert (found != over_sequences(parts, resamples=51)) is drawn


@pytest.mark.parametrize(("frames", "block", "number"), [(375, None, 5), (60, 20, 3), (50, None, 2)])
def test_frames_have_the_error_of_their_blocks(frames: int, block: int | None, number: int) -> None:
    part = units(np.random.default_rng(7).normal(size=(2, frames)))
    found = over_frames(part, 0.9, resamples=200, block=block, seed=3)
    half = half_width((error_over_frames(part, 200, block, 3) ** 2, number - 1), confidence=0.9)
    mean = part.total.mean()
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))
    assert over_frames(part, resamples=200) == over_frames(part, 0.95, resamples=200, seed=0)


def test_one_sequence_has_no_interval_and_its_frames_have_one() -> None:
    values = np.random.default_rng(3).normal(size=(1, 150))
    assert over_sequences([units(values)]) == Interval(pytest.approx(values.mean()))
    frames = over_frames(units(values), block=1, resamples=9000)
    assert frames.low is not None
    assert frames.high is not None
    expected = stats.ttest_1samp(values.ravel(), 0.0).confidence_interval(0.95)
    np.testing.assert_allclose([frames.low, frames.high], expected, atol=0.01)


def test_one_frame_and_nothing_have_no_interval() -> None:
    assert over_frames(units(np.full((2, 1), 3.0))) == Interval(3.0)
    assert over_frames(units(np.random.default_rng(0).normal(size=(2, 37)))).low is None, "one block of frames"
    with pytest.raises(ValueError, match=r"^an interval needs at least one test sequence$"):
        over_sequences([])
    with pytest.raises(ValueError, match=r"^an interval needs at least one test sequence$"):
        over_sequences([Units("all", "a", (0,), np.zeros((1, 3)), np.zeros((1, 3)))])


def test_equal_models_and_constant_differences() -> None:
    for count in (2, 3, 8):
        assert over_sequences(one_frame_each([0.0] * count)) == Interval(0.0, 0.0, 0.0, 1.0)
        assert over_sequences(one_frame_each([2.0] * count)) == Interval(2.0, 2.0, 2.0, 0.0)
    assert over_frames(units(np.zeros((1, 50)))) == Interval(0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_an_error_that_is_unknown_gives_no_interval(error: float) -> None:
    assert student(1.0, [Part(1.0, 2), Part(error, 2)]) == Interval(1.0)


@pytest.mark.parametrize("estimate", [0.0, 0.1, 1.0, -1.0, 3.0, -3.0, 1e9])
def test_the_p_value_belongs_to_the_interval(estimate: float) -> None:
    parts = [Part(1.0, 7), Part(0.5, 2)]
    p = student(estimate, parts).p
    assert p is not None
    at_p = student(estimate, parts, 1.0 - p)
    assert at_p.low is not None
    assert at_p.high is not None
    nearest = min(abs(at_p.low), abs(at_p.high))
    assert nearest == pytest.approx(0.0, abs=1e-6) or p == pytest.approx(1e-12)
    assert student(estimate, [Part(1.0, 7)]).p == pytest.approx(2 * stats.t.sf(abs(estimate), 7))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_swapped_models_have_the_mirrored_interval_exactly(count: int) -> None:
    parts = [units(np.random.default_rng(i).normal(0.3, size=(3, 77)), str(i)) for i in range(count)]
    mirrored = [units(-part.total, part.sequence) for part in parts]
    for ours, theirs in (
        (over_sequences(parts), over_sequences(mirrored)),
        (over_frames(parts[0]), over_frames(mirrored[0])),
    ):
        assert ours.low is not None
        assert ours.high is not None
        assert theirs == Interval(-ours.estimate, -ours.high, -ours.low, ours.p)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([None], [None]),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 * 0.01; 2 * 0.03; and 0.04 not below its predecessor
        ([0.5, None, 0.9], [1.0, None, 1.0]),
        ([0.7, 0.9, 0.8], [1.0, 1.0, 1.0]),  # a probability, so not 2.1
        ([0.0, 0.02, 0.02], [0.0, 0.04, 0.04]),
    ],
)
def test_holm_by_hand(p_values: list[float | None], adjusted: list[float | None]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_keeps_the_error_of_the_family() -> None:
    rng = np.random.default_rng(4)
    wrong = np.mean([min(p or 0.0 for p in holm(list(rng.uniform(size=10)))) <= 0.05 for _ in range(2000)])
    assert 0.03 < wrong < 0.065
