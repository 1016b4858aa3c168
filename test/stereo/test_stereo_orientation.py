from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from csl_tracker.stereo.orientation import (
    UNKNOWN_ANGLE_VARIANCE,
    fit_axis,
    make_pose,
    multiply,
    quaternion_of,
    rotation_matrix,
    shortest_rotation,
)

DIRECTIONS = [[0, 0, 1], [1, 0, 0], [0, -1, 0], [0.6, 0, 0.8], [-0.36, 0.48, -0.8], [0, 1e-9, -1], [0, 0, -1]]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_shortest_rotation_takes_z_there_and_turns_no_farther(direction):
    unit = np.array(direction, float) / np.linalg.norm(direction)
    rotation = Rotation.from_quat(shortest_rotation(unit))
    np.testing.assert_allclose(rotation.apply([0, 0, 1]), unit, atol=1e-6)
    assert rotation.magnitude() == pytest.approx(np.arccos(np.clip(unit[2], -1, 1)), abs=1e-6)


def test_quaternions_are_those_of_scipy():
    rng = np.random.default_rng(2)
    for first, second in zip(Rotation.random(50, random_state=rng), Rotation.random(50, random_state=rng), strict=True):
        a, b = first.as_quat(), second.as_quat()
        np.testing.assert_allclose(rotation_matrix(a), first.as_matrix(), atol=1e-12)
        for ours, theirs in ((multiply(a, b), first * second), (quaternion_of(first.as_matrix()), first)):
            assert ours[3] >= 0
            assert abs(ours @ theirs.as_quat()) == pytest.approx(1.0)


SPREAD = np.diag([1e-8, 1e-8, 1e-6])


@pytest.mark.parametrize("count", [2, 3])
def test_one_place_has_no_axis(count):
    assert fit_axis(np.ones((count, 3)), SPREAD[None].repeat(count, 0)) is None


def test_two_points_make_the_axis_between_them():
    axis = fit_axis([[0, 0, 0.1], [0.003, 0, 0.104]], SPREAD[None].repeat(2, 0))
    np.testing.assert_allclose(axis.direction, [0.6, 0, 0.8])
    assert axis.length == pytest.approx(0.005)


def test_three_points_are_fitted_as_a_general_solver_does_it():
    rng = np.random.default_rng(4)
    truth = np.array([[0, 0, 0.1], [0.004, 0.001, 0.102], [0.01, 0.0025, 0.105]])
    spreads = np.array([SPREAD * s for s in (1.0, 3.0, 0.5)])
    points = np.array([rng.multivariate_normal(p, s) for p, s in zip(truth, spreads, strict=True)])
    roots = [np.linalg.cholesky(np.linalg.inv(s)).T for s in spreads]

    def residuals(x):
        ends, share = x[:6].reshape(2, 3), x[6]
        places = (ends[0], ends[0] + share * (ends[1] - ends[0]), ends[1])
        return np.concatenate([root @ (point - place) for root, point, place in zip(roots, points, places, strict=True)])

    solved = least_squares(residuals, np.append(points[[0, 2]], 0.5), x_scale=[1e-3] * 6 + [1.0], xtol=1e-15, ftol=1e-15).x
    along = solved[3:6] - solved[:3]
    np.testing.assert_allclose(fit_axis(points, spreads).direction, along / np.linalg.norm(along), atol=1e-6)


@pytest.mark.parametrize("count", [2, 3])
def test_the_covariance_of_a_direction_is_that_of_many_draws(count):
    rng = np.random.default_rng(5)
    points = np.array([[0, 0, 0.1], [0.012, 0.004, 0.104], [0.03, 0.01, 0.11]])[[0, 2] if count == 2 else [0, 1, 2]]
    spreads = np.array([SPREAD, 2 * SPREAD, SPREAD])[:count]
    draws = [[rng.multivariate_normal(p, s) for p, s in zip(points, spreads, strict=True)] for _ in range(2000)]
    directions = np.array([fit_axis(draw, spreads).direction for draw in draws])
    measured, stated = np.cov(directions.T), fit_axis(points, spreads).covariance
    np.testing.assert_allclose(measured, stated, atol=0.08 * np.trace(stated))


def test_rotations_have_the_covariance_of_their_directions():
    spreads = SPREAD[None].repeat(2, 0)
    points = np.array([[0, 0, 0.1], [0.02, -0.01, 0.11]])
    axis = fit_axis(points, spreads)
    pose = make_pose(points[1], spreads[1], axis)
    rng = np.random.default_rng(6)
    draws = [fit_axis([rng.multivariate_normal(p, SPREAD) for p in points], spreads).direction for _ in range(4000)]
    small = np.cross(axis.direction, draws)  # a x (theta x a), the rotation across the axis
    across = np.eye(3) - np.outer(axis.direction, axis.direction)
    stated = across @ pose.covariance[3:, 3:] @ across
    np.testing.assert_allclose(np.cov(small.T), stated, atol=0.06 * np.trace(stated))
    roll = axis.direction @ pose.covariance[3:, 3:] @ axis.direction
    assert roll == pytest.approx(UNKNOWN_ANGLE_VARIANCE)
    np.testing.assert_allclose(rotation_matrix(pose.quaternion)[:, 2], axis.direction, atol=1e-12)
    np.testing.assert_allclose(pose.covariance, pose.covariance.T, atol=1e-15)
    assert np.linalg.eigvalsh(pose.covariance).min() >= -1e-12


def test_an_axis_of_which_nothing_is_known_has_the_variance_of_any_angle():
    vague = fit_axis([[0, 0, 0.1], [0.001, 0, 0.1]], np.eye(3)[None].repeat(2, 0))
    values = np.linalg.eigvalsh(make_pose([0, 0, 0.1], SPREAD, vague).covariance[3:, 3:])
    np.testing.assert_allclose(values, UNKNOWN_ANGLE_VARIANCE)


def test_without_an_axis_the_frame_keeps_its_own_orientation_and_says_so():
    pose = make_pose([0, 0, 0.1], SPREAD, None)
    assert pose.quaternion.tolist() == [0, 0, 0, 1]
    np.testing.assert_array_equal(pose.covariance[3:, 3:], UNKNOWN_ANGLE_VARIANCE * np.eye(3))
