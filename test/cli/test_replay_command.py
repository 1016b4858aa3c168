"""``csl-tracker replay``: a bag through a tracker without ROS, also when it is stopped or the bag is broken."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from csl_tracker.bags.frame_writer import RecordedFrame, write_frames
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.cli.main import main
from csl_tracker.messages import topics
from csl_tracker.messages.images import image_message, label_map
from csl_tracker.messages.poses import GroundTruth, read_pose_array
from csl_tracker.messages.types import typestore
from csl_tracker.tracker import Tracker
from csl_tracker.weights import Preprocessing

START, STEP = 10**9, 40_000_000
SIZE = (64, 80)
ENGINE = ["--device", "cpu", "--engine", "torch", "--always-report"]


def picture(index: int) -> np.ndarray:
    coarse = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)
    return np.roll(cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC), 5 * index, axis=1)


@pytest.fixture(scope="module")
def tiny_weights(make_weights) -> Path:
    return make_weights(name="tiny", preprocessing=Preprocessing((127.0,) * 3, (128.0,) * 3, (32, 32)))


@pytest.fixture
def bag(tmp_path) -> Path:
    truth = GroundTruth(("left",), ("center",), np.full((1, 1, 2), 3.0), np.ones((1, 1), bool), SIZE)
    frames = [RecordedFrame(picture(index), START + index * STEP, np.ones(SIZE, np.uint8), truth) for index in range(8)]
    write_frames(tmp_path / "frames.mcap", frames)
    return tmp_path / "frames.mcap"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "BAG"], "frames.mcap exists; give --overwrite"),
        (["--out", "BAG", "--overwrite"], "is also the input"),
        (["--out", "OUT", "--topic", "/left"], "no images on /left"),
        (
            ["--out", "OUT", "--topic", topics.TRUTH_POSES],
            "has type csl_tracker_msgs/msg/InstrumentPoseArray, which is no image type",
        ),
        (["--out", "OUT", "--start", "-1"], "--start is -1"),
        (["--out", "OUT", "--start", "2", "--end", "1"], "--end is 1"),
        (["--out", "OUT", "--start", "20"], "(0.3 s) has no image on /camera/image_raw in the selected part"),
        (["--out", "OUT", "--frames", "0"], "--frames is 0"),
        (["--out", "OUT", "--weights", "OUT"], "out.mcap"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(bag, tiny_weights, capsys, arguments, words):
    places = {"BAG": str(bag), "OUT": str(bag.parent / "out.mcap")}
    before = bag.read_bytes()
    given = [places.get(word, word) for word in arguments]
    weights = [] if "--weights" in given else ["--weights", str(tiny_weights)]
    assert main(["replay", str(bag), *given, *weights, *ENGINE]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert bag.read_bytes() == before
    assert [path.name for path in bag.parent.iterdir()] == ["frames.mcap"]


def test_poses_stand_under_the_images_stamps_beside_the_truth(bag, tiny_weights, tmp_path, capsys):
    out = tmp_path / "results"
    given = ["replay", str(bag), "--out", str(out), "--weights", str(tiny_weights), "--segmentation", *ENGINE]
    assert main([*given, "--start", "0.04", "--end", "0.2"]) == 0
    assert "tracked 5 of 5 images" in capsys.readouterr().out
    tracker = Tracker.from_weights(tiny_weights, device="cpu", engine="torch", always_report=True)
    with BagReader(out) as results:
        assert results.custom["csl_tracker_replay"] == "offline"
        assert results.custom["csl_tracker_source"] == "frames.mcap"
        kinds = (topics.POSES, topics.SEGMENTATION, topics.TRUTH_POSES, topics.TRUTH_SEGMENTATION)
        assert {name: results.count(name) for name in results.types} == dict.fromkeys(kinds, 5)
        found = {name: list(results.messages([name])) for name in kinds}
        for place, index in enumerate(range(1, 6)):
            stamp = START + index * STEP
            assert {found[name][place].stamp_ns for name in kinds} == {found[name][place].time_ns for name in kinds} == {stamp}
            expected = tracker.track(picture(index), stamp * 1e-9)
            result = read_pose_array(results.deserialize(found[topics.POSES][place]))
            for ours, theirs in zip(result.instruments, expected.instruments, strict=True):
                assert (ours.track_id, ours.slot) == (theirs.track_id, theirs.slot)
                np.testing.assert_equal([(m.x, m.y) for m in ours.landmarks], [(m.x, m.y) for m in theirs.landmarks])
            segmentation = results.deserialize(found[topics.SEGMENTATION][place])
            np.testing.assert_array_equal(label_map(segmentation), expected.label_map)
    assert main([*given, "--frames", "2", "--overwrite"]) == 0
    with BagReader(out) as results:
        assert results.count(topics.POSES) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames.mcap", "results"]


def test_what_a_broken_bag_gave_is_kept_and_the_rest_is_named(bag, tiny_weights, tmp_path, capsys):
    content = bag.read_bytes()
    bag.write_bytes(content[: content.rfind(b"rgb8")])
    out = tmp_path / "out.mcap"
    assert main(["replay", str(bag), "--out", str(out), "--weights", str(tiny_weights), *ENGINE]) == 2
    said = capsys.readouterr()
    assert "tracked 7 of 7 images" in said.out
    assert "frames.mcap cannot be read to its end" in said.err
    assert "Traceback" not in said.err
    with BagReader(out) as results:
        assert results.problems == []
        assert results.count(topics.POSES) == 7


def test_images_that_come_a_little_late_are_left_out_and_identities_stay(tiny_weights, tmp_path, caplog, capsys):
    with BagWriter(tmp_path / "a.mcap") as writer:
        writer.add_topic("/cam", topics.IMAGE_TYPE)
        for index, ms in enumerate((0, 40, 35, 80, 75)):
            data = typestore().serialize_cdr(image_message(picture(index), START + ms * 1_000_000), topics.IMAGE_TYPE)
            writer.write_raw("/cam", data, START + index * STEP)
    given = ["--weights", str(tiny_weights), *ENGINE]
    assert main(["replay", str(tmp_path / "a.mcap"), "--out", str(tmp_path / "out.mcap"), *given]) == 0
    assert "tracked 3 of 5 images" in capsys.readouterr().out
    assert "2 of the images could not be used: its stamp is slightly earlier than that of a previous image" in caplog.text
    assert "jumped back" not in caplog.text


def test_images_that_cannot_be_used_are_passed_over_and_named(tiny_weights, tmp_path, caplog, capsys):
    with BagWriter(tmp_path / "a.mcap") as writer:
        writer.add_topic("/cam", topics.IMAGE_TYPE)
        for index in range(5):
            message = image_message(picture(index), START + (index if index < 3 else -1) * STEP)
            if index in (1, 2):
                message.encoding = "32FC3"
            data = typestore().serialize_cdr(message, topics.IMAGE_TYPE)
            writer.write_raw("/cam", data if index < 4 else data[:99], START + index * STEP)
    given = ["--weights", str(tiny_weights), *ENGINE]
    assert main(["replay", str(tmp_path / "a.mcap"), "--out", str(tmp_path / "out.mcap"), *given]) == 0
    assert "tracked 2 of 5 images" in capsys.readouterr().out
    assert re.search(r"images in .*a\.mcap jumped back 1 times, first at image 3", caplog.text)
    assert "2 of the images could not be used: The image has the unknown encoding '32FC3'" in caplog.text
    assert "1 of the images could not be used: A message on /cam of the bag" in caplog.text
    unusable = ["--start", "0.03", "--frames", "2"]
    assert main(["replay", str(tmp_path / "a.mcap"), "--out", str(tmp_path / "b.mcap"), *unusable, *given]) == 2
    assert "None of the 2 images on /cam" in capsys.readouterr().err
    assert not (tmp_path / "b.mcap").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_keeps_a_whole_bag_of_what_was_done(tiny_weights, tmp_path):
    path = tmp_path / "long.mcap"
    data = typestore().serialize_cdr(image_message(picture(0), START), topics.IMAGE_TYPE)
    with BagWriter(path) as writer:
        writer.add_topic("/cam", topics.IMAGE_TYPE)
        for index in range(20_000):
            writer.write_raw("/cam", data, START + index * STEP)
    out = tmp_path / "out.mcap"
    command = [sys.executable, "-m", "csl_tracker.cli.main", "replay", str(path), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--weights", str(tiny_weights), *ENGINE], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    working: list[Path] = []
    while not working and time.monotonic() < end:  # its work folder is there from the first image on
        working = list(tmp_path.glob(".out.mcap.*/*/*.mcap"))
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "tracked" in stdout
    assert "Traceback" not in stderr
    with BagReader(out) as results:
        assert results.problems == []
        assert 0 < results.count(topics.POSES) < 20_000
    assert sorted(item.name for item in tmp_path.iterdir()) == ["long.mcap", "out.mcap"]
