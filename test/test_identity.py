import math

import numpy as np
import pytest

from csl_tracker.identity import LATE_S, TrackAssigner

SIZE = (576, 720)
RIGHTWARDS, LEFTWARDS, UNKNOWN = np.array([1.0, 0.0]), np.array([-1.0, 0.0]), np.full(2, np.nan)


def at(x: float, y: float = 100.0) -> np.ndarray:
    return np.array([[x, y], [x + 40, y], [np.nan, np.nan]])


@pytest.mark.parametrize("directions", [[], [RIGHTWARDS, RIGHTWARDS]])
def test_each_instrument_needs_a_direction(directions: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="zip"):
        TrackAssigner().update([at(100)], directions, SIZE, 0.0)


NOWHERE = np.full((3, 2), np.nan)
DOWNWARDS = np.array([0.0, 1.0])


@pytest.mark.parametrize(
    ("instruments", "directions", "slots"),
    [
        ([at(100)], [RIGHTWARDS], ["left"]),
        ([at(600)], [LEFTWARDS], ["right"]),
        ([at(100)], [LEFTWARDS], ["right"]),
        ([at(600), at(100)], [LEFTWARDS, RIGHTWARDS], ["right", "left"]),
        ([at(600), at(500)], [UNKNOWN, UNKNOWN], ["right", "left"]),
        ([at(10), at(300), at(600)], [UNKNOWN] * 3, ["left", "right", "extra1"]),
        ([at(600)], [RIGHTWARDS], ["left"]),
        ([at(100)], [DOWNWARDS], ["left"]),  # neither from the left nor from the right
        ([at(600)], [DOWNWARDS], ["right"]),
        ([NOWHERE], [UNKNOWN], ["left"]),
        ([NOWHERE], [LEFTWARDS], ["right"]),
        ([NOWHERE, at(-100)], [UNKNOWN] * 2, ["left", "right"]),  # both are leftmost; the first wins
        ([at(900), at(100)], [UNKNOWN, LEFTWARDS], ["left", "right"]),  # both are rightmost
        ([at(100), at(900)], [LEFTWARDS, UNKNOWN], ["left", "right"]),
    ],
)
def test_slots_go_by_where_an_instrument_comes_from(instruments, directions, slots) -> None:  # type: ignore[no-untyped-def]
    found = TrackAssigner().update(instruments, directions, SIZE, 0.0)
    assert [i.slot for i in found] == slots
    assert len({i.track_id for i in found}) == len(found)


def test_identities_last_through_crossing_and_change_of_order() -> None:
    assigner = TrackAssigner()
    first = assigner.update([at(100, 100), at(600, 300)], [RIGHTWARDS, LEFTWARDS], SIZE, 0.0)
    for step in range(1, 26):
        a, b = at(100 + 20 * step, 100), at(600 - 20 * step, 300)
        found = assigner.update([b, a], [LEFTWARDS, RIGHTWARDS], SIZE, 0.04 * step)
        assert [found[1], found[0]] == first


def test_heads_that_meet_keep_their_shafts() -> None:
    """Two tips cross and one instrument is hidden for a while; what is seen again has the identity of its own shaft."""
    assigner = TrackAssigner()
    left, right = assigner.update([at(100), at(600)], [RIGHTWARDS, LEFTWARDS], SIZE, 0.0)
    for step in range(1, 11):
        seen = [at(100 + 22 * step), at(600 - 25 * step)]
        assert assigner.update(seen, [RIGHTWARDS, LEFTWARDS], SIZE, 0.04 * step) == [left, right]
    assert assigner.update([at(325)], [LEFTWARDS], SIZE, 0.44) == [right]
    assert assigner.update([at(345), at(330)], [LEFTWARDS, RIGHTWARDS], SIZE, 0.48) == [right, left]
    (other,) = assigner.update([at(330)], [np.array([0.9, 0.1])], SIZE, 0.52)
    assert other == left


def test_a_wrongly_grouped_frame_changes_nobody_and_a_lasting_turn_does() -> None:
    assigner = TrackAssigner()
    left, right = assigner.update([at(300, 100), at(400, 160)], [RIGHTWARDS, LEFTWARDS], SIZE, 0.0)
    for step in range(1, 4):
        found = assigner.update([at(310, 100), at(390, 160)], [LEFTWARDS, RIGHTWARDS], SIZE, 0.04 * step)
        assert {identity.slot for identity in found} == {"left", "right"}
        assert {identity.track_id for identity in found} == {1, 2}
    assert assigner.update([at(310, 100), at(390, 160)], [RIGHTWARDS, LEFTWARDS], SIZE, 0.2) == [left, right]
    # The left one is gone for good, and the right one comes to where it was.
    (found, *_) = [assigner.update([at(330, 110)], [LEFTWARDS], SIZE, 2.0 + 0.04 * step) for step in range(3)]
    assert (found[0].slot, found[0].track_id) == ("right", 3)
    for step in range(20):
        (turned,) = assigner.update([at(330, 110)], [RIGHTWARDS], SIZE, 2.2 + 0.04 * step)
    assert (turned.slot, turned.track_id) == ("left", 4)


