import numpy as np
import pytest

from csl_tracker.bags import topics
from csl_tracker.bags.messages import GroundTruth, bag_types, make_header, make_pose_array, make_time
from csl_tracker.bags.types import typestore
from csl_tracker.bags.writer import BagWriter, RecordedFrame, image_message, write_frames
from csl_tracker.datasets.sample import Sequence
from csl_tracker.errors import BagError, WeightsError
from csl_tracker.evaluation.recording import BagSequence, evaluate_recording
from csl_tracker.instruments import InstrumentSet
from csl_tracker.node.image_conversion import to_rgb
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult
from csl_tracker.video import VideoReader

MODEL = InstrumentSet(landmarks=("head", "center"), classes=("background", "shaft"))
SIZE = (48, 64)
SECOND = 1_000_000_000
MASK = np.zeros(SIZE, np.uint8)
MASK[10:20, 10:30] = 1


def truth(frame: int) -> GroundTruth:
    """`center` moves; `head` is absent in frame 1, `extra` is none of the model's."""
    head = (40.0, 20.0) if frame != 1 else (np.nan, np.nan)
    points = np.array([[(10.0 + frame, 12.0), head, (1.0, 1.0)]])
    return GroundTruth(("left",), ("center", "head", "extra"), points, np.ones((1, 3), bool), SIZE)


def write_source(path, frames=4, labelled=True):
    write_frames(
        path,
        [
            RecordedFrame(
                np.full((*SIZE, 3), 40 * index, np.uint8),
                SECOND + index * 50_000_000,
                MASK if labelled else None,
                truth(index) if labelled else None,
            )
            for index in range(frames)
        ],
    )
    return path


def result(frame: int, offset: tuple[float, float]) -> TrackingResult:
    points = {"head": (40.0, 20.0), "center": (10.0 + frame, 12.0)}
    landmarks = tuple(
        LandmarkEstimate(name, points[name][0] + offset[0], points[name][1] + offset[1], np.eye(2), 0.9, True)
        for name in MODEL.landmarks
    )
    return TrackingResult((InstrumentEstimate(1, "left", landmarks, 0.9, 0.0, (0, 0, 1, 1)),), None, SIZE, 0.004)


def record(path, publications):
    """Publications are (frame, offset or None for no answer, latency in ms), one a second."""
    with BagWriter(path, compress=True) as bag:
        bag.add_topic(topics.SOURCE_TIME, topics.TIME_REFERENCE_TYPE)
        bag.add_topic(topics.POSES, topics.POSES_TYPE)
        bag.add_topic(topics.SEGMENTATION, topics.IMAGE_TYPE)
        reference = typestore().types[topics.TIME_REFERENCE_TYPE]
        for index, (frame, offset, latency) in enumerate(publications):
            stamp = (100 + index) * SECOND
            header = make_header(bag_types(), stamp, "camera")
            source = make_time(bag_types(), SECOND + frame * 50_000_000)
            bag.write(topics.SOURCE_TIME, reference(header=header, time_ref=source, source="x"), stamp)
            if offset is None:
                continue
            received = stamp + round(latency * 1e6)
            bag.write(topics.POSES, make_pose_array(bag_types(), header, result(frame, offset), "m@1"), received)
            bag.write(topics.SEGMENTATION, image_message(MASK, stamp), received + 1)
    return path


def sequence(path, classes=MODEL.classes):
    return BagSequence(path, None, to_rgb, classes)


def test_a_model_with_other_landmarks_is_refused(tmp_path):
    source = write_source(tmp_path / "frames.mcap")
    recording = record(tmp_path / "poses.mcap", [(0, (0, 0), 1)])
    other = InstrumentSet(landmarks=("tip",), classes=("background", "shaft"))
    with pytest.raises(WeightsError, match="tip"):
        evaluate_recording(sequence(source), source, recording, other)


