"""The joints of Du et al. without pose files: beside videos, and with image files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.endovis2015_joints import LANDMARKS, open_endovis2015_joints
from csl_tracker.errors import DatasetError
from csl_tracker.video import VideoWriter

SIZE = (48, 64)
FRAMES = 4


def joint(name: str, x: float, y: float, tool: str | None = "tool1", **more: Any) -> dict[str, Any]:
    return {"class": name, "x": x, "y": y, **({"id": tool} if tool else {}), **more}


def entries(annotations: dict[int, list[dict[str, Any]]], count: int = FRAMES) -> list[dict[str, Any]]:
    """The JSON: an entry a frame, most of them without annotations."""
    return [
        {
            "class": "image",
            "filename": f"/home/somebody/Tracking_Robotic_Testing/Dataset5/Raw/img_{index:06d}_raw.png",
            "annotations": annotations.get(index, []),
        }
        for index in range(count)
    ]


def write_video(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 25) as writer:
        for _ in range(FRAMES):
            writer.write(np.full((*SIZE, 3), value, np.uint8))


@pytest.fixture
def with_video(tmp_path: Path) -> Path:
    """One right instrument in a training video, two in a test video with masks; the JSON in a folder of their own."""
    write_video(tmp_path / "Tracking_Robotic_Training/Training/Dataset5/Video.avi")
    testing = tmp_path / "Tracking_Robotic_Testing/Tracking/Dataset5"
    write_video(testing / "Video.avi")
    for side, value in (("Left", 160), ("Right", 70)):
        write_video(testing / f"{side}_Instrument_Segmentation.avi", value)
    train = {2: [joint("HeadPoint", 10, 11), joint("HeadPoint", 30, 31), joint("ShaftPoint", 12, 13, occluded=True)]}
    test = {
        0: [
            joint("LeftClasperPoint", 40, 20, "tool3"),
            joint("EndPoint", 60, 22, None),
            joint("HeadPoint", 12, 21, "tool4"),
            joint("HeadPoint", 44, 20, "tool3"),
            joint("EndPoint", 2, 23, None),
        ],
        3: [joint("HeadPoint", 70, 20, "tool3")],
    }
    annotations = tmp_path / "EndoVisPoseAnnotation"
    annotations.mkdir()
    (annotations / "train5_labels.json").write_text(json.dumps(entries(train)))
    (annotations / "test5_labels.json").write_text(json.dumps(entries(test)))
    return tmp_path


@pytest.fixture
def with_images(tmp_path: Path) -> Path:
    """Only the labelled frames were extracted."""
    for index in (1, 3):
        path = tmp_path / "Dataset5" / "Raw" / f"img_{index:06d}_raw.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((*SIZE, 3), (3, 2, index), np.uint8))
    labels = {1: [joint("HeadPoint", 5, 6, "tool2")], 3: [joint("TrackedPoint", 7, 8, "tool2")]}
    (tmp_path / "test5_labels.json").write_text(json.dumps(entries(labels)))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{", r"joint file .*test5_labels.json is not valid JSON from line 1"),
        (json.dumps([{"annotations": [joint("ElbowPoint", 1, 2)]}]), "Entry 0 of the joint file .*ElbowPoint"),
        (json.dumps(entries({5: [joint("HeadPoint", 1, 2)]}, 6)), r"annotates entry 5, for which there is no frame \(1 of 1"),
    ],
)
def test_files_that_are_broken_are_named(with_video: Path, text: str, said: str) -> None:
    (with_video / "EndoVisPoseAnnotation" / "test5_labels.json").write_text(text)
    with pytest.raises(DatasetError, match=said):
        open_endovis2015_joints(with_video, ["test5"])


def test_missing_frames_are_named(with_images: Path) -> None:
    (with_images / "Dataset5/Raw/img_000003_raw.png").unlink()
    with pytest.raises(DatasetError, match=r"annotates entry 3, for which there is no frame \(1 of 2 annotated entries\)"):
        open_endovis2015_joints(with_images)
    (with_images / "Dataset5/Raw/img_000001_raw.png").unlink()
    with pytest.raises(DatasetError, match=r"test5_labels.json has neither a Video.avi nor the images that it names"):
        open_endovis2015_joints(with_images)
    (with_images / "test5_labels.json").unlink()
    with pytest.raises(DatasetError, match=r"has no annotations of Du et al\.: looked for trainN_labels.json"):
        open_endovis2015_joints(with_images)


def test_only_the_annotated_frames_are_labelled(with_video: Path) -> None:
    [sequence] = open_endovis2015_joints(with_video, ["train5"])
    assert (sequence.slots, sequence.classes, sequence.landmarks) == (("right",), ("background",), LANDMARKS)
    samples = list(sequence)
    assert [bool(s.labelled.any()) for s in samples] == [False, False, True, False]
    head, shaft = LANDMARKS.index("head"), LANDMARKS.index("shaft")
    np.testing.assert_array_equal(samples[2].landmarks[0, [head, shaft]], [[10, 11], [12, 13]])  # the first of two heads
    assert samples[2].labelled[0].tolist() == [name in ("head", "shaft") for name in LANDMARKS]
    assert (samples[2].label_map, samples[2].stamp_ns) == (None, 80_000_000)


def test_tools_become_slots_and_loose_joints_go_to_the_nearest(with_video: Path) -> None:
    [sequence] = open_endovis2015_joints(with_video, ["test5"])
    assert (sequence.slots, sequence.classes) == (("left", "right"), ("background", "shaft", "manipulator"))
    samples = list(sequence)
    head, end, clasper = (LANDMARKS.index(name) for name in ("head", "end", "left_clasper"))
    np.testing.assert_array_equal(samples[0].landmarks[:, head], [[12, 21], [44, 20]])
    np.testing.assert_array_equal(samples[0].landmarks[:, end], [[2, 23], [60, 22]])
    np.testing.assert_array_equal(samples[0].landmarks[:, clasper], [[np.nan, np.nan], [40, 20]])
    assert samples[0].labelled[:, clasper].tolist() == [True, True]
    assert np.isnan(samples[3].landmarks).all()  # x = 70 is not in an image of 64 columns
    assert "1 joint(s) in" in sequence.notes[0]
    assert samples[0].label_map is not None
    assert samples[0].instances is not None
    assert (np.unique(samples[0].label_map).tolist(), np.unique(samples[0].instances).tolist()) == ([2], [2])


def test_two_tools_of_one_side_keep_their_ids(with_images: Path) -> None:
    labels = {1: [joint("HeadPoint", 5, 6, "tool1"), joint("HeadPoint", 15, 6, "tool3")]}
    (with_images / "test5_labels.json").write_text(json.dumps(entries(labels)))
    assert open_endovis2015_joints(with_images)[0].slots == ("tool1", "tool3")


def test_images_that_were_extracted(with_images: Path) -> None:
    [sequence] = open_endovis2015_joints(with_images)
    assert (sequence.name, sequence.slots, sequence.size) == ("test5", ("left",), SIZE)
    samples = list(sequence)
    assert [(s.frame, s.stamp_ns, s.image[0, 0, 0]) for s in samples] == [(1, 40_000_000, 1), (3, 120_000_000, 3)]
    np.testing.assert_array_equal(samples[0].landmarks[0, LANDMARKS.index("head")], [5, 6])
    np.testing.assert_array_equal(samples[1].landmarks[0, LANDMARKS.index("tracked_point")], [7, 8])