def test_a_short_gap_keeps_and_a_long_gap_ends_a_track() -> None:
    assigner = TrackAssigner(max_age_s=1.0)
    (first,) = assigner.update([at(100)], [RIGHTWARDS], SIZE, 0.0)
    assigner.update([], [], SIZE, 0.5)
    assert assigner.update([at(110)], [RIGHTWARDS], SIZE, 0.9) == [first]
    (later,) = assigner.update([at(110)], [RIGHTWARDS], SIZE, 3.0)
    assert later.track_id == 2


def test_a_jump_is_another_instrument_and_time_that_runs_back_starts_anew() -> None:
    assigner = TrackAssigner()
    assigner.update([at(10)], [RIGHTWARDS], SIZE, 5.0)
    (other,) = assigner.update([at(650)], [LEFTWARDS], SIZE, 5.04)
    assert (other.track_id, other.slot) == (2, "right")
    (again,) = assigner.update([at(650)], [LEFTWARDS], SIZE, 0.0)
    assert again.track_id == 3, "a number is never given again"
    assigner.reset()
    assert assigner.update([at(650)], [LEFTWARDS], SIZE, 9.0)[0].track_id == 1


def test_a_frame_that_comes_late_changes_no_identity() -> None:
    assigner = TrackAssigner()
    (first,) = assigner.update([at(100)], [RIGHTWARDS], SIZE, 5.0)
    assert assigner.update([at(100)], [RIGHTWARDS], SIZE, 4.97) == [first]
    assert assigner.update([at(100)], [RIGHTWARDS], SIZE, 5.04) == [first]
    assert assigner.update([at(100)], [RIGHTWARDS], SIZE, 5.0) != [first], "by more it is time that went back"


def test_no_slot_is_given_twice() -> None:
    rng = np.random.default_rng(0)
    assigner = TrackAssigner()
    for step in range(200):
        count = int(rng.integers(0, 6))
        instruments = [at(*rng.uniform(0, 700, 2)) for _ in range(count)]
        directions = [RIGHTWARDS if rng.random() < 0.5 else LEFTWARDS for _ in range(count)]
        found = assigner.update(instruments, directions, SIZE, step * 0.04)
        assert len({i.slot for i in found}) == count
        assert len({i.track_id for i in found}) == count


@pytest.mark.parametrize(
    ("x", "slot"),
    [(0, "left"), (160, "left"), (166, "middle"), (340, "middle"), (510, "middle"), (530, "right"), (800, "right")],
)
def test_the_slot_nearest_to_its_side(x: float, slot: str) -> None:
    """A quarter and three quarters of the width are the limits; the mean of the landmarks is 20 px right of ``x``."""
    assert TrackAssigner(("left", "middle", "right")).update([at(x)], [UNKNOWN], SIZE, 0.0)[0].slot == slot


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        (at(150), True),  # at the gate
        (at(50), True),
        (at(100, 150), True),
        (at(150.01), False),
        (at(100, 49.99), False),
        (at(130, 140), True),
        (at(140, 140), False),
        (np.array([[100.0, 100.0], [240.0, 100.0], [0.0, 0.0]]), True),  # 0 and 100 px; the third was not seen
        (np.array([[100.0, 100.0], [240.1, 100.0], [0.0, 0.0]]), False),
        (np.array([[np.nan, 100.0], [np.nan, np.nan], [100.0, 100.0]]), False),  # no landmark in common
    ],
)
def test_the_mean_distance_of_common_landmarks_is_limited(points: np.ndarray, kept: bool) -> None:
    assigner = TrackAssigner(gate=0.1)
    (first,) = assigner.update([at(100)], [RIGHTWARDS], (300, 400), 0.0)
    (found,) = assigner.update([points], [RIGHTWARDS], (300, 400), 0.04)
    assert (found == first) is kept


@pytest.mark.parametrize(
    ("before", "seen", "kept"),
    [
        ((1.0, 0.0), (-1.0, 0.0), False),
        ((10.0, 0.0), (-0.01, 0.03), False),
        ((0.1, 0.0), (-10.0, 30.0), False),
        ((1.0, 0.0), (-0.5, 1.58), False),  # cosine -0.302
        ((1.0, 0.0), (-0.5, 1.60), True),  # cosine -0.298
        ((10.0, 0.0), (-0.25, 1.0), True),
        ((0.1, 0.0), (-25.0, 100.0), True),
        ((0.5, 1.7), (-1.0, 0.0), True),
        ((1.0, 1.0), (-1.0, 1.0), True),
        ((0.1, 1.0), (-0.5, 1.0), True),
        ((1.0, 0.1), (1.0, -0.5), True),
        ((1.0, 0.0), (0.0, 0.0), True),  # no direction
        ((0.0, 0.0), (1.0, 0.0), True),
        ((1.0, 0.0), (math.nan, math.nan), True),
        ((math.nan, math.nan), (-1.0, 0.0), True),
    ],
)
def test_an_opposite_direction_is_believed_after_five_frames(
    before: tuple[float, float], seen: tuple[float, float], kept: bool
) -> None:
    assigner = TrackAssigner()
    (first,) = assigner.update([at(100)], [np.array(before)], SIZE, 0.0)
    found = [assigner.update([at(100)], [np.array(seen)], SIZE, 0.04 * step)[0] for step in range(1, 7)]
    assert [identity == first for identity in found] == [True] * 5 + [kept]


