from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from csl_tracker.instruments import ENDOVIS
from csl_tracker.labelling.selection import FLOOR, JUMP, NOTHING_SEEN, Candidate, Choice, Judge, Pool, choose, embed
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

SIZE = (300, 400)
IMAGE = np.zeros((*SIZE, 3), np.uint8)
SHAPE = np.array([[100, 100], [120, 100], [140, 100], [160, 90], [160, 110]], float)


def instrument(shift: float = 0.0, confidence: float = 0.9, track: int = 1, points: np.ndarray = SHAPE) -> InstrumentEstimate:
    marks = tuple(
        LandmarkEstimate(name, float(x + shift), float(y), np.eye(2), confidence, True)
        for name, (x, y) in zip(ENDOVIS.landmarks, points, strict=True)
    )
    return InstrumentEstimate(track, "left", marks, confidence, 0.0, (0, 0, 1, 1))


def result(*instruments: InstrumentEstimate) -> TrackingResult:
    return TrackingResult(instruments, None, SIZE, 0.0)


def marks(*frames: TrackingResult, every: int = 1) -> list[Candidate]:
    judge = Judge(ENDOVIS, SIZE, every)
    return [judge.mark(index, index / 25, IMAGE, found) for index, found in enumerate(frames)]


def candidate(stamp_s: float, doubt: float = 0.0, place: tuple[float, ...] = (0.0,)) -> Candidate:
    return Candidate(round(stamp_s * 25), stamp_s, doubt, 0.0, 0.0, np.array(place, np.float32))


@pytest.mark.parametrize(
    ("found", "doubt"),
    [(result(instrument(confidence=0.9)), 0.1), (result(instrument(confidence=0.9), instrument(confidence=0.3)), 0.4)],
)
def test_doubt_is_what_lacks_of_confidence(found: TrackingResult, doubt: float) -> None:
    assert marks(found)[0].doubt == pytest.approx(doubt)


def test_nothing_seen_may_be_right_or_a_miss() -> None:
    assert marks(result())[0].doubt == NOTHING_SEEN


def test_steady_motion_is_no_jump() -> None:
    assert [round(item.jump, 9) for item in marks(*(result(instrument(shift=5 * i)) for i in range(5)))] == [0] * 5


@pytest.mark.parametrize("every", [1, 4])
def test_jump_is_the_distance_from_where_a_landmark_was_going(every: int) -> None:
    """5 px a frame, then 30 px in one: 25 px too far, and 25 px too little a frame later (it stops there)."""
    found = marks(*(result(instrument(shift)) for shift in (0, 5, 35, 40)), every=every)
    expected = 1 - math.exp(-25 / (JUMP * math.hypot(*SIZE) * every))
    assert [item.jump for item in found] == pytest.approx([0, 0, expected, expected])


def test_an_instrument_that_comes_or_goes() -> None:
    found = marks(result(instrument()), result(instrument()), result(), result(), result(instrument()))
    assert [item.jump for item in found] == [0, 0, 0.5, 0, 0.5]
    assert Choice(replace(found[2], doubt=0.2), 1, 0).reason == "an instrument comes or goes"


def test_mirror_image_that_agrees_and_one_that_does_not() -> None:
    mirrored = SHAPE.copy()
    mirrored[:, 0] = SIZE[1] - 1 - mirrored[:, 0]
    mirrored = mirrored[[0, 1, 2, 4, 3]]  # left and right names swap
    judge = Judge(ENDOVIS, SIZE)
    agrees = judge.mark(0, 0.0, IMAGE, result(instrument()), result(instrument(points=mirrored)))
    assert agrees.mirror == pytest.approx(0, abs=1e-12)
    off = judge.mark(1, 0.04, IMAGE, result(instrument()), result(instrument(points=mirrored + np.array([0, 10]))))
    assert off.mirror == pytest.approx(1 - math.exp(-10 / (JUMP * 500)))
    assert judge.mark(2, 0.08, IMAGE, result(instrument()), result()).mirror == 1
    assert judge.mark(3, 0.12, IMAGE, result(), result()).mirror == 0


