import math

import numpy as np
import pytest

from csl_tracker.camera import CameraModel
from csl_tracker.errors import ImageError
from csl_tracker.rectification import rectify_result
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

K = np.array([[500.0, 0.0, 320.0], [0.0, 500.0, 240.0], [0.0, 0.0, 1.0]])
P = np.array([[400.0, 0.0, 300.0, 0.0], [0.0, 400.0, 250.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
AXIS = ("shaft", "tip")


def camera(d=(0.0,) * 5, r=None):
    return CameraModel(640, 480, K, np.array(d), "plumb_bob", np.eye(3) if r is None else r, P)


def mark(name, x, y, visible=True):
    return LandmarkEstimate(name, x, y, np.array([[2.0, 0.5], [0.5, 1.0]]), 0.7, visible)


def result(*marks, size=(480, 640)):
    instrument = InstrumentEstimate(3, "left", marks, 0.7, 0.0, (0, 0, 1, 1))
    return TrackingResult((instrument,), np.zeros(size, np.uint8), size, 0.01)


@pytest.mark.parametrize("size", [(240, 320), (481, 640)])
def test_an_image_of_another_size_than_the_calibration_is_refused(size):
    with pytest.raises(ImageError, match=rf"{size[1]}x{size[0]} px, but camera_info states 640x480 px"):
        rectify_result(result(mark("tip", 1, 1), size=size), camera(), AXIS)


def test_without_distortion_points_scale_with_the_focal_length():
    found = rectify_result(result(mark("shaft", 320, 240), mark("tip", 420, 140)), camera(), AXIS).instruments[0]
    assert [(m.x, m.y) for m in found.landmarks] == [pytest.approx((300, 250)), pytest.approx((380, 170))]
    np.testing.assert_allclose(found.landmarks[1].covariance, 0.64 * np.array([[2.0, 0.5], [0.5, 1.0]]), rtol=1e-6)
    assert found.shaft_angle == pytest.approx(-math.pi / 4)
    assert found.roi == (300, 170, 81, 81)
    assert (found.track_id, found.slot, found.confidence) == (3, "left", 0.7)


def test_a_camera_turned_about_its_axis_turns_the_shaft():
    turned = camera(r=np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    found = rectify_result(result(mark("shaft", 320, 240), mark("tip", 420, 240)), turned, AXIS).instruments[0]
    assert found.shaft_angle == pytest.approx(math.pi / 2)


def test_landmarks_that_are_nowhere_stay_so_and_the_label_map_stays_raw():
    before = result(mark("shaft", math.nan, math.nan, visible=False), mark("tip", 320, 240))
    after = rectify_result(before, camera((-0.2, 0.05, 0.001, 0.0, 0.0)), AXIS)
    assert after.label_map is before.label_map
    lost, tip = after.instruments[0].landmarks
    assert not lost.visible
    assert math.isnan(lost.x)
    assert tip.visible
    assert math.isnan(after.instruments[0].shaft_angle)


def test_where_the_lens_has_no_inverse_a_landmark_is_not_visible():
    # r (1 - r^2) has its largest value, 0.385, at r = 0.577: what lies farther out cannot come from anywhere.
    found = rectify_result(result(mark("tip", 639, 240)), camera((-1.0, 0.0, 0.0, 0.0, 0.0)), AXIS).instruments[0].landmarks[0]
    assert not found.visible
    assert math.isnan(found.x)
