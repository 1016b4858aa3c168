from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.errors import DatasetError
from csl_tracker.instruments import InstrumentSet
from csl_tracker.pose_files import PoseFiles
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

MODEL = InstrumentSet(landmarks=("center", "head"), classes=("background", "tool"))
NAN = math.nan


def result(*, visible: bool = True) -> TrackingResult:
    landmarks = (
        LandmarkEstimate("center", 10.123456, 20.5, np.array([[4.0, 1.0], [1.0, 2.0]]), 0.75, visible),
        LandmarkEstimate("head", NAN, NAN, np.full((2, 2), NAN), 0.0, False),
    )
    return TrackingResult((InstrumentEstimate(7, "left", landmarks, 0.75, NAN, (1, 2, 3, 4)),), None, (48, 64), 0.0125)


def open_files(folder: Path) -> PoseFiles:
    return PoseFiles(folder / "poses.csv", folder / "poses.json", MODEL, {"fps": 25.0})


def test_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written"):
        open_files(tmp_path / "file")


def test_nothing_is_left_when_the_block_raises(tmp_path: Path) -> None:
    def fail() -> None:
        with open_files(tmp_path) as files:
            files.write(0, 0.0, result())
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("room", "count"), [(0, 0), (2000, 100)], ids=["at the end", "on the way"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, full_disk, room: int, count: int) -> None:
    def fill() -> None:
        files = open_files(tmp_path)
        with full_disk(room), files:
            for index in range(count):
                files.write(index, 0.04 * index, result())

    with pytest.raises(DatasetError, match=r"poses\.csv and .*poses\.json failed \(File too large\); make room"):
        fill()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("visible", [True, False])
def test_both_files_say_the_same(tmp_path: Path, visible: bool) -> None:
    with open_files(tmp_path) as files:
        files.write(0, 0.0, result(visible=visible))
        files.write(1, 0.04, TrackingResult((), None, (48, 64), 0.01))
    place = "10.1235,20.5" if visible else ","
    assert (tmp_path / "poses.csv").read_text().splitlines() == [
        "frame,stamp_s,track_id,slot,confidence,shaft_angle_rad,"
        "center_x,center_y,center_confidence,center_visible,head_x,head_y,head_confidence,head_visible",
        f"0,0.0,7,left,0.75,,{place},0.75,{int(visible)},,,0.0,0",
    ]
    report = json.loads((tmp_path / "poses.json").read_text())
    assert report["fps"] == 25.0
    first, second = report["frames"]
    assert second == {"frame": 1, "stamp_s": 0.04, "processing_time_s": 0.01, "instruments": []}
    [instrument] = first["instruments"]
    assert (instrument["track_id"], instrument["slot"], instrument["shaft_angle_rad"]) == (7, "left", None)
    center, head = instrument["landmarks"]
    assert (center["x"], center["y"], center["visible"], center["covariance"]) == (10.1235, 20.5, visible, [[4, 1], [1, 2]])
    assert (head["x"], head["covariance"], head["visible"]) == (None, [[None, None], [None, None]], False)


def test_files_without_any_frame_are_whole(tmp_path: Path) -> None:
    with open_files(tmp_path):
        pass
    assert json.loads((tmp_path / "poses.json").read_text()) == {"fps": 25.0, "frames": []}


def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path) -> None:
    model = InstrumentSet(landmarks=("=cmd|' /C calc'!A0",), classes=("background", "tool"))
    mark = LandmarkEstimate(model.landmarks[0], 1.0, 2.0, np.eye(2), 0.9, True)
    found = TrackingResult((InstrumentEstimate(1, "@SUM(1)", (mark,), 0.9, -1.5, (0, 0, 1, 1)),), None, (4, 4), 0.0)
    with PoseFiles(tmp_path / "p.csv", tmp_path / "p.json", model, {}) as files:
        files.write(0, 0.0, found)
    head, row = (tmp_path / "p.csv").read_text().splitlines()
    assert "'=cmd|" in head
    assert row.startswith("0,0.0,1,'@SUM(1),0.9,-1.5,")
