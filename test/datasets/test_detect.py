from __future__ import annotations

import json
from pathlib import Path

import pytest

from csl_tracker.datasets.detect import DETECTORS, detect_layouts, sequence_names
from csl_tracker.datasets.registry import DATASETS
from csl_tracker.errors import DatasetError

COCO = json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "tool", "keypoints": ["tip"]}]})
RETINAL = json.dumps({"images": [], "annotations": [], "categories": [{"keypoints": ["Tip left", "tip_right", "Joint"]}]})

TREES = {
    "endovis2015": ["Training/Dataset1/Video.avi", "Training/Dataset1/Pose.txt"],
    "endovis2015_rigid": ["OP1/Raw/img_01_raw.png", "OP1/Masks/img_01_class.png"],
    "endovis2015_joints": ["train1_labels.json", "Dataset1/Video.avi"],
    "endovis2017": ["instrument_dataset_1/left_frames/frame000.png", "instrument_dataset_1/ground_truth/X_labels/frame000.png"],
    "endovis2018": ["release_1/seq_1/left_frames/frame000.png", "release_1/seq_1/labels/frame000.png"],
    "surgpose": ["000000/keypoints_left.yaml", "000000/regular/left_video.mp4"],
    "deeplabcut": ["labeled-data/v/img1.png", "labeled-data/v/CollectedData_me.csv"],
    "coco": ["images/1.png", "annotations/instances.json"],
    "retinal": ["images/seq_1/1.png", "retinal.json"],
}


def make(root: Path, layout: str) -> Path:
    contents = {
        "CollectedData_me.csv": "scorer,me,me\nbodyparts,tip,tip\ncoords,x,y\n",
        "instances.json": COCO,
        "retinal.json": RETINAL,
        "train1_labels.json": "[]",
    }
    for name in TREES[layout]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(contents.get(Path(name).name, ""))
    return root


def test_every_dataset_can_be_found() -> None:
    assert set(DETECTORS) == set(TREES) == set(DATASETS) - {"synthetic"}


@pytest.mark.parametrize("layout", TREES)
def test_layouts(tmp_path: Path, layout: str) -> None:
    found = detect_layouts(make(tmp_path, layout))
    # The retinal data is COCO with names of its own: who means it says so.
    assert [item.layout for item in found] == (["coco", "retinal"] if layout == "retinal" else [layout])
    assert any(found[0].evidence.endswith(name) for name in TREES[layout])


@pytest.mark.parametrize(
    ("layout", "inner"),
    [
        ("endovis2015", "Training/Dataset1"),
        ("endovis2015_rigid", "OP1"),
        ("endovis2017", "instrument_dataset_1"),
        ("endovis2018", "release_1/seq_1"),
        ("surgpose", "000000"),
        ("deeplabcut", "labeled-data/v"),
        ("deeplabcut", "labeled-data/v/CollectedData_me.csv"),
        ("coco", "annotations/instances.json"),
    ],
)
def test_part_of_a_dataset(tmp_path: Path, layout: str, inner: str) -> None:
    assert detect_layouts(make(tmp_path, layout) / inner)[0].layout == layout


def test_many_frames_do_not_hide_what_describes_them(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for index in range(300):
        (tmp_path / "frames" / f"a{index}.png").touch()
    (tmp_path / "frames" / "labels.json").write_text(COCO)
    assert detect_layouts(tmp_path)[0].layout == "coco"


def test_a_broken_file_that_is_named_is_taken_for_coco(tmp_path: Path) -> None:
    (tmp_path / "coco.json").write_text(COCO[:30])
    assert detect_layouts(tmp_path / "coco.json")[0].layout == "coco"
    with pytest.raises(DatasetError, match=r"No known layout fits .*looked for endovis2017"):
        detect_layouts(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        detect_layouts(tmp_path / "nowhere")


@pytest.mark.parametrize(("layout", "names"), [("endovis2015", ["Dataset1"]), ("surgpose", ["000000_left"]), ("coco", [])])
def test_names_of_sequences_without_opening_them(tmp_path: Path, layout: str, names: list[str]) -> None:
    assert sequence_names(layout, make(tmp_path, layout)) == names
