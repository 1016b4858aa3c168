from __future__ import annotations

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.synthetic.instrument import parts_and_landmarks, random_look
from csl_tracker.datasets.synthetic.stereo import (
    DEPTHS,
    StereoScene,
    as_result,
    endoscope_rig,
    lens_maps,
    project,
    random_placement,
)
from csl_tracker.instruments import ENDOVIS

RIG = endoscope_rig(size=(360, 640))
LENSES = lens_maps(RIG)
HEAD = ENDOVIS.landmarks.index("head")


def test_the_rig_is_that_of_an_endoscope():
    rig = endoscope_rig()
    assert rig.geometry.baseline == pytest.approx(0.005, rel=1e-4)
    assert (rig.left.width, rig.left.height) == (1280, 720)
    # Lens and convergence move the border by many px, and what they do can be undone.
    corner = np.array([[20.0, 20.0]])
    assert np.linalg.norm(rig.left.rectify_points(corner) - corner) > 10
    np.testing.assert_allclose(rig.left.unrectify_points(rig.left.rectify_points(corner)), corner, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_instruments_are_in_the_working_volume_and_seen_by_both(seed):
    rng = np.random.default_rng(seed)
    place = random_placement(rng, RIG)
    assert DEPTHS[0] <= place.origin[2] <= DEPTHS[1]
    products = [place.along @ place.along, place.across @ place.across, place.along @ place.across]
    np.testing.assert_allclose(products, [1, 1, 0], atol=1e-12)
    truth = place.positions(parts_and_landmarks(place.shape, random_look(rng), place.pose)[1])
    for points in project(RIG, truth):
        assert (points[HEAD] > 0).all()
        assert (points[HEAD] < (RIG.left.width, RIG.left.height)).all()


@pytest.mark.parametrize("seed", [3, 8])
def test_both_images_show_the_instrument_where_the_truth_says(seed):
    frame = StereoScene(seed, RIG, ("left",), LENSES).render_pair()
    left, right = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in frame.images)
    assert left.shape == right.shape == (360, 640)
    here, there = (np.rint(points[0, HEAD]).astype(int) for points in frame.landmarks)
    half, reach = 16, 60
    patch = left[here[1] - half : here[1] + half + 1, here[0] - half : here[0] + half + 1]
    low = np.maximum(there - half - reach, 0)
    area = right[low[1] : there[1] + half + reach + 1, low[0] : there[0] + half + reach + 1]
    score = cv2.matchTemplate(area, patch, cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(score.argmax(), score.shape)
    assert score.max() > 0.7
    np.testing.assert_allclose(low + half + (column, row), there, atol=2)
    rectified = [camera.rectify_points(points) for camera, points in zip((RIG.left, RIG.right), frame.landmarks, strict=True)]
    np.testing.assert_allclose(np.array(rectified), RIG.geometry.project(frame.positions), atol=1e-5)


def test_a_seed_gives_one_pair_and_each_image_its_own_noise():
    first, second = (StereoScene(5, RIG, ("left", "right"), LENSES).render_pair() for _ in range(2))
    for side in (0, 1):
        np.testing.assert_array_equal(first.images[side], second.images[side])
    assert first.positions.shape == (2, 5, 3)


def test_landmarks_that_are_not_there_are_not_visible():
    points = np.full((2, 5, 2), 7.0)
    points[1, 0] = np.nan
    result = as_result(points, (360, 640), 0.5)
    assert [one.slot for one in result.instruments] == ["left", "right"]
    assert [mark.visible for mark in result.instruments[1].landmarks] == [False, True, True, True, True]
    np.testing.assert_array_equal(result.instruments[0].landmarks[0].covariance, 0.25 * np.eye(2))
