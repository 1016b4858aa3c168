import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.cli import demo
from csl_tracker.cli.main import main
from csl_tracker.instruments import ENDOVIS, InstrumentSet
from csl_tracker.messages import topics
from csl_tracker.messages.poses import bag_types, make_header
from csl_tracker.messages.types import typestore
from csl_tracker.networks import NetworkConfig
from csl_tracker.video import VideoReader, VideoWriter
from csl_tracker.weights import Preprocessing

pytestmark = pytest.mark.ros

RESULTS = {"overlay.mp4", "poses.mcap", "metrics.json"}


@pytest.fixture(scope="module")
def weights(make_weights) -> Path:
    network = NetworkConfig("unet", encoder="none", decoder="none", width=4)
    return make_weights(name="tiny", network=network, preprocessing=Preprocessing((127.0,) * 3, (128.0,) * 3, (64, 64)))


def write_video(path: Path, frames: int) -> Path:
    """Frames at 25 Hz, and a break of a second before the last one."""
    with VideoWriter(path, fps=25) as video:
        for index in range(frames):
            pause_ns = 10**9 if index == frames - 1 else 0
            video.write(np.full((96, 128, 3), 10 * index, np.uint8), index * 40_000_000 + pause_ns)
    return path


def write_compressed_bag(path: Path, frames: int, broken: int | None = None) -> Path:
    """Frame ``broken`` is cut off after its first bytes."""
    with BagWriter(path) as bag:
        bag.add_topic("/davinci/left/compressed", topics.COMPRESSED_TYPE)
        for index in range(frames):
            data = cv2.imencode(".png", np.full((96, 128, 3), 10 * index, np.uint8))[1].reshape(-1)
            if index == broken:
                data = data[:20]
            header = make_header(bag_types(), 10**9 + index * 40_000_000, "left")
            message = typestore().types[topics.COMPRESSED_TYPE](header=header, format="png", data=data)
            bag.write("/davinci/left/compressed", message, index)
    return path


