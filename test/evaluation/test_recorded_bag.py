import json
import math
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from csl_tracker.bags.frame_writer import BagOptions, RecordedFrame, write_frames
from csl_tracker.bags.notes import OFFLINE
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.cli.main import main
from csl_tracker.datasets.sample import Sequence
from csl_tracker.errors import BagError
from csl_tracker.evaluation.bag_labels import labels_at_beginning
from csl_tracker.evaluation.bag_metrics import evaluate_bag
from csl_tracker.evaluation.recorded_bag import RecordedBag
from csl_tracker.instruments import InstrumentSet
from csl_tracker.messages import topics
from csl_tracker.messages.cdr import restamp
from csl_tracker.messages.images import image_message, message_to_rgb
from csl_tracker.messages.poses import GroundTruth, bag_types, make_header, make_pose_array, make_time, make_truth_array
from csl_tracker.messages.types import typestore
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

SIZE = (48, 64)
SECOND = 1_000_000_000
STEP = 40_000_000
PUBLISHED = 500 * SECOND
MASK = np.zeros(SIZE, np.uint8)
MASK[10:20, 10:30] = 1
HALF = np.zeros(SIZE, np.uint8)
HALF[10:20, 10:20] = 1


def points(frame):
    """The left instrument moves, its tip is out of view in frame 1; the right one stands."""
    tip = (math.nan, math.nan) if frame == 1 else (20.0 + frame, 20.0)
    return np.array([[(10.0 + frame, 12.0), tip], [(50.0, 40.0), (55.0, 44.0)]])


def truth(frame, names=("center", "tip")):
    return GroundTruth(("left", "right"), names, points(frame), np.ones((2, 2), bool), SIZE)


def write_source(path, frames=6, images=True):
    stamps = [SECOND + index * STEP for index in range(frames)]
    if images:
        pictures = [np.full((*SIZE, 3), 20 * index, np.uint8) for index in range(frames)]
        write_frames(path, [RecordedFrame(pictures[k], stamps[k], MASK, truth(k)) for k in range(frames)])
        return path
    with BagWriter(path) as bag:
        bag.add_topic(topics.TRUTH_POSES, topics.POSES_TYPE)
        for k, stamp in enumerate(stamps):
            bag.write(topics.TRUTH_POSES, make_truth_array(bag_types(), make_header(bag_types(), stamp, "c"), truth(k)), stamp)
    return path


def poses(frame, offset=(0.0, 0.0), names=("tip", "center", "extra"), size=SIZE):
    """What a foreign tracker says: its landmarks and its instruments stand in another order than the truth's."""
    instruments = []
    for track, row in ((31, 1), (8, 0)):
        found = dict(zip(("center", "tip"), np.nan_to_num(points(frame)[row], nan=30.0) + offset, strict=True))
        landmarks = [LandmarkEstimate(n, *found.get(n, (1.0, 1.0)), np.eye(2), 0.75, True) for n in names]
        instruments.append(InstrumentEstimate(track, f"tool {track}", tuple(landmarks), 0.9, math.nan, (0, 0, 0, 0)))
    return TrackingResult(tuple(instruments), None, size, 0.002)


def record(path, answers, topic="/foreign/poses", delay_ms=10.0, replayed=True, custom=None, segmentation=None):
    """Answers are (frame, result or None); with ``replayed`` the frames were published under other stamps, 500 s on."""
    with BagWriter(path, custom=custom) as bag:
        bag.add_topic(topic, topics.POSES_TYPE)
        if replayed:
            bag.add_topic(topics.SOURCE_TIME, topics.TIME_REFERENCE_TYPE)
        if segmentation is not None:
            bag.add_topic(topics.SEGMENTATION, topics.IMAGE_TYPE)
        reference = typestore().types[topics.TIME_REFERENCE_TYPE]
        for index, (frame, result) in enumerate(answers):
            source = SECOND + round(frame * STEP)
            stamp = PUBLISHED + index * STEP if replayed else source
            header = make_header(bag_types(), stamp, "camera")
            received = stamp + round(delay_ms * 1e6) * (1 + index % 2)
            if replayed:
                bag.write(
                    topics.SOURCE_TIME, reference(header=header, time_ref=make_time(bag_types(), source), source=""), stamp
                )
            if result is None:
                continue
            bag.write(topic, make_pose_array(bag_types(), header, result, "other@1"), received)
            if segmentation is not None:
                bag.write(topics.SEGMENTATION, image_message(segmentation, stamp), received)
    return path


