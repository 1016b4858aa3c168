import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from csl_tracker.grouping import Grouper
from csl_tracker.heatmaps import Peak
from csl_tracker.instruments import ENDOVIS, InstrumentSet

SIZE = (128, 160)


def peak(x: float, y: float, confidence: float = 0.9) -> Peak:
    return Peak(x, y, np.eye(2), confidence)


def instrument(x: float, y: float, dx: float, confidence: float = 0.9) -> list[Peak]:
    """center, shaft, head, left and right clasper of an instrument that points along the x axis."""
    steps = [(0, 0), (12, 0), (26, 0), (40, -4), (40, 4)]
    return [peak(x + dx * a, y + b, confidence) for a, b in steps]


def foreground(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros(SIZE, np.float32)
    for x0, y0, x1, y1 in boxes:
        image[y0:y1, x0:x1] = 1.0
    return image


def by_landmark(*instruments: list[Peak]) -> list[list[Peak]]:
    return [sorted(found, key=lambda p: -p.confidence) for found in zip(*instruments, strict=True)]


LEFT, RIGHT = instrument(20, 40, 1.0), instrument(140, 90, -1.0, 0.8)
TOOLS = foreground((0, 30, 65, 50), (95, 80, 160, 100))


def test_two_instruments_are_kept_apart() -> None:
    groups = Grouper(ENDOVIS, 2, 0.3).group(by_landmark(LEFT, RIGHT), TOOLS)
    assert groups == [LEFT, RIGHT]


def test_heads_side_by_side_are_told_apart_by_what_lies_between() -> None:
    """Tips that touch are nearer to the other instrument's head than many a skeleton edge; the segmentation tells."""
    upper, lower = instrument(20, 50, 1.0), instrument(20, 64, 1.0, 0.8)
    groups = Grouper(ENDOVIS, 2, 0.3).group(by_landmark(upper, lower), foreground((0, 44, 65, 56), (0, 58, 65, 70)))
    assert groups == [upper, lower]


def test_one_instrument_takes_the_highest_points() -> None:
    """As in the paper, whatever they are grouped to."""
    groups = Grouper(ENDOVIS, 1, 0.3).group(by_landmark(LEFT, RIGHT), TOOLS)
    assert groups == [LEFT]
    mixed = [[peak(1, 1, 0.9)], [peak(150, 120, 0.5)], [], [peak(3, 3, 0.2)], [peak(9, 9, 0.1)]]
    (found,) = Grouper(ENDOVIS, 1, 0.3).group(mixed, TOOLS)
    assert [p and p.x for p in found] == [1, 150, None, 3, 9]


@pytest.mark.parametrize("missing", [0, 1, 2, 3])
def test_a_missing_landmark_is_bridged_and_filled_with_the_unsure_peak_nearby(missing: int) -> None:
    weak = peak(LEFT[missing].x + 2, LEFT[missing].y, 0.1)
    peaks = by_landmark(LEFT, RIGHT)
    peaks[missing] = [RIGHT[missing], weak]
    groups = Grouper(ENDOVIS, 2, 0.3).group(peaks, TOOLS)
    expected = list(LEFT)
    expected[missing] = weak
    assert sorted(groups, key=lambda g: g[1 if missing == 0 else 0].x) == [expected, RIGHT]  # type: ignore[union-attr]


def test_stray_and_unsure_peaks_make_no_instrument() -> None:
    stray = [[peak(80, 10, 0.9)], [], [], [], []]
    assert Grouper(ENDOVIS, 2, 0.3).group(stray, TOOLS) == []
    unsure = by_landmark(instrument(20, 40, 1.0, 0.2))
    assert Grouper(ENDOVIS, 2, 0.3).group(unsure, TOOLS) == []
    assert Grouper(ENDOVIS, 1, 0.3).group(unsure, TOOLS) == []
    assert Grouper(ENDOVIS, 2, 0.3).group([[], [], [], [], []], TOOLS, always_report=True) == []


@pytest.mark.parametrize("count", [1, 2])
def test_always_report_gives_best_guesses(count: int) -> None:
    faint = instrument(140, 90, -1.0, 0.05)
    groups = Grouper(ENDOVIS, count, 0.3).group(by_landmark(LEFT, faint), TOOLS, always_report=True)
    assert groups == [LEFT, faint][:count]
    assert len(Grouper(ENDOVIS, count, 0.99).group(by_landmark(LEFT, faint), TOOLS, always_report=True)) == count


def test_no_more_than_asked_for_and_no_landmark_twice() -> None:
    third = instrument(60, 110, 1.0, 0.6)
    groups = Grouper(ENDOVIS, 3, 0.3).group(by_landmark(LEFT, RIGHT, third), TOOLS)
    assert len(groups) == 3
    for group in groups:
        assert len({id(p) for p in group}) == 5
    used = [id(p) for group in groups for p in group]
    assert len(used) == len(set(used))


def test_the_tip_of_another_instrument_is_not_taken_from_afar() -> None:
    """A sure peak that did not fit when peaks were joined does not come in as a guess, where it would count as seen."""
    tip = peak(150, 110, 0.9)
    peaks = [[LEFT[0]], [LEFT[1]], [LEFT[2]], [tip], []]
    (group,) = Grouper(ENDOVIS, 2, 0.3).group(peaks, TOOLS)
    assert group == [*LEFT[:3], None, None]
    (measured, *_) = Grouper(ENDOVIS, 2, 0.3).group(peaks, TOOLS, always_report=True)
    assert measured[:3] == LEFT[:3]


def test_a_set_of_one_landmark_needs_no_skeleton() -> None:
    single = InstrumentSet(("tip",), ("background", "tool"))
    groups = Grouper(single, 2, 0.3).group([[peak(1, 1), peak(50, 50, 0.8)]], TOOLS)
    assert [g[0].x for g in groups] == [1, 50]  # type: ignore[union-attr]


@pytest.mark.parametrize("order", [1, -1])
def test_where_tips_cross_each_instrument_runs_straight_on(order: int) -> None:
    """Two instruments face each other and their tips have passed: each head's nearest tips are the other's."""
    right, left = instrument(20, 60, 1.0), instrument(84, 60, -1.0, 0.8)
    # Tips at x = 60 and 44, heads at 46 and 58: from the head at 46 the tips at 44 are nearer, but lie behind it.
    everywhere = np.ones(SIZE, np.float32)
    peaks = by_landmark(*[right, left][::order])
    groups = Grouper(ENDOVIS, 2, 0.3).group(peaks, everywhere)
    assert groups == [right, left]


def test_a_real_instrument_gives_nothing_to_one_that_is_only_guessed() -> None:
    """Asked for two guesses where there is one instrument: its own landmarks stay together, however straight the others run."""
    bent = [peak(20, 40), peak(40, 40), peak(60, 40), peak(60, 60), peak(52, 62)]
    ghost = instrument(100, 40, 0.4, 0.1)
    groups = Grouper(ENDOVIS, 2, 0.3).group(by_landmark(bent, ghost), foreground((10, 30, 70, 70)), always_report=True)
    assert groups == [bent, ghost]


def test_the_choice_is_the_cheapest_of_all() -> None:
    """Dynamic programming against trying all: confidence, distance and segmentation weighed against each other."""
    rng = np.random.default_rng(3)
    everywhere = rng.random(SIZE).astype(np.float32)
    for _ in range(20):
        peaks = [
            [peak(rng.uniform(0, 127), rng.uniform(0, 127), float(c)) for c in sorted(rng.random(3))[::-1]] for _ in range(5)
        ]
        grouper = Grouper(ENDOVIS, 3, 2.0)  # nobody is seen, so that nothing is exchanged
        first = max(grouper.group(peaks, everywhere, always_report=True), key=lambda group: -price(group, everywhere))
        assert price(first, everywhere) <= min(price(list(all_), everywhere) for all_ in itertools.product(*peaks)) + 1e-9


def price(group: Sequence[Peak | None], foreground: np.ndarray) -> float:
    """What a whole instrument costs, written down as in the class's own words."""
    found = {name: p for name, p in zip(ENDOVIS.landmarks, group, strict=True) if p is not None}
    total = sum(2.0 * (1.0 - p.confidence) for p in found.values())
    for a, b in ENDOVIS.skeleton:
        p, q = found[a], found[b]
        line = [(round(p.y + t / 8 * (q.y - p.y)), round(p.x + t / 8 * (q.x - p.x))) for t in range(9)]
        total += np.hypot(p.x - q.x, p.y - q.y) / np.hypot(*SIZE) + 0.3 * (1.0 - np.mean([foreground[at] for at in line]))
    return float(total)


def test_bends_are_measured_from_the_first_landmark_outwards() -> None:
    names = ENDOVIS.landmarks
    assert {tuple(names[i] for i in chain) for chain in Grouper(ENDOVIS, 2, 0.3).chains} == {
        ("center", "shaft", "head"),
        ("shaft", "head", "left_clasper"),
        ("shaft", "head", "right_clasper"),
    }
    assert Grouper(InstrumentSet(("a", "b"), ("background",)), 2, 0.3).chains == []