def test_opposite_frames_count_only_in_a_row() -> None:
    assigner = TrackAssigner()
    found = [
        assigner.update([at(100)], [direction], SIZE, 0.04 * step)[0].track_id
        for step, direction in enumerate([RIGHTWARDS, *[LEFTWARDS] * 5] * 3 + [RIGHTWARDS])
    ]
    assert found == [1] * 19


def test_the_cosine_at_the_limit_is_not_opposite() -> None:
    limit = np.array([-0.3, math.sqrt(0.91)])
    assigner = TrackAssigner()
    (first,) = assigner.update([at(100)], [RIGHTWARDS], SIZE, 0.0)
    for step in range(1, 6):
        assert assigner.update([at(100)], [limit], SIZE, 0.04 * step) == [first]
    # The direction has followed, and nothing was opposite so far.
    assert assigner.update([at(100)], [np.array([-1.0, -0.2])], SIZE, 0.24) == [first]


def test_five_opposite_frames_do_not_exclude_the_limit() -> None:
    assigner = TrackAssigner()
    (first,) = assigner.update([at(100)], [RIGHTWARDS], SIZE, 0.0)
    for step in range(1, 6):
        assigner.update([at(100)], [LEFTWARDS], SIZE, 0.04 * step)
    assert assigner.update([at(100)], [np.array([-0.3, math.sqrt(0.91)])], SIZE, 0.24) == [first]


@pytest.mark.parametrize(
    ("directions", "filtered"),
    [
        ([UNKNOWN, UNKNOWN], UNKNOWN),
        ([UNKNOWN, DOWNWARDS], DOWNWARDS),
        ([RIGHTWARDS, UNKNOWN], RIGHTWARDS),
        ([RIGHTWARDS, LEFTWARDS], RIGHTWARDS),
        ([RIGHTWARDS, DOWNWARDS], [0.8, 0.2]),
        ([RIGHTWARDS, DOWNWARDS, DOWNWARDS], [0.64, 0.36]),
    ],
)
def test_directions_are_low_pass_filtered(directions: list[np.ndarray], filtered: np.ndarray) -> None:
    assigner = TrackAssigner()
    for step, direction in enumerate(directions):
        assigner.update([at(100)], [direction], SIZE, 0.04 * step)
    np.testing.assert_allclose(assigner.tracks[0].direction, filtered)


@pytest.mark.parametrize(
    ("rivals", "directions", "winner"),
    [
        ([at(110), at(100)], [RIGHTWARDS, RIGHTWARDS], 1),
        ([at(100), at(100)], [np.array([10.0, 10.0]), np.array([0.1, 0.0])], 1),
        ([at(120), at(110)], [UNKNOWN, RIGHTWARDS], 1),  # unknown is not better than known
        ([at(110), at(120)], [UNKNOWN, RIGHTWARDS], 0),
        ([at(210), at(100)], [RIGHTWARDS, DOWNWARDS], 0),  # a right angle weighs half of the gate of 230 px
        ([at(220), at(100)], [RIGHTWARDS, DOWNWARDS], 1),
    ],
)
def test_the_nearest_in_place_and_direction_is_the_same(rivals, directions, winner: int) -> None:  # type: ignore[no-untyped-def]
    assigner = TrackAssigner()
    (first,) = assigner.update([at(100)], [RIGHTWARDS], SIZE, 0.0)
    found = assigner.update(rivals, directions, SIZE, 0.04)
    assert found[winner] == first
    assert found[1 - winner].track_id == 2


@pytest.mark.parametrize(
    ("first_s", "then_s", "kept"),
    [
        (0.0, 1.0, True),  # at the largest age
        (0.0, 1.001, False),
        (LATE_S, 0.0, True),  # as late as a frame may be
        (LATE_S + 0.001, 0.0, False),
        (-1e9, -1e9, True),
    ],
)
def test_ages_at_the_limits(first_s: float, then_s: float, kept: bool) -> None:
    assigner = TrackAssigner()
    (first,) = assigner.update([at(100)], [RIGHTWARDS], SIZE, first_s)
    assert (assigner.update([at(100)], [RIGHTWARDS], SIZE, then_s) == [first]) is kept


def test_a_new_instrument_on_the_other_side_ends_no_hidden_track() -> None:
    assigner = TrackAssigner()
    (left,) = assigner.update([at(100)], [RIGHTWARDS], SIZE, 0.0)
    (right,) = assigner.update([at(600)], [LEFTWARDS], SIZE, 0.04)
    assert (left.slot, right.slot) == ("left", "right")
    assert assigner.update([at(600), at(100)], [LEFTWARDS, RIGHTWARDS], SIZE, 0.08) == [right, left]