def measure(recorded, source, **options):
    return evaluate_bag(RecordedBag(recorded, source, message_to_rgb, **options)).values


def without_position(result):
    """Its first instrument claims landmarks that are nowhere."""
    first, *others = result.instruments
    lost = tuple(replace(mark, x=math.nan, y=math.inf) for mark in first.landmarks)
    return replace(result, instruments=(replace(first, landmarks=lost), *others))


@pytest.mark.parametrize(
    ("answers", "options", "sentence"),
    [
        ([], {}, r"has no poses .*; its topics are .*/foreign/poses"),
        ([(0, poses(0))], {"poses_topic": "/nowhere"}, r"/nowhere of the bag .* is not there; poses .* are on /foreign/poses"),
        ([(0, poses(0))], {"poses_topic": topics.SOURCE_TIME}, r"is of type sensor_msgs/msg/TimeReference"),
        (
            [(700, poses(0))],
            {},
            r"No pose array .* the stamp of one of the images .* 29.000 s to 29.000 s and the images from 1.000 s to 1.200 s",
        ),
        (
            [(0, poses(0, names=("a", "b")))],
            {},
            r"the landmarks a, b and the ground truth has center, tip, none of them the same",
        ),
        ([(1, poses(1, size=(96, 128)))], {}, r"The poses to image 0 in the bag .*: 128x96 px, while the image has 64x48 px"),
    ],
)
def test_what_cannot_be_evaluated_is_named(tmp_path, answers, options, sentence):
    source = write_source(tmp_path / "frames.mcap")
    recorded = record(tmp_path / "poses.mcap", answers)
    with pytest.raises(BagError, match=sentence):
        measure(recorded, source, **options)


def test_label_maps_of_another_size_are_named(tmp_path):
    source = write_source(tmp_path / "frames.mcap")
    recorded = record(tmp_path / "poses.mcap", [(0, poses(0))], segmentation=np.zeros((24, 32), np.uint8))
    with pytest.raises(BagError, match=r"The label map to image 0 in the bag .*: 32x24 px"):
        measure(recorded, source)


def test_a_bag_of_truth_without_any_is_named(tmp_path, capsys):
    recorded = record(tmp_path / "poses.mcap", [(0, poses(0))])
    source = tmp_path / "frames.mcap"
    write_frames(source, [RecordedFrame(np.zeros((*SIZE, 3), np.uint8), SECOND)])
    assert main(["evaluate-bag", str(recorded), "--ground-truth", str(source), "--out", str(tmp_path / "out")]) == 2
    assert "frames.mcap has no ground truth" in capsys.readouterr().err
    assert measure(recorded, source)["accuracy"] is None  # a program may measure what there is


@pytest.mark.parametrize("annotated", [True, False])
def test_labels_at_the_beginning_of_a_bag(tmp_path, annotated):
    """The first frame has no annotation; the stamps are 40 ms apart."""
    frames = [
        RecordedFrame(np.zeros((*SIZE, 3), np.uint8), SECOND + k * STEP, None, truth(k) if annotated and k else None)
        for k in range(3)
    ]
    write_frames(tmp_path / "a.b.mcap", frames, options=BagOptions(classes=("background", "tool") if annotated else ()))
    labels = labels_at_beginning(tmp_path / "a.b.mcap", None, message_to_rgb)
    assert isinstance(labels, Sequence)
    names = (("center", "tip"), ("background", "tool"), ("left", "right")) if annotated else ((), (), ())
    assert (labels.landmarks, labels.classes, labels.slots) == names
    assert (labels.name, labels.size, labels.fps, len(labels)) == ("a", SIZE, 25.0, 3)
    with pytest.raises(TypeError, match=r"RecordedBag\.frames"):
        list(labels)