def write_sequence(folder: Path, frames: int = 4) -> Path:
    """A sequence in the EndoVis 2015 layout; the ring is at (50, 40), and out of sight in the last frame."""
    folder.mkdir(parents=True)
    mask = np.zeros((96, 128, 3), np.uint8)
    mask[30:50, :60] = 160
    for name, picture in (("Video.avi", np.full((96, 128, 3), 90, np.uint8)), ("Segmentation.avi", mask)):
        with VideoWriter(folder / name, fps=25) as video:
            for _ in range(frames):
                video.write(picture)
    lines = ["50 40 1 0 1 0 20"] * (frames - 1) + ["-1 -1 1 0 1 0 20"]
    (folder / "Pose.txt").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--input", "NONE"], "does not exist"),
        (["--input", "EMPTY"], "EMPTY"),
        (["--input", "TEXT.avi"], "TEXT.avi"),
        (["--input", "TEXT.mcap"], "corrupt"),
        (["--input", "BAG.mcap", "--topic", "/other"], "no images on /other; it has images on /davinci/left/compressed"),
        (["--input", "SEQUENCES"], "2 sequences (Dataset1, Dataset2)"),
        (["--frames", "0"], "--frames is 0"),
        (["--rate", "-1"], "--rate is -1"),
        (["--weights", "NONE"], "NONE"),
        (["--weights", "TEXT.avi"], "TEXT.avi"),
        (["--input", "BAG.mcap", "--engine", "abacus"], "abacus"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(tmp_path, weights, capfd, arguments, words):
    (tmp_path / "EMPTY").mkdir()
    for name in ("TEXT.avi", "TEXT.mcap"):
        (tmp_path / name).write_text("no video and no bag\n" * 30)
    write_compressed_bag(tmp_path / "BAG.mcap", 2)
    for name in ("Dataset1", "Dataset2"):
        write_sequence(tmp_path / "SEQUENCES" / name)
    before = sorted(path.name for path in tmp_path.iterdir())
    named = [str(tmp_path / word) if word.isupper() or word.startswith(("TEXT", "BAG")) else word for word in arguments]
    if "--weights" not in named:
        named += ["--weights", str(weights)]
    assert main(["demo", *named, "--output", str(tmp_path / "out")]) == 2
    error = capfd.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("csl-tracker: ")]
    assert len(lines) == 1, error
    assert words in lines[0]
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_weights_for_other_landmarks_are_named_before_anything_is_tracked(tmp_path, make_weights, capfd, monkeypatch):
    monkeypatch.setattr(demo, "_track", lambda *_: pytest.fail("it was tracked"))
    other = make_weights(name="other", instruments=InstrumentSet(landmarks=tuple("abcde"), classes=ENDOVIS.classes))
    source = write_sequence(tmp_path / "Dataset9")
    assert main(["demo", "--input", str(source), "--weights", str(other), "--output", str(tmp_path / "out")]) == 2
    assert "they have a, b, c, d, e, and the sequence frames has center" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_output(tmp_path, weights, capfd):
    (tmp_path / "out").write_text("mine")
    assert main(["demo", "--weights", str(weights), "--output", str(tmp_path / "out")]) == 2
    assert "choose another --output" in capfd.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_the_synthetic_sequence_goes_all_the_way(tmp_path, weights, capsys, read_publications):
    out = tmp_path / "deep" / "out"
    assert main(["demo", "--weights", str(weights), "--output", str(out), "--frames", "6", "--keep-bag"]) == 0
    assert {path.name for path in out.iterdir()} == {*RESULTS, "frames.mcap"}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["frames"] == metrics["poses"] == 6
    assert metrics["landmark_error_px"]["mean"] > 0
    assert metrics["landmark_error_px"]["median"] > 0
    assert 0 <= metrics["dice"] <= 1
    assert metrics["segmented_frames"] == 6
    latency = metrics["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert latency["p50"] >= metrics["processing_ms"]["p50"]
    assert len(metrics["input_sha256"]) == 64
    assert metrics["machine"]["cores"] >= 1
    assert {"csl_tracker", "python", "numpy", "rclpy"} <= set(metrics["versions"])
    assert metrics["model"]["name"].startswith("tiny@")
    assert set(metrics["landmarks"]) == set(ENDOVIS.landmarks)
    assert sum(1 for _ in VideoReader(out / "overlay.mp4")) == 6
    replayed = read_publications(out / "poses.mcap")
    with BagReader(out / "poses.mcap") as poses, BagReader(out / "frames.mcap") as frames:
        assert [item.source_ns for item in replayed] == [frame.stamp_ns for frame in frames.frames()]
        assert poses.count(topics.TRUTH_POSES) == poses.count(topics.POSES) == 6
    assert all(item.result.size == (576, 720) for item in replayed)
    table = capsys.readouterr().out
    assert "6 / 6" in table
    assert str(out) in table


def test_a_labelled_sequence_is_measured(tmp_path, weights):
    source = write_sequence(tmp_path / "Dataset9")
    assert (
        main(
            ["demo", "--input", str(source), "--weights", str(weights), "--engine", "torch", "--output", str(tmp_path / "out")]
        )
        == 0
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["input"], metrics["frames"], metrics["poses"]) == ("Dataset9", 4, 4)
    assert metrics["instruments"] == 4, "one instrument is annotated, so one best guess is asked for in each frame"
    center = metrics["landmarks"]["center"]
    assert (center["visible"], center["absent"], center["unanswered"]) == (3, 1, 0)
    assert center["landmark_error_px"]["mean"] > 0
    assert metrics["landmarks"]["head"]["visible"] == metrics["landmarks"]["head"]["absent"] == 0, "nobody labelled it"
    assert 0 <= metrics["dice"] <= 1


@pytest.mark.parametrize(("make", "name"), [(write_video, "a.mp4"), (write_compressed_bag, "a.mcap")])
def test_input_without_truth_gives_null_figures(tmp_path, weights, make, name):
    source = make(tmp_path / name, 5)
    out = tmp_path / "out"
    assert main(["demo", "--input", str(source), "--weights", str(weights), "--engine", "torch", "--output", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == RESULTS
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["input"], metrics["frames"], metrics["poses"]) == (name, 5, 5)
    assert metrics["landmark_error_px"] == {"mean": None, "median": None}
    assert metrics["dice"] is None
    times_ms = [time_ns / 1e6 for time_ns, _ in VideoReader(out / "overlay.mp4").timed()]
    assert times_ms == pytest.approx([0, 40, 80, 120, 1160 if name == "a.mp4" else 160], abs=0.1)
    assert metrics["segmented_frames"] is None
    assert metrics["latency_ms"]["p99"] > 0
    assert source.exists()


def test_an_unusable_image_in_a_bag_is_passed_over(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(demo, "ANSWER_TIMEOUT_S", 1.0)  # five times, for the frame that is never answered
    source = write_compressed_bag(tmp_path / "a.mcap", 5, broken=2)
    out = tmp_path / "out"
    assert main(["demo", "--input", str(source), "--weights", str(weights), "--engine", "torch", "--output", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == RESULTS
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["frames"], metrics["poses"]) == (5, 4)
    assert sum(1 for _ in VideoReader(out / "overlay.mp4")) == 4


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_half_way_it_stops_its_nodes_and_leaves_nothing(tmp_path, weights, number):
    source = write_video(tmp_path / "a.mp4", 20)
    command = [
        sys.executable,
        "-m",
        "csl_tracker.cli.main",
        "demo",
        "--input",
        str(source),
        "--weights",
        str(weights),
        "--engine",
        "torch",
    ]
    command += ["--output", str(tmp_path / "out"), "--rate", "0.02"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        end = time.monotonic() + 60
        while len(nodes := children(process.pid)) < 2:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped" in error
    assert "Traceback" not in error
    for node in nodes:
        with pytest.raises(ProcessLookupError):
            os.kill(node, 0)
    assert not (tmp_path / "out").exists()
