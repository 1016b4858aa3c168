import numpy as np
import pytest

from csl_tracker.identity import TrackAssigner

SIZE = (576, 720)
RIGHTWARDS, LEFTWARDS, UNKNOWN = np.array([1.0, 0.0]), np.array([-1.0, 0.0]), np.full(2, np.nan)


def at(x: float, y: float = 100.0) -> np.ndarray:
    return np.array([[x, y], [x + 40, y], [np.nan, np.nan]])


@pytest.mark.parametrize(
    ("instruments", "directions", "slots"),
    [
        ([at(100)], [RIGHTWARDS], ["left"]),
        ([at(600)], [LEFTWARDS], ["right"]),
        ([at(100)], [LEFTWARDS], ["right"]),
        ([at(600), at(100)], [LEFTWARDS, RIGHTWARDS], ["right", "left"]),
        ([at(600), at(500)], [UNKNOWN, UNKNOWN], ["right", "left"]),
        ([at(10), at(300), at(600)], [UNKNOWN] * 3, ["left", "right", "extra1"]),
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