def test_a_frame_that_was_sent_again_counts_once(tmp_path):
    """The first answer counts; a label map belongs to its image whichever publication it answers."""
    source = write_source(tmp_path / "frames.mcap", frames=3)
    answers = [(0, None), (0, poses(0)), (0, poses(0, (9.0, 9.0))), (1, None), (2, poses(2))]
    figures = measure(record(tmp_path / "poses.mcap", answers, segmentation=MASK), source)
    keys = ("frames", "answered_frames", "instruments", "resent_images", "duplicated_pose_arrays")
    assert [figures[key] for key in keys] == [3, 2, 4, 2, 1]
    assert figures["accuracy"]["landmark_error_px"]["max"] == 0.0
    assert figures["accuracy"]["dice"] == 1.0
    assert figures["latency_ms"]["count"] == 2


def test_the_model_says_what_landmarks_and_labels_mean(tmp_path):
    """Of a model whose only landmark is the tip, and whose second class is a part of the tool."""
    source = tmp_path / "frames.mcap"
    write_frames(source, [RecordedFrame(np.zeros((*SIZE, 3), np.uint8), SECOND, MASK * 2, truth(0))])
    recorded = record(tmp_path / "poses.mcap", [(0, poses(0, names=("tip",)))], segmentation=MASK)
    model = InstrumentSet(landmarks=("tip",), classes=("background", "shaft", "manipulator"))
    accuracy = evaluate_bag(RecordedBag(recorded, source, message_to_rgb), model=model).values["accuracy"]
    assert set(accuracy["landmarks"]) == {"tip"}
    assert accuracy["dice"] == 1.0  # the tool is the tool
    assert [accuracy["classes"][name]["dice"] for name in ("shaft", "manipulator")] == [0.0, 0.0]


@pytest.mark.parametrize("images", [True, False])
def test_figures_against_known_answers(tmp_path, images):
    """Every guess is (3, 4) px off; frame 2 has no poses and frame 4 two."""
    source = write_source(tmp_path / "frames.mcap", images=images)
    off = (3.0, 4.0)
    answers = [
        (0, poses(0, off)),
        (1, poses(1, off)),
        (2, None),
        (3, poses(3, off)),
        (4, poses(4, off)),
        (4, poses(4)),
        (5, poses(5, off)),
    ]
    recorded = record(tmp_path / "poses.mcap", answers, segmentation=HALF)
    figures = measure(recorded, source)
    accuracy = figures["accuracy"]
    assert accuracy["landmark_error_px"]["mean"] == accuracy["landmark_error_px"]["max"] == pytest.approx(5.0)
    assert accuracy["threshold_score_20px"] == 1.0
    assert accuracy["kbb_0.15"] == 0.0  # boxes of 10 and 5 px; 5 px is more than 0.15 of either
    assert accuracy["visible"] == 5 * 4 - 1
    assert accuracy["false_positive_rate"] == 1.0  # the tip that is out of view in frame 1 was reported
    assert accuracy["miss_rate"] == 0.0
    assert accuracy["miss_rate_with_dropped_frames"] == pytest.approx(4 / 23)
    assert accuracy["dice"] == (pytest.approx(2 / 3) if images else None)
    keys = ("frames", "answered_frames", "dropped_frames", "longest_gap_frames", "pose_arrays", "duplicated_pose_arrays")
    assert [figures[key] for key in keys] == [6, 5, 1, 1, 6, 1]
    assert figures["frames_are"] == ("images" if images else "annotations")
    assert figures["landmarks_without_truth"] == ["extra"]
    assert figures["latency_not_applicable"] is None
    assert figures["latency_ms"]["max"] == pytest.approx(20.0)
    assert figures["latency_ms"]["p50"] == pytest.approx(np.median([10, 20, 20, 10, 10]))
    assert figures["jitter"]["position_px"]["rms"] == pytest.approx(0.0, abs=1e-9)  # a constant offset does not jitter
    assert figures["calibration"]["ece"] == pytest.approx(0.25)  # all right, at a confidence of 0.75


