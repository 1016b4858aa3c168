from __future__ import annotations

import csv
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

from csl_tracker.cli.main import main
from csl_tracker.cli.track import stop_on_interrupt
from csl_tracker.instruments import ENDOVIS
from csl_tracker.video import VideoReader, VideoWriter

CPU = ["--device", "cpu", "--engine", "torch"]


def write_video(path: Path, frames: int, size: tuple[int, int] = (128, 160)) -> Path:
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8), (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 20) as writer:
        for index in range(frames):
            writer.write(np.roll(image, index, axis=1))
    return path


def truncated(path: Path) -> Path:
    write_video(path, 40, (240, 320))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda folder: folder / "missing.mp4", "missing.mp4 does not exist"),
        (lambda folder: folder, "holds no image"),
        (lambda folder: truncated(folder / "cut.avi"), "ends early: its header promises 40 frames"),
    ],
    ids=["missing", "empty folder", "truncated"],
)
def test_mistakes_end_with_one_sentence_and_no_output(
    tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str], make, text: str
) -> None:
    (tmp_path / "data").mkdir()
    output = tmp_path / "out"
    assert main(["track", str(make(tmp_path / "data")), "--weights", str(random_weights), "--output", str(output), *CPU]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert not output.exists()


def test_output_that_is_a_file(tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "video.mp4", 2)
    assert main(["track", str(video), "--weights", str(random_weights), "--output", str(video), *CPU]) == 2
    assert "is a file; name a folder" in capsys.readouterr().err


def test_broken_frame_in_the_middle_leaves_nothing(tmp_path: Path, random_weights: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(3):
        cv2.imwrite(str(frames / f"{index}.png"), np.full((64, 64, 3), 90, np.uint8))
    (frames / "2.png").write_bytes(b"broken")
    output = tmp_path / "out"
    assert main(["track", str(frames), "--weights", str(random_weights), "--output", str(output), *CPU]) == 2
    assert not output.exists()


def test_video_gives_overlay_and_poses(tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_video(tmp_path / "video.mp4", 5)
    output = tmp_path / "out"
    arguments = ["--weights", str(random_weights), "--output", str(output), "--confidence-threshold", "0", *CPU]
    assert main(["track", str(video), *arguments]) == 0
    assert "tracked 5 of 5 frames" in capsys.readouterr().out
    assert sorted(p.name for p in output.iterdir()) == ["overlay.mp4", "poses.csv", "poses.json"]
    overlay = VideoReader(output / "overlay.mp4")
    assert (len(overlay), overlay.size, overlay.fps) == (5, (128, 160), 20.0)

    report = json.loads((output / "poses.json").read_text())
    assert [(entry["frame"], entry["stamp_s"]) for entry in report["frames"]] == [(k, k / 20) for k in range(5)]
    assert (report["width"], report["height"], report["input"]) == (160, 128, "video.mp4")
    assert len(report["input_sha256"]) == 64
    assert str(tmp_path) not in json.dumps(report)
    instruments = [(entry["frame"], item) for entry in report["frames"] for item in entry["instruments"]]
    assert instruments

    rows = list(csv.DictReader((output / "poses.csv").open()))
    assert len(rows) == len(instruments)
    for row, (frame, instrument) in zip(rows, instruments, strict=True):
        assert (int(row["frame"]), int(row["track_id"]), row["slot"]) == (frame, instrument["track_id"], instrument["slot"])
        assert [mark["name"] for mark in instrument["landmarks"]] == list(ENDOVIS.landmarks)
        for mark in instrument["landmarks"]:
            assert bool(int(row[f"{mark['name']}_visible"])) == mark["visible"]
            expected = str(mark["x"]) if mark["visible"] and mark["x"] is not None else ""
            assert row[f"{mark['name']}_x"] == expected


def test_sequence_folder_without_overlay(tmp_path: Path, random_weights: Path) -> None:
    write_video(tmp_path / "Dataset1" / "Video.avi", 3)
    output = tmp_path / "out"
    arguments = ["--no-overlay", "--weights", str(random_weights), "--output", str(output), *CPU]
    assert main(["track", str(tmp_path / "Dataset1"), *arguments]) == 0
    assert sorted(p.name for p in output.iterdir()) == ["poses.csv", "poses.json"]


def test_ctrl_c_keeps_what_was_done_as_whole_files(tmp_path: Path, random_weights: Path) -> None:
    video = write_video(tmp_path / "video.mp4", 3000, (64, 96))
    output = tmp_path / "out"
    command = [sys.executable, "-m", "csl_tracker.cli.main", "track", str(video), "--weights", str(random_weights), *CPU]
    # one thread: two more would only wait for each other on a busy machine
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--output", str(output)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    deadline = time.monotonic() + 60
    partial = 0
    while partial < 3000 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
        partial = sum(path.stat().st_size for path in output.glob(".poses.json.part*")) if output.exists() else 0
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert sorted(p.name for p in output.iterdir()) == ["overlay.mp4", "poses.csv", "poses.json"]
    done = len(json.loads((output / "poses.json").read_text())["frames"])
    assert 0 < done < 3000
    assert f"tracked {done} of 3000" in stdout
    assert len(list(VideoReader(output / "overlay.mp4"))) == done


def test_second_ctrl_c_stops_at_once() -> None:
    def press_twice() -> None:
        with stop_on_interrupt() as stopped:
            os.kill(os.getpid(), signal.SIGINT)
            assert stopped.wait(5)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert signal.getsignal(signal.SIGINT) is before


def test_frames_keep_their_own_times(tmp_path: Path, random_weights: Path) -> None:
    times = [0, 50_000_000, 100_000_000, 1_000_000_000, 3_000_000_000]
    with VideoWriter(tmp_path / "uneven.mp4", 20) as writer:
        for index, time_ns in enumerate(times):
            writer.write(np.full((128, 160, 3), 40 * index, np.uint8), time_ns)
    output = tmp_path / "o:ut"
    assert main(["track", str(tmp_path / "uneven.mp4"), "--weights", str(random_weights), "--output", str(output), *CPU]) == 0
    report = json.loads((output / "poses.json").read_text())
    assert [frame["stamp_s"] for frame in report["frames"]] == [time_ns / 1e9 for time_ns in times]
    assert [time_ns for time_ns, _ in VideoReader(output / "overlay.mp4").timed()] == times
