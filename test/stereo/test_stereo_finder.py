from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from csl_tracker.datasets.synthetic.instrument import parts_and_landmarks, random_look
from csl_tracker.datasets.synthetic.stereo import as_result, endoscope_rig, project, random_placement
from csl_tracker.errors import ConfigError
from csl_tracker.instruments import ENDOVIS
from csl_tracker.results import TrackingResult
from csl_tracker.stereo.finder import FinderSettings, StereoFinder
from csl_tracker.stereo.hand_eye import HandEye
from csl_tracker.stereo.matching import MatchLimits
from csl_tracker.stereo.orientation import UNKNOWN_ANGLE_VARIANCE, rotation_matrix

RIG = endoscope_rig()
SIZE = (RIG.left.height, RIG.left.width)
HEAD = ENDOVIS.landmarks.index("head")


@pytest.fixture(scope="module")
def scene():
    """A placement, its landmarks in space, and what both trackers would say of it."""
    rng = np.random.default_rng(12)
    place = random_placement(rng, RIG)
    truth = place.positions(parts_and_landmarks(place.shape, random_look(rng), place.pose)[1])
    return place, truth, tuple(as_result(points, SIZE, 0.5) for points in project(RIG, truth[None]))


def finder(**settings):
    made = StereoFinder(FinderSettings(**settings))
    made.set_camera("right", RIG.right)
    made.set_camera("left", RIG.left)
    return made


def changed(result: TrackingResult, **values):
    return replace(result, instruments=tuple(replace(one, **values) for one in result.instruments))


