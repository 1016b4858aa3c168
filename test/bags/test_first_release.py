"""Bags recorded by the first release, kept as files: a change of a message or of the reader must not make them unreadable."""

from pathlib import Path

import numpy as np
import pytest

from csl_tracker.bags.reader import BagReader
from csl_tracker.messages import topics
from csl_tracker.messages.images import label_map, message_to_rgb
from csl_tracker.messages.poses import read_pose_array, read_truth_array, stamp_ns

FOLDER = Path(__file__).parent / "recorded"
STEP = 40_000_000
START = 1_000_000_000


@pytest.mark.parametrize("name", ["first_release.mcap", "first_release.db3"])
def test_a_bag_of_the_first_release_is_read(name):
    with BagReader(FOLDER / name) as bag:
        assert bag.problems == []
        assert bag.types == {
            topics.IMAGE: topics.IMAGE_TYPE,
            topics.POSES: topics.POSES_TYPE,
            topics.TRUTH_POSES: topics.POSES_TYPE,
            topics.TRUTH_SEGMENTATION: topics.IMAGE_TYPE,
        }
        assert bag.custom == {"csl_tracker_classes": "background, shaft"}
        frames = list(bag.frames())
        for index, frame in enumerate(frames):
            assert frame.stamp_ns == START + index * STEP
            np.testing.assert_array_equal(message_to_rgb(bag.deserialize(frame.image)), np.full((6, 8, 3), 40 * index))
            np.testing.assert_array_equal(label_map(bag.deserialize(frame.truth_segmentation)), np.full((6, 8), index))
            truth = read_truth_array(bag.deserialize(frame.truth_poses))
            assert (truth.slots, truth.names) == (("left",), ("center",))
            np.testing.assert_array_equal(truth.landmarks, [[[1.5 + index, 2.5]]])
        assert len(frames) == 3
        for index, message in enumerate(bag.messages([topics.POSES])):
            poses = bag.deserialize(message)
            assert (poses.model, stamp_ns(poses.header.stamp)) == ("csl_lite0@1a2b3c4d", START + index * STEP)
            result = read_pose_array(poses)
            assert (result.size, result.processing_time_s) == ((6, 8), pytest.approx(0.0315))
            (instrument,) = result.instruments
            assert (instrument.track_id, instrument.slot, instrument.predicted) == (index + 1, "left", True)
            assert (instrument.confidence, instrument.shaft_angle, instrument.roi) == (0.75, -1.25, (1, 2, 3, 4))
            (landmark,) = instrument.landmarks
            assert (landmark.name, landmark.x, landmark.y, landmark.visible) == ("center", 1.25 + index, 2.5, True)
            np.testing.assert_array_equal(landmark.covariance, [[1.5, -0.25], [-0.25, 4.0]])