def test_one_reason_is_enough() -> None:
    assert Candidate(0, 0, 0.5, 0.2, 0.1, np.zeros(1, np.float32)).score == pytest.approx(1 - 0.5 * 0.8 * 0.9)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"doubt": 0.5}, "no instrument found"),
        ({"doubt": 0.5, "instruments": (instrument(),)}, "low confidence"),
        ({"doubt": 0.1, "jump": 0.7, "instruments": (instrument(),)}, "pose jump"),
        ({"mirror": 0.9, "instruments": (instrument(),)}, "differs in the mirror"),
        ({"doubt": 0.1, "instruments": (instrument(),)}, "unlike the others"),
    ],
)
def test_reasons(changes: dict[str, object], reason: str) -> None:
    assert Choice(replace(candidate(0), **changes), 1, 0.0).reason == reason  # type: ignore[arg-type]


def test_distance_of_black_and_white_is_that_of_their_pixels() -> None:
    white, tool = np.full_like(IMAGE, 255), np.ones(SIZE, np.uint8)
    black = embed(IMAGE, None)
    assert np.linalg.norm(embed(white, tool) - black) == pytest.approx(1)
    assert np.linalg.norm(embed(white, None) - black) == pytest.approx(math.sqrt(3 / 4))
    np.testing.assert_array_equal(embed(IMAGE, tool * 255), black)  # ignored pixels are no instrument


def test_choice_begins_with_the_highest_score_and_goes_on_with_the_most_unlike() -> None:
    items = [
        candidate(0, 0.30, (0.0, 0.0)),
        candidate(2, 0.31, (0.0, 0.1)),
        candidate(4, 0.20, (0.9, 0.0)),
        candidate(6, 0.29, (0.1, 0.0)),
    ]
    choices = choose(items, 3, 1.0)
    assert [choice.candidate.stamp_s for choice in choices] == [2, 4, 6]
    assert math.isnan(choices[0].distance)
    assert choices[1].distance == pytest.approx(math.hypot(0.9, 0.1))
    gains = [(FLOOR + item.score) * distance for item, distance in ((items[0], 0.1), (items[3], math.hypot(0.1, 0.1)))]
    assert gains[1] > gains[0]


def test_of_equals_the_earlier_one_is_taken() -> None:
    assert [choice.candidate.frame for choice in choose([candidate(t) for t in range(5)], 3, 0.0)] == [0, 25, 50]


@pytest.mark.parametrize(("spacing", "expected"), [(0.0, 10), (1.0, 10), (1.5, 5), (100.0, 1)])
def test_spacing_limits_how_many_there_are(spacing: float, expected: int) -> None:
    rng = np.random.default_rng(0)
    items = [candidate(float(t), rng.random(), tuple(rng.random(3))) for t in range(10)]
    choices = choose(items, 10, spacing)
    stamps = sorted(choice.candidate.stamp_s for choice in choices)
    assert all(later - earlier >= spacing for earlier, later in itertools.pairwise(stamps))
    assert len(choices) <= expected
    assert len(choices) >= (expected + 1) // 2


@pytest.mark.parametrize(("items", "count"), [([], 3), ([candidate(0)], 0)])
def test_nothing_to_choose(items: list[Candidate], count: int) -> None:
    assert choose(items, count, 1.0) == []


def test_pool_keeps_the_best_of_every_stretch_and_stays_small() -> None:
    pool = Pool(count=4, spacing_s=1.0)
    largest = 0
    for index in range(20_000):
        pool.add(candidate(index / 25, 0.9 if index % 1000 == 501 else 0.1))
        largest = max(largest, len(pool))
    kept = {item.frame for item in pool.candidates()}
    assert {index for index in range(20_000) if index % 1000 == 501} <= kept
    assert largest <= 256
    assert len(kept) > 128
    assert [item.frame for item in pool.candidates()] == sorted(kept)