def without(result: TrackingResult, *names: str):
    """A result in which some landmarks are not visible."""
    marks = tuple(replace(m, visible=m.visible and m.name not in names) for m in result.instruments[0].landmarks)
    return changed(result, landmarks=marks)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"slots": ()}, "slots is ..; name"),
        ({"slots": ("left", "left")}, "slots is"),
        ({"axis_landmarks": ("center",)}, "axis_landmarks is .'center'."),
        ({"axis_landmarks": ("center", "center")}, "axis_landmarks"),
        ({"limits": MatchLimits(min_depth=0.2, max_depth=0.1)}, "min_depth is 0.2 m"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        FinderSettings(**settings)


def test_cameras_that_were_swapped_are_refused_and_not_used():
    made = StereoFinder(FinderSettings())
    made.set_camera("left", RIG.right)
    with pytest.raises(ConfigError, match="swapped"):
        made.set_camera("right", RIG.left)
    assert made.rig is None


def test_images_of_another_size_than_the_calibration_are_refused(scene):
    with pytest.raises(ConfigError, match="640x360 px and their camera_info 1280x720"):
        finder().find(replace(scene[2][0], size=(360, 640)), scene[2][1])


def test_an_instrument_is_where_it_is_through_both_lenses(scene):
    place, truth, results = scene
    findings = finder().find(*results)
    (found,) = findings.instruments
    assert (found.slot, found.names, dict(findings.rejected)) == ("left", ENDOVIS.landmarks, {})
    np.testing.assert_allclose(found.positions, truth, atol=1e-7)
    np.testing.assert_allclose(found.pose.position, truth[HEAD], atol=1e-7)
    np.testing.assert_allclose(rotation_matrix(found.pose.quaternion)[:, 2], place.along, atol=1e-5)


@pytest.mark.parametrize(
    ("left", "right", "reasons"),
    [
        (lambda r: r, lambda r: replace(r, instruments=()), {"unmatched": 1}),
        (lambda r: changed(r, predicted=True), lambda r: r, {"predicted": 1}),
        (lambda r: r, lambda r: changed(r, confidence=0.1), {"low_confidence": 1, "unmatched": 1}),
        (lambda r: changed(r, confidence=math.nan), lambda r: r, {"low_confidence": 1}),
        (lambda r: changed(r, slot="extra1"), lambda r: r, {"unknown_slot": 1}),
        (lambda r: without(r, "head"), lambda r: r, {"not_visible": 1, "no_position": 1}),
        (lambda r: r, lambda r: without(r, "center"), {"not_visible": 1, "no_orientation": 1}),
    ],
)
def test_what_is_not_sure_is_not_reported_and_counted(scene, left, right, reasons):
    findings = finder().find(left(scene[2][0]), right(scene[2][1]))
    assert findings.instruments == ()
    assert findings.rejected == reasons


def test_a_slot_is_reported_once(scene):
    other = random_placement(np.random.default_rng(40), RIG)
    truth = other.positions(parts_and_landmarks(other.shape, random_look(np.random.default_rng(1)), other.pose)[1])
    left, right = (as_result(points, SIZE, 0.5) for points in project(RIG, np.stack((scene[1], truth))))
    findings = finder().find(changed(left, slot="left"), right)
    assert len(findings.instruments) == 1
    assert findings.rejected == {"repeated_slot": 1}


def test_without_an_axis_a_position_alone_may_be_asked_for(scene):
    found = finder(require_orientation=False).find(without(scene[2][0], "shaft"), scene[2][1]).instruments[0]
    np.testing.assert_allclose(found.pose.position, scene[1][HEAD], atol=1e-7)
    np.testing.assert_array_equal(found.pose.covariance[3:, 3:], UNKNOWN_ANGLE_VARIANCE * np.eye(3))


def test_another_landmark_may_be_the_position(scene):
    (found,) = finder(position_landmark="left_clasper").find(*scene[2]).instruments
    np.testing.assert_allclose(found.pose.position, scene[1][3], atol=1e-7)


def test_landmarks_that_are_rectified_already_are_not_rectified_again(scene):
    results = [as_result(points, SIZE, 0.5) for points in RIG.geometry.project(scene[1][None])]
    (found,) = finder(already_rectified=True).find(*results).instruments
    np.testing.assert_allclose(found.positions, scene[1], atol=1e-9)


def test_poses_go_into_the_cameras_own_frame_and_on_into_an_arms(scene):
    rotation = Rotation.from_euler("xyz", [170, 10, 40], degrees=True)
    hand_eye = HandEye("PSM1_base", np.array([0.1, 0.2, 0.3]), rotation.as_quat())
    (found,) = finder(camera_frame=True, hand_eye=hand_eye).find(*scene[2]).instruments
    camera = scene[1] @ np.asarray(RIG.left.r)  # R takes the camera's frame to the rectified one
    np.testing.assert_allclose(found.positions, rotation.apply(camera) + hand_eye.translation, atol=1e-7)
    axis = rotation.apply(scene[0].along @ np.asarray(RIG.left.r))
    np.testing.assert_allclose(rotation_matrix(found.pose.quaternion)[:, 2], axis, atol=1e-5)


def test_errors_are_those_that_are_stated():
    """Noise of half a px through lens, rectification and triangulation: the covariances tell the truth."""
    rng = np.random.default_rng(77)
    made = finder(limits=MatchLimits(pixel_noise=0.0))
    look = random_look(rng)
    nees, depth = [], []
    for _ in range(300):
        place = random_placement(rng, RIG)
        truth = place.positions(parts_and_landmarks(place.shape, look, place.pose)[1])
        sides = [points + 0.5 * rng.standard_normal(points.shape) for points in project(RIG, truth[None])]
        matches = RIG.locate(*(as_result(points, SIZE, 0.5) for points in sides), made.settings.limits)
        for found in matches.instruments:
            error = found.positions - truth[[ENDOVIS.landmarks.index(name) for name in found.names]]
            nees += np.einsum("ni,nij,nj->n", error, np.linalg.inv(found.covariances), error).tolist()
            predicted = truth[:, 2] ** 2 / (RIG.left.k[0, 0] * RIG.geometry.baseline) * math.sqrt(2) * 0.5
            depth += (error[:, 2] / predicted).tolist() if len(error) == len(truth) else []
    assert len(nees) > 1400
    assert np.mean(nees) == pytest.approx(3.0, abs=0.25)  # 3 sigma of the mean of 1500 chi-squared values with three degrees
    assert np.sqrt(np.mean(np.square(depth))) == pytest.approx(1.0, abs=0.1)