def test_jitter_is_the_change_of_the_error(tmp_path):
    source = write_source(tmp_path / "frames.mcap")
    recorded = record(tmp_path / "poses.mcap", [(k, poses(k, (2.0 * (k % 2), 0.0))) for k in range(6)])
    figures = measure(recorded, source)
    assert figures["jitter"]["position_px"]["rms"] == pytest.approx(2.0)
    intervals = figures["jitter"]["publishing_interval_ms"]
    gaps = np.array([50.0, 30.0, 50.0, 30.0, 50.0])  # 40 ms apart, received after 10 or 20 ms
    assert intervals["sd"] == pytest.approx(gaps.std())
    assert (intervals["median"], intervals["max"]) == (50.0, 50.0)


def test_a_position_that_is_not_finite_is_a_miss(tmp_path):
    source = write_source(tmp_path / "frames.mcap", frames=2)
    recorded = record(tmp_path / "poses.mcap", [(0, without_position(poses(0)))])
    figures = measure(recorded, source)
    assert figures["nan_landmarks"] == 3
    assert (figures["accuracy"]["unanswered"], figures["accuracy"]["miss_rate"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("options", "answers", "frames", "dropped"),
    [
        ({}, (1, 2, 4), 3, 0),
        ({"custom": OFFLINE, "replayed": False}, (1, 2, 4), 4, 1),
        ({"replayed": False}, (1, 2, 4), 6, 3),  # a live tracker that comes late or dies has dropped the rest
    ],
)
def test_what_was_not_replayed_is_not_dropped(tmp_path, options, answers, frames, dropped):
    source = write_source(tmp_path / "frames.mcap")
    figures = measure(record(tmp_path / "poses.mcap", [(k, poses(k)) for k in answers], **options), source)
    assert (figures["frames"], figures["dropped_frames"], figures["frames_not_replayed"]) == (frames, dropped, 6 - frames)


def test_what_was_readable_of_a_broken_bag_is_kept(tmp_path, capsys):
    whole = record(tmp_path / "whole.mcap", [(k, poses(k)) for k in range(6)])
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = write_source(tmp_path / "frames.mcap")
    assert main(["evaluate-bag", str(broken), "--ground-truth", str(source), "--out", str(tmp_path / "out")]) == 2
    assert "cannot be read to its end" in capsys.readouterr().err
    figures = json.loads((tmp_path / "out" / "figures.json").read_text(encoding="utf-8"))
    assert 0 < figures["answered_frames"] < 6
    assert any("cannot be read to its end" in problem for problem in figures["problems"])


@pytest.mark.parametrize(("x", "covariance"), [(1e12, 1.0), (-1e300, 1.0), (20.0, math.nan), (20.0, math.inf), (20.0, -5.0)])
def test_absurd_numbers_of_a_publisher_are_drawn_or_left_out(tmp_path, x, covariance):
    source = write_source(tmp_path / "frames.mcap", frames=1)
    first, *others = poses(0).instruments
    marks = tuple(replace(mark, x=x, covariance=np.full((2, 2), covariance), confidence=math.nan) for mark in first.landmarks)
    result = replace(poses(0), instruments=(replace(first, landmarks=marks), *others))
    recorded = record(tmp_path / "poses.mcap", [(0, result)])
    drawn = []
    evaluate_bag(RecordedBag(recorded, source, message_to_rgb), lambda image, _: drawn.append(image))
    assert drawn[0].shape == (*SIZE, 3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"replayed": False}, "not known to be the times of the images' publication"),
        ({"custom": OFFLINE, "replayed": False}, "at the stamps of their images"),
        ({"delay_ms": -5.0}, "two clocks do not agree"),
    ],
)
def test_latency_where_the_clocks_do_not_allow_it(tmp_path, options, reason):
    source = write_source(tmp_path / "frames.mcap")
    recorded = record(tmp_path / "poses.mcap", [(k, poses(k)) for k in range(3)], **options)
    figures = measure(recorded, source)
    assert reason in figures["latency_not_applicable"]
    assert figures["latency_ms"]["p50"] is None


