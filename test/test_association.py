import numpy as np
import pytest

from csl_tracker.association import Associator, instance_map
from csl_tracker.heatmaps import Peak
from csl_tracker.instruments import ENDOVIS

SIZE = (128, 160)
HEAD = ENDOVIS.anchor


def peak(x, y, confidence=0.9):
    return Peak(float(x), float(y), np.eye(2), confidence)


def straight(x, y, angle, scale=1.0):
    """Landmarks of an instrument whose head is at a place, (5, 2)."""
    d, n = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    along = scale * np.array([[-28.0, 0], [-16, 0], [0, 0], [12, -4], [12, 4]])
    return np.array([x, y]) + along[:, :1] * d + along[:, 1:] * n


def scene(*tools, noise=0.0, rng=None):
    """Peaks of the landmarks in view, and offsets that are right at each of them."""
    offsets = np.zeros((2, *SIZE), np.float32)
    peaks = [[] for _ in range(5)]
    for number, points in enumerate(tools):
        for i, (x, y) in enumerate(points):
            if not (0 <= x < SIZE[1] and 0 <= y < SIZE[0]):
                continue
            peaks[i].append(peak(x, y, 0.9 - 0.01 * number))
            vote = points[HEAD] - (x, y)
            if noise:
                vote = vote * (1 + rng.normal(0, noise)) + rng.normal(0, 1, 2)
            r, c = round(float(y)), round(float(x))
            offsets[:, max(0, r - 2) : r + 3, max(0, c - 2) : c + 3] = vote[:, None, None]
    return peaks, offsets


def places(association):
    return [[None if one is None else (one.x, one.y) for one in group] for group in association.groups]


def test_without_peaks_there_is_no_instrument():
    found = Associator(ENDOVIS, 4, 0.3).group([[]] * 5, np.zeros((2, *SIZE), np.float32))
    assert found.groups == []
    assert found.anchors.shape == (0, 2)


@pytest.mark.parametrize("confidences", [(0.9, 0.2), (0.2, 0.2)])
def test_one_visible_landmark_is_no_instrument(confidences):
    peaks = [[], [], [peak(50, 50, confidences[0])], [peak(55, 50, confidences[1])], []]
    offsets = np.full((2, *SIZE), 0.0, np.float32)
    offsets[0] = -5
    assert Associator(ENDOVIS, 4, 0.3).group(peaks, offsets).groups == []


@pytest.mark.parametrize("seed", range(40))
def test_crossing_instruments_do_not_exchange_landmarks(seed):
    rng = np.random.default_rng(seed)
    while True:
        tools = [straight(*rng.uniform((30, 30), (130, 100)), rng.uniform(0, 6.28)) for _ in range(3)]
        every = np.concatenate(tools)
        apart = np.linalg.norm(every[:, None] - every[None], axis=-1) + 99 * np.eye(15)
        heads = apart[HEAD::5, HEAD::5]
        if apart.min() > 6 and heads.min() > 25:  # nearer landmarks would overwrite the offsets of one another
            break
    found = Associator(ENDOVIS, 4, 0.3).group(*scene(*tools, noise=0.05, rng=rng))
    assert len(found.groups) == 3
    for group in places(found):
        owners = {
            k
            for k, tool in enumerate(tools)
            for one in group
            if one is not None and np.abs(tool - one).sum(axis=1).min() < 1e-6
        }
        assert len(owners) == 1
        assert None not in group


def test_an_instrument_whose_head_is_out_of_view_is_found_by_its_other_landmarks():
    hidden = straight(175, 64, 0.0)  # head and claspers are beyond the right border
    seen = straight(60, 30, 1.0)
    found = Associator(ENDOVIS, 4, 0.3).group(*scene(hidden, seen))
    assert len(found.groups) == 2
    assert [one is None for one in found.groups[1]] == [False, False, True, True, True]
    np.testing.assert_allclose(found.anchors[1], hidden[HEAD], atol=1)


def test_a_second_peak_of_a_landmark_makes_no_second_instrument():
    peaks, offsets = scene(straight(80, 60, 0.3))
    peaks[HEAD].append(peak(86, 62, 0.8))
    peaks[3].append(peak(90, 57, 0.5))
    offsets[:, 55:60, 88:93] = (np.array([80, 60]) - (90, 57))[:, None, None]
    found = Associator(ENDOVIS, 4, 0.3).group(peaks, offsets)
    assert len(found.groups) == 1
    assert found.groups[0][HEAD].confidence == pytest.approx(0.9)
    assert found.groups[0][3].confidence == pytest.approx(0.9)


def test_no_more_instruments_than_allowed_and_the_most_confident_first():
    tools = [straight(40, 30, 0.0), straight(120, 30, 0.0), straight(80, 100, 0.0)]
    found = Associator(ENDOVIS, 2, 0.3).group(*scene(*tools))
    assert [group[HEAD].x for group in found.groups] == [40, 120]


def test_pixels_belong_to_the_instrument_to_which_they_point():
    offsets = np.zeros((2, 20, 30), np.float32)
    rows, columns = np.mgrid[0:20, 0:30]
    anchors = np.array([[5.0, 10.0], [25.0, 10.0]])
    left = columns < 15
    offsets[0] = np.where(left, 5, 25) - columns
    offsets[1] = 10 - rows
    tool = np.ones((20, 30), bool)
    tool[0] = False
    offsets[:, 19, 0] = 300
    found = instance_map(offsets, tool, anchors)
    assert (found[0] == 0).all()
    assert found[19, 0] == 0
    assert (found[1:19, :15] == 1).all()
    assert (found[1:, 15:] == 2).all()
    assert (instance_map(offsets, tool, np.zeros((0, 2))) == 0).all()
