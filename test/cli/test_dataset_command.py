from __future__ import annotations

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
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.datasets.synthetic.layout import write_endovis2015
from csl_tracker.video import VideoWriter


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("endovis")
    for seed in (1, 2):
        write_endovis2015(SyntheticSequence(seed, 4, (64, 96), name=f"Dataset{seed}"), root)
    return root


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["inspect", "{tmp}/nowhere"], "nowhere does not exist"),
        (["inspect", "{tmp}"], "No known layout fits"),
        (["inspect", "{tmp}", "--layout", "cocoo"], "There is no dataset 'cocoo'; known are"),
        (["inspect", "{source}", "--layout", "coco"], "is not a COCO dataset"),
        (["inspect", "{source}", "--sequences", "Dataset9"], "no sequence 'Dataset9'"),
        (["inspect", "{source}", "--frames", "0"], "--frames is 0"),
        (["inspect", "{source}", "--out", "{tmp}/sheet.txt"], "needs a name that ends in .png"),
        (
            ["inspect", "{source}", "--json", "{tmp}/mine.txt"],
            "mine.txt exists; choose another name, or replace it with --force",
        ),
        (["convert", "{source}", "--out", "{tmp}"], "exists and is not empty; remove it"),
        (["convert", "{tmp}/nowhere", "--out", "{tmp}/new"], "nowhere does not exist"),
    ],
)
def test_mistakes_end_with_one_sentence(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["dataset", *(word.format(tmp=tmp_path, source=source) for word in arguments)]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_inspect(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, counts = tmp_path / "sheet.png", tmp_path / "counts.json"
    assert main(["dataset", "inspect", str(source), "--out", str(sheet), "--json", str(counts)]) == 0
    text = capsys.readouterr().out
    assert "endovis2015 (detected by" in text
    assert "2 sequence(s), 8 frames" in text
    assert "Dataset2  4       96x64  25   right        4               4" in text
    assert "tracked_point  0         0" in text
    assert "Nobody labelled end, tracked_point." in text
    image = cv2.imread(str(sheet))
    assert image is not None
    assert image.std() > 20
    data = json.loads(counts.read_text())
    assert (data["layout"], data["also_fits"]) == ("endovis2015", ["endovis2015_joints"])
    assert data["sequences"][0]["landmarks"]["center"]["labelled"] == 8
    assert data["sequences"][1]["classes"]["shaft"]["frames"] == 4


def test_inspect_tells_of_one_broken_sequence_and_shows_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, lines in (("Dataset1", 3), ("Dataset2", 9)):
        (tmp_path / name).mkdir()
        with VideoWriter(tmp_path / name / "Video.avi", 25) as writer:
            for value in (0, 100, 200):
                writer.write(np.full((64, 96, 3), value, np.uint8))
        (tmp_path / name / "Pose.txt").write_text("50 30 1 0 1 0 5\n" * lines)
    assert main(["dataset", "inspect", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "1 sequence(s), 3 frames" in text
    assert "Dataset2: " in text
    assert "Pose.txt has 9 frames" in text


def test_convert_and_inspect_again(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "convert", str(source), "--out", str(tmp_path / "coco"), "--sequences", "Dataset1"]) == 0
    assert "1 sequence(s), 4 frames from endovis2015" in capsys.readouterr().out
    assert main(["dataset", "inspect", str(tmp_path / "coco")]) == 0
    text = capsys.readouterr().out
    assert "coco (detected by coco/coco.json)" in text
    assert "Dataset1  4       96x64  25   left, right  4               4" in text


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """A real process, stopped while it writes."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    with VideoWriter(tmp_path / "in" / "Video.avi", 25, crf=40, preset="ultrafast") as writer:
        for _ in range(150):
            writer.write(noise)
    (tmp_path / "in" / "Pose.txt").write_text("50 30 1 0 1 0 5\n" * 150)
    command = [sys.executable, "-m", "csl_tracker.cli.main", "dataset", "convert", "in", "--out", "out/coco"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()}
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob(".coco.partial/images/*/000003.png")):
        assert process.poll() is None, "the conversion ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "stopped" in error
    assert "Traceback" not in error
    assert not list((tmp_path / "out").iterdir())


def test_names_from_files_steer_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "f.png"), np.zeros((8, 8, 3), np.uint8))
    names = ["tip\x1b]0;x\x07", "a\x9b2Jb\nc"]
    data = {
        "images": [{"id": 1, "file_name": "f.png", "sequence": "one\x1b[31m\ntwo"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "keypoints": [90, 2, 2, 0, 0, 0]}],
        "categories": [{"id": 1, "name": "tool\x1b[0m", "keypoints": names}],
    }
    (tmp_path / "x.json").write_text(json.dumps(data))
    assert main(["dataset", "inspect", str(tmp_path), "--layout", "coco"]) == 0
    assert main(["dataset", "inspect", str(tmp_path), "--layout", "coco", "--sequences", "\x1b[2Jx"]) == 2
    captured = capsys.readouterr()
    assert all(character.isprintable() or character == "\n" for character in captured.out + captured.err)
    assert r"one\x1b[31m\x0atwo  1" in captured.out
    assert r"no sequence '\x1b[2Jx'; it has one\x1b[31m\x0atwo." in captured.err
