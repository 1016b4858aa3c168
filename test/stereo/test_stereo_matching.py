from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from csl_tracker.stereo.geometry import StereoGeometry
from csl_tracker.stereo.matching import MatchLimits, View, match

GEOMETRY = StereoGeometry((1050.0, 1050.0), (640.0, 360.0), (640.0, 360.0), 0.005)
NAMES = ("center", "shaft", "head", "left_clasper", "right_clasper")
SHAPE = np.array([[-9.0, 0, -3], [-4, 0, -1.5], [0, 0, 0], [7, 3, 2], [7, -3, 2]]) * 1e-3  # m, from the head
A = SHAPE + np.array([-0.02, -0.01, 0.10])
B = SHAPE * (-1, 1, 1) + np.array([0.02, 0.015, 0.12])
LIMITS = MatchLimits(pixel_noise=0.0)


def views(positions, slots=("left", "left"), noise_px=0.0, seed=0):
    """An instrument in both images."""
    rng = np.random.default_rng(seed)
    covariances = np.tile(max(noise_px, 0.5) ** 2 * np.eye(2), (len(NAMES), 1, 1))
    return tuple(
        View(slot, 0.9, NAMES, points + noise_px * rng.standard_normal(points.shape), covariances, np.ones(len(NAMES), bool))
        for slot, points in zip(slots, GEOMETRY.project(positions), strict=True)
    )


def changed(view, index, **values):
    """A view with another value of one landmark."""
    arrays = {name: np.array(getattr(view, name)) for name in values}
    for name, value in values.items():
        arrays[name][index] = value
    return replace(view, **arrays)


def test_positions_come_back_however_the_instruments_are_ordered_and_named():
    (a_left, a_right), (b_left, b_right) = views(A, ("left", "extra1")), views(B, ("right", "left"))
    found = match(GEOMETRY, [a_left, b_left], [b_right, a_right], LIMITS)
    assert [instrument.slot for instrument in found.instruments] == ["left", "right"]
    for instrument, truth in zip(found.instruments, (A, B), strict=True):
        assert instrument.names == NAMES
        np.testing.assert_allclose(instrument.positions, truth, atol=1e-12)
    assert not +found.rejected


def test_selected_landmarks_come_in_the_order_of_the_names():
    left, right = views(A)
    left = changed(left, 1, visible=False)
    (instrument,) = match(GEOMETRY, [left], [right], LIMITS).instruments
    positions, covariances = instrument.select(("head", "shaft", "center"))
    np.testing.assert_allclose(positions, A[[2, 0]], atol=1e-12)
    assert covariances.shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("side", "change", "reason"),
    [
        (0, {"points": np.nan}, "not_visible"),
        (1, {"points": np.nan}, "not_visible"),
        (0, {"points": np.inf}, "not_visible"),
        (1, {"visible": False}, "not_visible"),
        (0, {"covariances": np.nan}, "no_covariance"),
        (1, {"covariances": -np.eye(2)}, "no_covariance"),
        (0, {"covariances": [[1, 5], [5, 1]]}, "no_covariance"),
        (0, {"covariances": [[1, 0.5], [0, 1]]}, "no_covariance"),
        (1, {"points": [655.0, 255.0]}, "disparity"),  # to the right of the left image's
        (1, {"points": [0.0, 255.0]}, "disparity"),
        (0, {"points": [430.0, 265.0]}, "epipolar"),
    ],
)
def test_one_bad_landmark_is_left_out_and_named(side, change, reason):
    pair = list(views(A))
    pair[side] = changed(pair[side], 2, **change)
    found = match(GEOMETRY, pair[:1], pair[1:], LIMITS)
    assert +found.rejected == {reason: 1}
    assert found.instruments[0].names == tuple(name for name in NAMES if name != "head")
    assert np.isfinite(found.instruments[0].covariances).all()


def test_a_landmark_far_from_the_others_is_left_out():
    left, right = views(np.where(np.arange(5)[:, None] == 3, A * 2.2, A))  # on its ray, twice as far
    found = match(GEOMETRY, [left], [right], LIMITS)
    assert +found.rejected == {"apart": 1}


@pytest.mark.parametrize(
    "make",
    [
        lambda left, right: ([left], []),
        lambda left, right: ([right], [left]),  # swapped cameras: every disparity is negative
        lambda left, right: ([left], [replace(right, points=right.points + np.array([0, 12]))]),
        lambda left, right: ([left], [replace(right, names=tuple(f"other_{name}" for name in NAMES))]),
        lambda left, right: ([left], [replace(right, points=np.full((5, 2), np.nan))]),
        lambda left, right: ([replace(left, visible=np.arange(5) < 1)], [right]),
    ],
    ids=["no right one", "swapped", "another row", "other landmarks", "nothing seen", "one landmark"],
)
def test_what_cannot_be_one_instrument_is_not_matched(make):
    found = match(GEOMETRY, *make(*views(A)), LIMITS)
    assert found.instruments == ()
    assert +found.rejected == {"unmatched": 1}


def test_nothing_seen_is_no_complaint():
    assert match(GEOMETRY, [], [], LIMITS).instruments == ()
    assert not +match(GEOMETRY, [], list(views(A)[1:]), LIMITS).rejected


def test_two_instruments_that_may_be_each_other_are_given_up():
    """Side by side on one row, 8 px apart: either pairing gives believable depths."""
    beside = A + np.array([0.0008, 0, 0])
    (a_left, a_right), (b_left, b_right) = views(A), views(beside)
    found = match(GEOMETRY, [a_left, b_left], [a_right, b_right], LIMITS)
    assert found.instruments == ()
    assert +found.rejected == {"ambiguous": 2}


@pytest.mark.parametrize("seed", range(10))
def test_noise_as_stated_is_no_reason_to_reject(seed):
    (a_left, a_right), (b_left, b_right) = views(A, noise_px=1.0, seed=seed), views(B, noise_px=1.0, seed=100 + seed)
    found = match(GEOMETRY, [a_left, b_left], [a_right, b_right], LIMITS)
    assert len(found.instruments) == 2


def test_the_noise_of_the_calibration_widens_rows_and_covariances():
    left, right = views(A)
    right = replace(right, points=right.points + np.array([0, 4]))
    assert match(GEOMETRY, [left], [right], LIMITS).instruments == ()
    (widened,) = match(GEOMETRY, [left], [right], replace(LIMITS, pixel_noise=2.0)).instruments
    (exact,) = match(GEOMETRY, *[[view] for view in views(A)], LIMITS).instruments
    assert (widened.covariances[:, 2, 2] > 10 * exact.covariances[:, 2, 2]).all()


def test_exact_landmarks_need_some_noise_to_be_told_apart_but_harm_nothing():
    left, right = (replace(view, covariances=np.zeros((5, 2, 2))) for view in views(A))
    (instrument,) = match(GEOMETRY, [left], [right], replace(LIMITS, pixel_noise=0.1)).instruments
    np.testing.assert_allclose(instrument.positions, A, atol=1e-12)