def test_without_truth_the_frames_count_all_the_same(tmp_path, capsys, caplog):
    recorded = record(tmp_path / "poses.mcap", [(0, poses(0)), (2, poses(2))])
    out = tmp_path / "out"
    assert main(["evaluate-bag", str(recorded), "--out", str(out)]) == 0
    assert "has no ground truth" in caplog.text
    assert sorted(path.name for path in out.iterdir()) == ["figures.json", "report.html"]
    assert main(["evaluate-bag", str(recorded), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing_behind(tmp_path):
    shape = (480, 640, 3)
    label = GroundTruth(("left",), ("center", "tip"), points(0)[:1], np.ones((1, 2), bool), shape[:2])
    noise = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
    source = tmp_path / "frames.mcap"
    frames = (RecordedFrame(noise, SECOND + k * STEP, None, label) for k in range(150))
    write_frames(source, frames, options=BagOptions(jpeg=50))
    recorded = record(tmp_path / "poses.mcap", [(k, poses(0, size=shape[:2])) for k in range(150)])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "csl_tracker.cli.main", "evaluate-bag", recorded, "--ground-truth", source, "--out", out]
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(out.glob(".overlay*")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "stopped" in said
    assert not out.exists()


@pytest.mark.parametrize("error_ns", [500, -499, 1_000_000, -400_000])
@pytest.mark.parametrize("replayed", [True, False])
def test_rounded_stamps_find_their_images(tmp_path, error_ns, replayed):
    source = write_source(tmp_path / "source.mcap")
    bag = BagReader(record(tmp_path / "exact.mcap", [(k, poses(k)) for k in range(6)], replayed=replayed))
    with BagWriter(tmp_path / "rounded.mcap") as rounded:
        for topic, kind in bag.types.items():
            rounded.add_topic(topic, kind)
        for message in bag.messages():
            changed = message.topic == "/foreign/poses"
            data = restamp(message.data, message.stamp_ns + error_ns) if changed else message.data
            rounded.write_raw(message.topic, data, message.time_ns)
    exact, found = measure(tmp_path / "exact.mcap", source), measure(tmp_path / "rounded.mcap", source)
    assert (found["answered_frames"], found["dropped_frames"], found["unmatched_pose_stamps"]) == (6, 0, 0)
    assert (exact["rounded_pose_stamps"], found["rounded_pose_stamps"], found["stamp_tolerance_ms"]) == (0, 6, 1.0)
    assert found["accuracy"]["landmark_error_px"] == exact["accuracy"]["landmark_error_px"]


def test_what_matches_no_image_and_what_came_twice_is_printed(tmp_path, capsys):
    source = write_source(tmp_path / "source.mcap")
    answers = [(0, poses(0)), (0, poses(0)), (1, poses(1)), (2.05, poses(2))]
    record(tmp_path / "poses.mcap", [(k, result) for k, result in answers], replayed=False)
    command = ["evaluate-bag", str(tmp_path / "poses.mcap"), "--ground-truth", str(source), "--out", str(tmp_path / "out")]
    assert main([*command, "--no-video"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"frames / with poses / dropped +6 / 2 / 4", said)
    assert re.search(r"match no image +1 \(stamps may differ by 1 ms, the nearest to an image is 2.000 ms away: copy", said)
    assert re.search(r"further ones of the same image +1; only the first one counts", said)
