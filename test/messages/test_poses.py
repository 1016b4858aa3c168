import math
from dataclasses import asdict

import numpy as np
import pytest

from csl_tracker.messages.poses import (
    GroundTruth,
    bag_types,
    make_header,
    make_pose_array,
    make_truth_array,
    read_pose_array,
    read_truth_array,
    stamp_ns,
)
from csl_tracker.messages.types import typestore
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

ARRAY = "csl_tracker_msgs/msg/InstrumentPoseArray"
STAMP = 1_700_000_000_123_456_789


def landmark(name: str, x: float, visible: bool) -> LandmarkEstimate:
    covariance = np.array([[1.5, -0.25], [-0.25, 4.0]]) if math.isfinite(x) else np.full((2, 2), np.nan)
    return LandmarkEstimate(name, x, 2 * x, covariance, 0.75 if visible else 0.125, visible)


RESULT = TrackingResult(
    instruments=(
        InstrumentEstimate(
            track_id=3,
            slot="left",
            landmarks=(landmark("center", 10.25, True), landmark("head", 7.125, False), landmark("end", math.nan, False)),
            confidence=0.75,
            shaft_angle=-1.25,
            roi=(1, 2, 30, 40),
            age_s=0.04,
            predicted=True,
        ),
        InstrumentEstimate(4, "right", (landmark("center", 0.0, True),), 0.75, math.nan, (0, 0, 0, 0)),
    ),
    label_map=None,
    size=(576, 720),
    processing_time_s=0.0315,
)


def there_and_back(message, msgtype=ARRAY):
    return typestore().deserialize_cdr(typestore().serialize_cdr(message, msgtype), msgtype)


@pytest.mark.parametrize("result", [RESULT, TrackingResult((), None, (480, 640), 0.0)], ids=["two", "none"])
def test_a_result_survives_the_message(result):
    header = make_header(bag_types(), STAMP, "endoscope")
    message = there_and_back(make_pose_array(bag_types(), header, result, "csl_lite0@1a2b3c4d"))
    np.testing.assert_equal(asdict(read_pose_array(message)), asdict(result))
    assert message.model == "csl_lite0@1a2b3c4d"
    assert [stamp_ns(pose.header.stamp) for pose in message.poses] == [STAMP] * len(result.instruments)
    assert {pose.header.frame_id for pose in message.poses} <= {"endoscope"}


def test_without_a_filter_the_filtered_position_is_the_measured_one():
    message = make_pose_array(bag_types(), make_header(bag_types(), STAMP, ""), RESULT, "m")
    for pose in message.poses:
        for mark in pose.landmarks:
            np.testing.assert_equal((mark.filtered_x, mark.filtered_y), (mark.x, mark.y))
            np.testing.assert_equal(mark.filtered_covariance, mark.covariance)


def test_ground_truth_tells_absent_from_not_labelled():
    truth = GroundTruth(
        slots=("left", "right"),
        names=("center", "head"),
        landmarks=np.array([[[1.5, 2.5], [np.nan, np.nan]], [[np.nan, np.nan], [-3.0, 700.25]]]),
        labelled=np.array([[True, True], [False, True]]),
        size=(576, 720),
    )
    back = read_truth_array(there_and_back(make_truth_array(bag_types(), make_header(bag_types(), 5, ""), truth)))
    np.testing.assert_equal(asdict(back), asdict(truth))
