"""Times of the frames of a report's video."""

from __future__ import annotations

import pytest

from csl_tracker.reporting.film_times import FilmTimes, inside

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("stamps", "starts"),
    [
        ([], []),
        ([70], [0]),
        ([0, 40, 120, 130], [0, 40, 120, 130]),  # their own times
        ([0, 40, 40, 20, 60], [0, 40, 73, 106, 146]),  # a stamp that does not ascend takes the usual period
        ([0, 40, 90_000_000, 90_000_040], [0, 40, 1040, 1080]),  # a pause of a day is shortened to a second
    ],
)
def test_frames_keep_their_own_times(stamps: list[int], starts: list[int]) -> None:
    times = FilmTimes(33_000_000)
    assert [times.add(stamp * 1_000_000) for stamp in stamps] == [start * 1_000_000 for start in starts]
    assert list(times.starts_ns) == [start * 1_000_000 for start in starts]


@pytest.mark.parametrize("period", [0, -5, 10**18])
def test_an_impossible_period_is_limited(period: int) -> None:
    times = FilmTimes(period)
    times.add(0)
    assert 0 < times.add(0) <= SECOND


def test_middles() -> None:
    assert inside([]) == []
    assert inside([0, SECOND, 3 * SECOND]) == pytest.approx([0.5, 2.0, 3.002])
