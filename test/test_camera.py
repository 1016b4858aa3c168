from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from csl_tracker.camera import CameraModel
from csl_tracker.errors import ConfigError

K = np.array([[1052.0, 0, 655.0], [0, 1054.0, 351.0], [0, 0, 1]])
P = np.array([[1040.0, 0, 640.0, -5.2], [0, 1040.0, 360.0, 0], [0, 0, 1, 0]])
ANGLE = 0.01
R = np.array([[math.cos(ANGLE), 0, math.sin(ANGLE)], [0, 1, 0], [-math.sin(ANGLE), 0, math.cos(ANGLE)]])
LENSES = {
    "plumb_bob": [-0.24, 0.19, 0.0008, -0.0005, -0.05],
    "rational_polynomial": [0.3, 0.1, 0.0005, -0.0003, 0.02, 0.55, 0.12, 0.03],
    "equidistant": [-0.02, 0.01, -0.003, 0.0005],
}


def camera(model="plumb_bob", **changes):
    values = {"width": 1280, "height": 720, "k": K, "d": np.array(LENSES.get(model, [])), "model": model, "r": R, "p": P}
    return CameraModel(**{**values, **changes})


def lens(model, d, x, y):
    """A ray's (x, y) at z = 1 to the distorted one, as camera_info's definition and OpenCV's manual have it."""
    r2 = x * x + y * y
    if model == "equidistant":
        r, theta = math.sqrt(r2), math.atan(math.sqrt(r2))
        bent = theta * (1 + d[0] * theta**2 + d[1] * theta**4 + d[2] * theta**6 + d[3] * theta**8)
        return (x * bent / r, y * bent / r) if r > 0 else (x, y)
    k = [*d, 0, 0, 0][:8]
    radial = (1 + k[0] * r2 + k[1] * r2**2 + k[4] * r2**3) / (1 + k[5] * r2 + k[6] * r2**2 + k[7] * r2**3)
    return (
        x * radial + 2 * k[2] * x * y + k[3] * (r2 + 2 * x * x),
        y * radial + k[2] * (r2 + 2 * y * y) + 2 * k[3] * x * y,
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "spherical"}, "'spherical' of camera_info is not known"),
        ({"d": np.zeros(3)}, "3 coefficients D for the model plumb_bob"),
        ({"d": np.array([np.nan, 0, 0, 0])}, "finite"),
        ({"model": "equidistant", "d": np.zeros(5)}, "give 4 finite numbers"),
        ({"k": np.zeros((3, 3))}, "not calibrated"),
        ({"p": np.zeros((3, 4))}, "not calibrated"),
        ({"width": 0}, "0x720 px"),
        ({"r": np.zeros((3, 3))}, "R of camera_info is not a rotation"),
        ({"k": np.zeros(4)}, "matrix K"),
        ({"p": np.full((3, 4), np.inf)}, "matrix P"),
    ],
)
def test_what_is_no_calibration_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        camera(**changes)


@pytest.mark.parametrize("model", LENSES)
def test_points_are_those_of_the_models_formula(model):
    made = camera(model)
    rng = np.random.default_rng(1)
    rectified = np.column_stack((rng.uniform(50, 1230, 40), rng.uniform(30, 690, 40)))
    expected = []
    for u, v in rectified:
        ray = R.T @ np.array([(u - P[0, 2]) / P[0, 0], (v - P[1, 2]) / P[1, 1], 1.0])
        x, y = lens(model, LENSES[model], ray[0] / ray[2], ray[1] / ray[2])
        expected.append((K[0, 0] * x + K[0, 2], K[1, 1] * y + K[1, 2]))
    np.testing.assert_allclose(made.unrectify_points(rectified), expected, atol=1e-9)
    np.testing.assert_allclose(made.rectify_points(expected), rectified, atol=1e-6)


def test_a_camera_without_distortion_and_rotation_changes_nothing():
    made = camera("", d=np.zeros(0), r=np.eye(3), p=np.column_stack((K, np.zeros(3))))
    points = np.array([[[0.0, 0.0], [1279.0, 719.0]], [[655.0, 351.0], [-0.5, -0.5]]])
    np.testing.assert_allclose(made.rectify_points(points), points, atol=1e-9)
    np.testing.assert_allclose(made.unrectify_points(points), points, atol=1e-9)


@pytest.mark.parametrize("model", LENSES)
def test_covariances_are_those_of_many_draws(model):
    made = camera(model)
    point, covariance = np.array([980.0, 560.0]), np.array([[0.6, 0.2], [0.2, 0.3]])
    draws = made.rectify_points(np.random.default_rng(2).multivariate_normal(point, covariance, 20_000))
    stated = made.rectify_covariances(point, covariance)
    np.testing.assert_allclose(np.cov(draws.T), stated, atol=0.03 * np.trace(stated))


@pytest.mark.parametrize("point", [(np.nan, 1.0), (np.inf, 1.0), (1e300, -1e300), (1e5, 1e5)])
def test_points_without_an_answer_are_nan_and_harm_no_other(point):
    made = camera()
    points = np.array([point, (600.0, 300.0)])
    covariances = np.tile(np.eye(2), (2, 1, 1))
    for values in (made.rectify_points(points), made.rectify_covariances(points, covariances)):
        assert np.isnan(values[0]).all()
        assert np.isfinite(values[1]).all()


def test_nothing_stays_nothing():
    made = camera()
    assert made.rectify_points(np.zeros((0, 2))).shape == (0, 2)
    assert made.rectify_covariances(np.zeros((0, 2)), np.zeros((0, 2, 2))).shape == (0, 2, 2)
    assert replace(made, model="fisheye", d=np.zeros(4)).model == "equidistant"
