from __future__ import annotations

import cv2
import numpy as np
import pytest

from csl_tracker.errors import ConfigError
from csl_tracker.stereo.geometry import StereoGeometry, triangulate

F, CX, CY, B = 1050.0, 652.0, 371.0, 0.005


def projection(fx=F, fy=F, cx=CX, cy=CY, tx=0.0, ty=0.0):
    return np.array([[fx, 0, cx, tx], [0, fy, cy, ty], [0, 0, 1, 0]])


LEFT, RIGHT = projection(), projection(tx=-F * B)


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        (np.zeros((3, 4)), RIGHT, "not calibrated"),
        (LEFT, np.full((3, 4), np.nan), "not calibrated"),
        (RIGHT, LEFT, "left and right are swapped"),
        (LEFT, LEFT, "each camera was calibrated alone"),
        (LEFT, projection(tx=-F * 5.0), "5 m, more than 0.1 m; P.*in mm"),
        (LEFT, projection(fx=F + 3, tx=-F * B), "differ by 3 px"),
        (LEFT, projection(cy=CY + 2, tx=-F * B), "differ by 2 px"),
        (LEFT, projection(tx=-F * B, ty=-1.0), "not rectified together"),
    ],
)
def test_matrices_of_no_rectified_pair_are_refused(left, right, words):
    with pytest.raises(ConfigError, match=words):
        StereoGeometry.from_projections(left, right)


def test_the_geometry_is_that_of_the_matrices():
    geometry = StereoGeometry.from_projections(LEFT.ravel(), projection(cx=CX + 7, tx=-F * B).ravel())
    assert geometry.baseline == pytest.approx(B)
    assert (geometry.focal, geometry.left_center, geometry.right_center) == ((F, F), (CX, CY), (CX + 7, CY))


GEOMETRIES = {
    "alike": (LEFT, RIGHT),
    "other aspect": (projection(fy=F * 1.1), projection(fy=F * 1.1, tx=-F * B)),
    "other centre": (LEFT, projection(cx=CX - 40, tx=-F * B)),
    "centre of the rig": (projection(tx=F * B / 2), projection(tx=-F * B / 2)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_positions_are_those_that_opencv_finds(name):
    left, right = GEOMETRIES[name]
    geometry = StereoGeometry.from_projections(left, right)
    rng = np.random.default_rng(3)
    positions = np.column_stack((rng.uniform(-0.03, 0.03, (50, 2)), rng.uniform(0.05, 0.15, 50)))
    pixels = []
    for matrix in (left, right):
        image = np.column_stack((positions, np.ones(50))) @ matrix.T
        pixels.append(image[:, :2] / image[:, 2:])
    theirs = cv2.triangulatePoints(left, right, pixels[0].T, pixels[1].T)
    center = np.array([-left[0, 3] / left[0, 0], 0.0, 0.0])  # of the left camera, where ours begin
    cloud = (theirs[:3] / theirs[3]).T - center
    ours = triangulate(geometry, *pixels, np.eye(2)[None].repeat(50, 0), np.eye(2)[None].repeat(50, 0))
    np.testing.assert_allclose(ours.positions, cloud, atol=1e-9)
    np.testing.assert_allclose(np.array(geometry.project(ours.positions)), pixels, atol=1e-8)
    assert np.abs(ours.epipolar_px).max() < 1e-9


def test_covariances_are_those_of_many_noisy_measurements():
    geometry = StereoGeometry.from_projections(LEFT, RIGHT)
    truth = np.array([0.01, -0.02, 0.1])
    a, b = geometry.project(truth)
    spreads = np.array([[0.3, 0.1], [0.1, 0.2]]), np.array([[0.15, -0.05], [-0.05, 0.5]])
    rng = np.random.default_rng(8)
    n = 40_000
    left, right = (rng.multivariate_normal(p, s, n) for p, s in zip((a, b), spreads, strict=True))
    found = triangulate(geometry, left, right, spreads[0][None].repeat(n, 0), spreads[1][None].repeat(n, 0))
    measured = np.cov(found.positions.T)
    stated = triangulate(geometry, a[None], b[None], spreads[0][None], spreads[1][None]).covariances[0]
    # Relative to the standard deviations: second-order terms and the sample leave 3 %.
    scale = np.sqrt(np.outer(np.diag(stated), np.diag(stated)))
    np.testing.assert_allclose(measured / scale, stated / scale, atol=0.03)
    assert found.epipolar_chi2.mean() == pytest.approx(1.0, abs=0.03)


def test_both_rows_together_are_better_than_one():
    """The row is measured twice: equal errors leave half the variance, which in y is what the position inherits."""
    geometry = StereoGeometry.from_projections(LEFT, RIGHT)
    a, b = geometry.project([0.0, 0.0, 0.1])
    found = triangulate(geometry, a[None], b[None], np.eye(2)[None], np.eye(2)[None])
    assert found.covariances[0, 1, 1] == pytest.approx(0.5 * (0.1 / F) ** 2)
    assert np.sqrt(found.covariances[0, 2, 2]) == pytest.approx(geometry.depth_sigma(0.1, 1.0))


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_a_disparity_that_is_not_positive_stays_finite_and_shows(shift):
    geometry = StereoGeometry.from_projections(LEFT, RIGHT)
    found = triangulate(geometry, [[600.0, 300.0]], [[600.0 + shift, 300.0]], np.eye(2)[None], np.eye(2)[None])
    assert found.disparities[0] == -shift
    assert np.isfinite(found.positions).all()
    assert np.isfinite(found.covariances).all()


def test_nan_stays_nan_and_harms_no_other_point():
    geometry = StereoGeometry.from_projections(LEFT, RIGHT)
    a, b = geometry.project([[0.0, 0.0, 0.1], [0.01, 0.0, 0.1]])
    a[0, 0] = np.nan
    found = triangulate(geometry, a, b, np.eye(2)[None].repeat(2, 0), np.eye(2)[None].repeat(2, 0))
    assert np.isnan(found.positions[0]).all()
    np.testing.assert_allclose(found.positions[1], [0.01, 0.0, 0.1])