def test_a_bag_is_a_sequence(tmp_path):
    bag = sequence(write_source(tmp_path / "frames.mcap"))
    assert isinstance(bag, Sequence)
    assert (bag.name, bag.landmarks, bag.slots, bag.size, bag.fps) == (
        "frames",
        ("center", "head", "extra"),
        ("left",),
        SIZE,
        20.0,
    )
    samples = list(bag)
    assert len(samples) == len(bag) == 4
    np.testing.assert_array_equal(samples[3].image, np.full((*SIZE, 3), 120))
    np.testing.assert_array_equal(samples[3].label_map, MASK)
    np.testing.assert_array_equal(samples[1].visible, [[True, False, True]])
    assert samples[1].labelled.all()


@pytest.mark.parametrize("changed", [1, 3])
def test_images_that_change_their_size_are_no_video_and_leave_none(tmp_path, changed):
    source = tmp_path / "frames.mcap"
    shapes = [(36, 64, 3) if index >= changed else (*SIZE, 3) for index in range(4)]
    write_frames(source, [RecordedFrame(np.zeros(shape, np.uint8), SECOND + k * 50_000_000) for k, shape in enumerate(shapes)])
    recording = record(tmp_path / "poses.mcap", [(frame, (0, 0), 5) for frame in range(4)])
    with pytest.raises(BagError, match=rf"Image {changed} of the bag .*frames\.mcap has 64x36 px and the first one 64x48"):
        evaluate_recording(sequence(source), source, recording, MODEL, overlay=tmp_path / "overlay.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames.mcap", "poses.mcap"]
    assert evaluate_recording(sequence(source), source, recording, MODEL).answered == 4


def test_figures_come_from_the_first_answer_to_each_frame(tmp_path):
    source = write_source(tmp_path / "frames.mcap")
    publications = [(0, (3, 4), 10), (1, None, 0), (1, (0, 0), 20), (1, (9, 9), 90), (2, None, 0), (3, (0, 2), 30)]
    recording = record(tmp_path / "poses.mcap", publications)
    overlay = tmp_path / "overlay.mp4"
    figures = evaluate_recording(sequence(source), source, recording, MODEL, overlay=overlay)
    assert (figures.frames, figures.answered, figures.instruments, figures.resent, figures.model) == (4, 3, 3, 2, "m@1")
    assert figures.latency_ms["p50"] == pytest.approx(20)
    assert figures.latency_ms["max"] == pytest.approx(30)
    assert figures.latency_ms["mean"] == pytest.approx(20)
    assert figures.latency_ms["p99"] == pytest.approx(np.percentile([10, 20, 30], 99))
    assert figures.processing_ms["p50"] == pytest.approx(4)
    accuracy = figures.accuracy
    errors = [5, 5, 0, 2, 2]  # frame 0 twice, frame 1 without its absent head, frame 3 twice
    assert accuracy["landmark_error_px"]["mean"] == pytest.approx(np.mean(errors))
    assert accuracy["landmark_error_px"]["median"] == pytest.approx(np.median(errors))
    assert accuracy["false_positive_rate"] == 1.0, "the head was reported where it is known to be absent"
    assert accuracy["dice"] == 1.0
    assert len(VideoReader(overlay)) == 3


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_leaves_the_rest_out(tmp_path, limit):
    source = write_source(tmp_path / "frames.mcap", labelled=False)
    recording = record(tmp_path / "poses.mcap", [(frame, (0, 0), 5) for frame in range(limit)])
    figures = evaluate_recording(sequence(source), source, recording, MODEL, limit=limit)
    assert (figures.frames, figures.answered, figures.accuracy) == (limit, limit, None)


def test_without_any_answer_there_are_no_figures_and_no_video(tmp_path):
    source = write_source(tmp_path / "frames.mcap")
    recording = record(tmp_path / "poses.mcap", [(0, None, 0)])
    figures = evaluate_recording(sequence(source), source, recording, MODEL, overlay=tmp_path / "overlay.mp4")
    assert (figures.answered, figures.latency_ms["p50"], figures.accuracy["dice"]) == (0, None, None)
    assert not (tmp_path / "overlay.mp4").exists()
