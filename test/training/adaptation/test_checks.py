import numpy as np
import pytest

from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.instruments import ENDOVIS
from csl_tracker.training.adaptation.checks import Prediction, Reason, View, judge, view_in_time

SIZE = (96, 128)
FRAMES = list(SyntheticSequence(3, 5, SIZE, instruments=1))


def truth(index: int) -> Prediction:
    sample = FRAMES[index]
    return Prediction(sample.label_map.copy(), sample.landmarks.copy())


def mirror_of(frame: Prediction) -> View:
    return View(truth(2).mirrored(ENDOVIS).mirrored(ENDOVIS), frame.points, in_time=False)


def neighbours(frame: Prediction) -> list[View]:
    return [view_in_time(frame, FRAMES[2].image, truth(other), FRAMES[other].image) for other in (0, 4)]


def nothing() -> Prediction:
    return Prediction(np.zeros(SIZE, np.uint8), np.zeros((0, 5, 2)))


def test_the_truth_passes_and_keeps_its_labels():
    frame = truth(2)
    verdict = judge(frame, [mirror_of(frame), *neighbours(frame)], ENDOVIS)
    assert verdict.reason is Reason.KEPT
    assert (verdict.dropped, verdict.wrong_side) == (0, 0)
    np.testing.assert_array_equal(verdict.landmarks, frame.points)
    assert verdict.labelled.all()
    known = verdict.label_map != 255
    assert known.mean() > 0.97
    np.testing.assert_array_equal(verdict.label_map[known], frame.label_map[known])


def test_mirroring_twice_changes_nothing_and_once_swaps_the_claspers():
    frame = truth(2)
    once = frame.mirrored(ENDOVIS)
    left, right = (ENDOVIS.landmarks.index(f"{side}_clasper") for side in ("left", "right"))
    np.testing.assert_allclose(once.points[:, left, 0], SIZE[1] - 1 - frame.points[:, right, 0])
    np.testing.assert_allclose(once.mirrored(ENDOVIS).points, frame.points)


def test_flow_explains_the_motion_of_a_neighbour():
    frame = truth(2)
    shift = 3
    moved = Prediction(np.roll(frame.label_map, shift, axis=1), frame.points + np.array([shift, 0]))
    view = view_in_time(frame, FRAMES[2].image, moved, np.roll(FRAMES[2].image, shift, axis=1))
    inside = slice(8, -8)
    assert (view.prediction.label_map == frame.label_map)[:, inside].mean() > 0.98
    assert np.nanmax(np.linalg.norm(view.expected - moved.points, axis=-1)) < 1.5


@pytest.mark.parametrize(
    ("in_time", "reason"), [(False, Reason.MIRROR_MASK), (True, Reason.TIME_MASK)], ids=["mirror", "neighbour"]
)
def test_another_mask_drops_the_frame(in_time, reason):
    frame = truth(2)
    other = Prediction(np.roll(frame.label_map, 30, axis=0), frame.points)
    assert judge(frame, [View(other, frame.points, in_time)], ENDOVIS).reason is reason


@pytest.mark.parametrize(("in_time", "reason"), [(False, Reason.MIRROR_COUNT), (True, Reason.TIME_COUNT)])
def test_another_number_of_instruments_drops_the_frame(in_time, reason):
    frame = truth(2)
    other = Prediction(frame.label_map, np.concatenate((frame.points, frame.points)))
    assert judge(frame, [View(other, frame.points, in_time)], ENDOVIS).reason is reason


def test_a_landmark_elsewhere_is_unlabelled_and_too_many_drop_the_frame():
    frame = truth(2)
    for wrong, reason in ((1, Reason.KEPT), (4, Reason.LANDMARKS)):
        points = frame.points.copy()
        points[:, :wrong] += 25
        verdict = judge(frame, [View(Prediction(frame.label_map, points), frame.points, in_time=False)], ENDOVIS)
        assert verdict.reason is reason
        assert verdict.dropped == wrong
    verdict = judge(frame, [View(Prediction(frame.label_map, np.full_like(points, np.nan)), frame.points, False)], ENDOVIS)
    assert verdict.reason is Reason.LANDMARKS


def test_claspers_on_the_wrong_sides_are_unlabelled():
    frame = truth(2)
    frame.points[:] = frame.points[:, ENDOVIS.flip_permutation()]
    verdict = judge(frame, [View(frame, frame.points, in_time=False)], ENDOVIS)
    assert verdict.wrong_side == 2
    np.testing.assert_array_equal(verdict.labelled[0], [True, True, True, False, False])
    assert np.isnan(verdict.landmarks[0, 3:]).all()


def test_pixels_that_the_mirror_image_doubts_are_ignored():
    frame = truth(2)
    doubted = frame.label_map.copy()
    row, column = np.argwhere(doubted > 0)[0]
    doubted[row, column] = 0
    label_map = judge(frame, [View(Prediction(doubted, frame.points), frame.points, False)], ENDOVIS).label_map
    assert np.argwhere(label_map == 255).tolist() == [[row, column]]


def test_emptiness_needs_every_view():
    frame = nothing()
    views = [View(nothing(), frame.points, False), View(nothing(), frame.points, True)]
    assert judge(frame, views, ENDOVIS).reason is Reason.KEPT_EMPTY
    assert judge(frame, [views[0], View(truth(2), frame.points, True)], ENDOVIS).reason is Reason.UNSURE_EMPTY


def test_half_an_instrument_is_none():
    frame = truth(2)
    views = [View(frame, frame.points, False)]
    assert judge(Prediction(frame.label_map, np.zeros((0, 5, 2))), views, ENDOVIS).reason is Reason.NO_LANDMARKS
    assert judge(Prediction(np.zeros(SIZE, np.uint8), frame.points), views, ENDOVIS).reason is Reason.NO_MASK
