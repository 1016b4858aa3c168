from __future__ import annotations

import pytest

from csl_tracker.stereo.pairing import StampPairer

MS = 1_000_000


def feed(pairer, *items):
    """Items are (side, ms); the pairs as (left ms, right ms)."""
    found = [pairer.add({"l": "left", "r": "right"}[side], round(stamp * MS), stamp) for side, stamp in items]
    return [(pair.left, pair.right) for pair in found if pair is not None]


def test_a_negative_tolerance_is_refused():
    with pytest.raises(ValueError, match="tolerance"):
        StampPairer(-1)


@pytest.mark.parametrize(
    ("tolerance_ms", "items", "pairs", "dropped"),
    [
        (0, [("l", 1), ("r", 1)], [(1, 1)], {}),
        (0, [("r", 1), ("l", 1)], [(1, 1)], {}),
        (0, [("l", 1), ("r", 1.001)], [], {}),
        (0, [("l", 1), ("l", 2), ("r", 2)], [(2, 2)], {"unpaired": 1}),
        (0, [("l", 1), ("l", 1), ("r", 1)], [(1, 1)], {"duplicate": 1}),
        (0, [("l", 1), ("r", 1), ("l", 1)], [(1, 1)], {"duplicate": 1}),
        (0, [("l", 2), ("r", 2), ("l", 1), ("r", 1)], [(2, 2)], {"late": 2}),
        (0, [("l", 1), ("r", 2), ("l", 2), ("r", 3), ("l", 3)], [(2, 2), (3, 3)], {"unpaired": 1}),
        (5, [("l", 0), ("r", 4)], [(0, 4)], {}),
        (5, [("l", 0), ("r", 6)], [], {}),
        (5, [("r", 38), ("l", 0), ("r", 4), ("l", 33)], [(0, 4), (33, 38)], {}),
        (5, [("l", 0), ("l", 33), ("r", 29)], [(33, 29)], {"unpaired": 1}),
        (0, [("l", 5000), ("r", 5000), ("l", 1), ("r", 1)], [(5000, 5000), (1, 1)], {"restarted": 1}),
        (0, [("l", 5000), ("l", 1), ("r", 1)], [(1, 1)], {"restarted": 1, "unpaired": 1}),
    ],
)
def test_what_belongs_together(tolerance_ms, items, pairs, dropped):
    pairer = StampPairer(tolerance_ms * MS)
    assert feed(pairer, *items) == pairs
    assert +pairer.dropped == dropped


def test_the_skew_is_right_less_left():
    pairer = StampPairer(5 * MS)
    pairer.add("right", 12 * MS, "b")
    assert pairer.add("left", 10 * MS, "a").skew_ns == 2 * MS


def test_a_side_that_is_alone_takes_no_memory():
    pairer = StampPairer()
    assert feed(pairer, *(("l", k) for k in range(1000))) == []
    assert pairer.dropped["unpaired"] == 980
    assert feed(pairer, ("r", 999)) == [(999, 999)]
