from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csl_tracker.datasets.detect import detect_layouts
from csl_tracker.datasets.endovis2015 import open_endovis2015
from csl_tracker.datasets.endovis2015_annotations import (
    CLASSES,
    LANDMARKS,
    JointLabels,
    assign_joints,
    read_joints,
    read_poses,
    snap_mask,
)
from csl_tracker.datasets.endovis2015_files import find_sequences
from csl_tracker.datasets.sample import Sequence
from csl_tracker.errors import DatasetError
from csl_tracker.video import VideoWriter

GOOD = "100 50 1 0 1 0 12.5"
REAL = os.environ.get("CSL_TRACKER_ENDOVIS15", "")

WriteSequence = Callable[..., Path]


def joint(name: str, tool: str | None, x: float, y: float, **more: Any) -> dict[str, Any]:
    return {"class": name, "x": x, "y": y, **({"id": tool} if tool else {}), **more}


def entry(*annotations: dict[str, Any]) -> dict[str, Any]:
    return {"class": "image", "filename": "img.png", "annotations": list(annotations)}


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("100 50 1 0 1 0", "'100 50 1 0 1 0'"),
        ("100 50 1 0 1 0 12.5 7", "'100 50 1 0 1 0 12.5 7'"),
        ("100,50,1,0,1,0,12.5", "'100,50,1,0,1,0,12.5'"),
        ("100 fifty 1 0 1 0 12.5", "fifty"),
        ("100 nan 1 0 1 0 12.5", "nan"),
        ("100 inf 1 0 1 0 12.5", "inf"),
        ("", "''"),
    ],
)
def test_broken_pose_line_is_named(tmp_path: Path, line: str, shown: str) -> None:
    path = tmp_path / "Pose.txt"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(DatasetError, match=r"Line 2 of the pose file .*Pose\.txt reads .*write the seven numbers") as info:
        read_poses(path)
    assert shown in str(info.value)


@pytest.mark.parametrize(("content", "text"), [(b"", "is empty"), (b"\n\n", "is empty"), (b"\xff\xfe\x00", "cannot be read")])
def test_pose_file_without_poses(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "Pose.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=text):
        read_poses(tmp_path / "Pose.txt")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('[{"annotations": []},\n {"annotations": [}]', "is not valid JSON from line 2"),
        ('{"annotations": []}', "holds a JSON dict"),
        ('[{"annotations": []}, {}]', "Entry 1 .* has no list 'annotations'"),
        (json.dumps([entry(joint("ElbowPoint", "tool1", 1, 2))]), "ElbowPoint"),
        (json.dumps([entry({"class": "HeadPoint", "id": "tool1", "x": 1})]), "numbers x and y"),
        (json.dumps([entry(joint("HeadPoint", "tool1", float("nan"), 2))]), "leave unseen joints out"),
    ],
)
def test_broken_joint_file_is_named(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "test1_labels.json").write_text(content)
    with pytest.raises(DatasetError, match=text) as info:
        read_joints(tmp_path / "test1_labels.json")
    assert "test1_labels.json" in str(info.value)


def test_folder_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        DatasetError, match=r"is not an EndoVis 2015 dataset: looked for folders with Video\.avi beside Segmentation\.avi"
    ):
        find_sequences(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        find_sequences(tmp_path / "nothing")


def test_sequence_without_video(tmp_path: Path) -> None:
    (tmp_path / "Dataset1").mkdir()
    (tmp_path / "Dataset1" / "Pose.txt").write_text(GOOD)
    with pytest.raises(DatasetError, match=r"has .*Pose\.txt but no Video\.avi"):
        open_endovis2015(tmp_path)


def test_one_side_of_two_instruments_is_missing(tmp_path: Path, write_sequence: WriteSequence) -> None:
    folder = write_sequence(tmp_path / "Dataset1", [GOOD] * 3)
    (folder / "Pose.txt").rename(folder / "Left_Instrument_Pose.txt")
    with pytest.raises(DatasetError, match=r"has only .*Left_Instrument_Pose"):
        open_endovis2015(tmp_path)


def test_unknown_sequence_names_the_known_ones(tmp_path: Path, write_sequence: WriteSequence) -> None:
    write_sequence(tmp_path / "Dataset1", [GOOD] * 2)
    write_sequence(tmp_path / "Dataset10", [GOOD] * 2)
    write_sequence(tmp_path / "Dataset2", [GOOD] * 2)
    with pytest.raises(DatasetError, match="no sequence 'Dataset7'; it has Dataset1, Dataset2, Dataset10"):
        open_endovis2015(tmp_path, ["Dataset7"])


@pytest.mark.parametrize(("frames", "masks", "expected"), [(5, 5, 5), (5, 6, 5), (6, 6, 5), (4, 5, 4), (5, 4, 4)])
def test_one_frame_more_or_less_is_tolerated(
    tmp_path: Path, write_sequence: WriteSequence, frames: int, masks: int, expected: int
) -> None:
    write_sequence(tmp_path / "Dataset1", [GOOD] * 5, frames=frames, masks=masks)
    [sequence] = open_endovis2015(tmp_path)
    assert len(sequence) == len(list(sequence)) == expected


@pytest.mark.parametrize(("frames", "masks", "first", "second"), [(5, 8, 8, 5), (7, 7, 7, 5), (5, 3, 5, 3)])
def test_larger_differences_name_both_counts(
    tmp_path: Path, write_sequence: WriteSequence, frames: int, masks: int, first: int, second: int
) -> None:
    write_sequence(tmp_path / "Dataset1", [GOOD] * 5, frames=frames, masks=masks)
    with pytest.raises(DatasetError, match=rf"has {first} frames and .* has {second}; video, masks and poses"):
        open_endovis2015(tmp_path)


def test_mask_of_another_size(tmp_path: Path, write_sequence: WriteSequence) -> None:
    folder = write_sequence(tmp_path / "Dataset1", [GOOD] * 2)
    with VideoWriter(folder / "Segmentation.avi", 25) as writer:
        writer.write(np.zeros((48, 64), np.uint8))
        writer.write(np.zeros((48, 64), np.uint8))
    with pytest.raises(DatasetError, match=r"has 64x48 px and the video .* has 128x96"):
        open_endovis2015(tmp_path)


def test_joints_of_a_longer_video(tmp_path: Path, write_sequence: WriteSequence) -> None:
    joints = [entry()] * 8 + [entry(joint("HeadPoint", "tool1", 1, 2))]
    write_sequence(tmp_path / "Dataset1", [GOOD] * 4, joints=joints)
    with pytest.raises(DatasetError, match="annotates frame 8 and the sequence Dataset1 has 4 frames"):
        open_endovis2015(tmp_path)


def test_joints_of_more_instruments_than_pose_files(tmp_path: Path, write_sequence: WriteSequence) -> None:
    joints = [entry(joint("HeadPoint", "tool1", 1, 2), joint("HeadPoint", "tool2", 3, 4))]
    write_sequence(tmp_path / "Dataset1", [GOOD] * 4, joints=joints)
    with pytest.raises(DatasetError, match="annotates the instruments tool1, tool2 and the sequence has 1"):
        open_endovis2015(tmp_path)


# --- parsing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "end"])
def test_poses_with_any_line_ending(tmp_path: Path, ending: str, last: str) -> None:
    lines = ["115 394 0.902134 -0.431455 0.943372 -0.331735 2.7175", "-1 -1 -0.5 0.25 0.125 1 3"]
    (tmp_path / "Pose.txt").write_bytes((ending.join(lines) + (ending if last else "")).encode())
    track = read_poses(tmp_path / "Pose.txt")
    np.testing.assert_array_equal(track.centers, [[115, 394], [np.nan, np.nan]])
    np.testing.assert_array_equal(track.shaft_axes, [[0.902134, -0.431455], [-0.5, 0.25]])
    np.testing.assert_array_equal(track.head_axes, [[0.943372, -0.331735], [0.125, 1]])
    np.testing.assert_array_equal(track.clasper_angles, [2.7175, 3])


def test_masks_snap_to_the_nearest_value() -> None:
    gray = np.arange(256, dtype=np.uint8)
    for value, label in zip(gray, snap_mask(gray), strict=True):
        nearest = min((0, 160, 70), key=lambda known: abs(int(value) - known))
        assert CLASSES[label] == {0: "background", 160: "shaft", 70: "manipulator"}[nearest]


def test_first_of_a_doubled_joint_counts_and_stray_keys_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "test5_labels.json"
    path.write_text(
        json.dumps([entry(joint("HeadPoint", "tool1", 1, 2, occluded=True), joint("HeadPoint", "tool1", 8, 9)), entry()])
    )
    labels = read_joints(path)
    assert labels.frames == ({"tool1": {"head": (1.0, 2.0)}}, None)
    assert (labels.ids, labels.names) == (("tool1",), {"head"})


def labels_of(frames: list[Any], loose: list[Any] | None = None) -> JointLabels:
    empty: list[Any] = [()] * len(frames)
    return JointLabels(Path("test.json"), tuple(frames), tuple(loose or empty))


@pytest.mark.parametrize("tools", [("tool1", "tool2"), ("tool2", "tool1"), ("tool4", "tool3")])
@pytest.mark.parametrize("reference", ["tracked_point", "shaft", "head"])
def test_ids_go_to_the_instrument_they_stay_close_to(tools: tuple[str, str], reference: str) -> None:
    # the instruments cross in frame 1, so that this frame alone would be matched the other way round
    centers = np.array([[[100, 100], [500, 100]], [[300, 100], [310, 100]], [[110, 100], [490, 100]]], float)
    near = [{tools[0]: {reference: (104.0, 101.0)}, tools[1]: {reference: (505.0, 99.0)}}]
    crossed = [{tools[0]: {reference: (312.0, 100.0)}, tools[1]: {reference: (299.0, 100.0)}}]
    points, labelled = assign_joints(labels_of([*near, *crossed, None]), centers)
    index = LANDMARKS.index(reference)
    np.testing.assert_array_equal(points[0, :, index], [[104, 101], [505, 99]])
    np.testing.assert_array_equal(points[1, :, index], [[312, 100], [299, 100]])
    assert labelled[:2, :, index].all()
    assert not labelled[2].any()
    assert labelled.sum() == 4  # joints that this file never names were not looked for
    assert not labelled[:, :, LANDMARKS.index("center")].any()


def test_joint_missing_in_an_annotated_frame_is_absent() -> None:
    frames = [{"tool1": {"head": (1.0, 2.0), "shaft": (3.0, 4.0)}}, {"tool1": {"shaft": (5.0, 6.0)}}]
    points, labelled = assign_joints(labels_of(frames), np.full((2, 1, 2), 3.0))
    head = LANDMARKS.index("head")
    assert labelled[1, 0, head]
    assert np.isnan(points[1, 0, head]).all()


def test_joints_without_id_of_a_single_instrument() -> None:
    points, labelled = assign_joints(labels_of([{}], [(("end", (7.0, 8.0)), ("end", (1.0, 1.0)))]), np.zeros((1, 1, 2)))
    np.testing.assert_array_equal(points[0, 0, LANDMARKS.index("end")], [7, 8])
    assert labelled[0, 0, LANDMARKS.index("end")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_joints_without_id_go_to_the_nearest_instrument(order: tuple[int, int]) -> None:
    frame = {"tool1": {"shaft": (100.0, 100.0)}, "tool2": {"shaft": (500.0, 100.0)}}
    ends = [("end", (20.0, 90.0)), ("end", (620.0, 90.0))]
    centers = np.array([[[90.0, 100.0], [510.0, 100.0]]])
    points, _ = assign_joints(labels_of([frame], [tuple(ends[i] for i in order)]), centers)
    np.testing.assert_array_equal(points[0, :, LANDMARKS.index("end")], [[20, 90], [620, 90]])


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("video", "pose"),
    [
        (
            "Segmentation_Robotic_Training/Training/Dataset1",
            "Tracking_Robotic_Training/Training/Dataset1",
        ),
        ("Segmentation/Dataset1", "Tracking/Dataset1"),
        ("Dataset1", "Dataset1"),
        (".", "."),
    ],
)
def test_layouts(tmp_path: Path, write_sequence: WriteSequence, video: str, pose: str) -> None:
    root = tmp_path / "Dataset1"
    folder = write_sequence(root / video, [GOOD] * 3)
    (root / pose).mkdir(parents=True, exist_ok=True)
    os.replace(folder / "Pose.txt", root / pose / "Pose.txt")
    [sequence] = open_endovis2015(root)
    assert isinstance(sequence, Sequence)
    assert (sequence.name, len(sequence), sequence.size, sequence.fps) == ("Dataset1", 3, (96, 128), 25.0)
    assert [path.name for path in sequence.files] == ["Video.avi", "Segmentation.avi", "Pose.txt"]
    assert next(iter(sequence)).landmarks[0, 0].tolist() == [100, 50]


def test_training_and_test_of_one_name_are_kept_apart(tmp_path: Path, write_sequence: WriteSequence) -> None:
    write_sequence(tmp_path / "Segmentation_Robotic_Training/Training/Dataset1", [GOOD] * 2)
    write_sequence(tmp_path / "Segmentation/Dataset1", [GOOD] * 3)
    write_sequence(tmp_path / "Segmentation/Dataset5", [GOOD] * 4)
    (tmp_path / "train1_labels.json").write_text("[]")
    (tmp_path / "test5_labels.json").write_text("[]")
    found = find_sequences(tmp_path)
    assert list(found) == ["Dataset5", "testing/Dataset1", "training/Dataset1"]
    assert found["training/Dataset1"].joints == tmp_path / "train1_labels.json"
    assert found["Dataset5"].joints == tmp_path / "test5_labels.json"
    assert found["testing/Dataset1"].joints is None
    assert [len(s) for s in open_endovis2015(tmp_path, ["training/Dataset1", "Dataset5"])] == [2, 4]


def test_two_copies_of_one_sequence_are_an_error(tmp_path: Path, write_sequence: WriteSequence) -> None:
    write_sequence(tmp_path / "a/Dataset1", [GOOD] * 2)
    write_sequence(tmp_path / "b/Dataset1", [GOOD] * 2)
    with pytest.raises(DatasetError, match="serve the same sequence"):
        find_sequences(tmp_path)


# --- samples ---------------------------------------------------------------------------------------------------------


def test_samples_carry_image_labels_and_landmarks(tmp_path: Path, write_sequence: WriteSequence) -> None:
    poses = ["60 40 1 0 1 0 5", "-1 -1 1 0 1 0 5", "127.4 95 1 0 1 0 5", "128 40 1 0 1 0 5"]
    joints = [entry(joint("HeadPoint", "tool1", 62, 41)), entry(), entry(), entry()]
    write_sequence(tmp_path / "Dataset1", poses, joints=joints)
    [sequence] = open_endovis2015(tmp_path)
    assert sequence.slots == ("left",)  # the shaft points to the right, so it comes from the left
    samples = list(sequence)
    for index, sample in enumerate(samples):
        assert (sample.frame, sample.stamp_ns, sample.sequence) == (index, index * 40_000_000, "Dataset1")
        assert abs(int(sample.image[48, 64, 0]) - 150) < 6  # red first
        assert abs(int(sample.image[48, 64, 2]) - 10 * index) < 6
        assert sample.label_map is not None
        assert [sample.label_map[40, x] for x in (10, 40, 64, 100)] == [0, 1, 2, 0]
        np.testing.assert_array_equal(sample.landmarks, sequence.all_landmarks[index])
        np.testing.assert_array_equal(sample.labelled, sequence.all_labelled[index])
    center, head = LANDMARKS.index("center"), LANDMARKS.index("head")
    # the third centre lies within the last pixel, the fourth outside the image
    assert [bool(s.visible[0, center]) for s in samples] == [True, False, True, False]
    assert all(s.labelled[0, center] for s in samples)
    assert [bool(s.visible[0, head]) for s in samples] == [True, False, False, False]
    assert [bool(s.labelled[0, head]) for s in samples] == [True, False, False, False]


def test_two_instruments_are_merged_and_the_right_one_lies_on_top(tmp_path: Path) -> None:
    folder = tmp_path / "Dataset5"
    folder.mkdir()
    left, right = np.zeros((96, 128), np.uint8), np.zeros((96, 128), np.uint8)
    left[20:60, 0:80], right[20:60, 60:128] = 160, 70
    for name, pixels in (("Left_Instrument_Segmentation", left), ("Right_Instrument_Segmentation", right), ("Video", left)):
        with VideoWriter(folder / f"{name}.avi", 25, crf=4) as writer:
            writer.write(pixels)
            writer.write(pixels)
    (folder / "Left_Instrument_Pose.txt").write_text("10 40 1 0 1 0 5\n" * 2)
    (folder / "Right_Instrument_Pose.txt").write_text("110 40 -1 0 -1 0 5\n" * 2)
    [sequence] = open_endovis2015(tmp_path)
    assert sequence.slots == ("left", "right")
    sample = next(iter(sequence))
    assert sample.label_map is not None
    assert [sample.label_map[40, x] for x in (30, 70, 100)] == [1, 2, 2]
    assert sample.instances is not None
    assert [sample.instances[y, x] for y, x in ((40, 30), (40, 70), (40, 100), (5, 5))] == [1, 2, 2, 0]
    np.testing.assert_array_equal(sample.landmarks[:, 0], [[10, 40], [110, 40]])


def test_without_poses_nobody_looked(tmp_path: Path, write_sequence: WriteSequence) -> None:
    folder = write_sequence(tmp_path / "Dataset6", [GOOD] * 2)
    (folder / "Pose.txt").unlink()
    [sequence] = open_endovis2015(tmp_path)
    assert not sequence.all_labelled.any()


@pytest.mark.skipif(not REAL, reason="set CSL_TRACKER_ENDOVIS15 to a folder with the real Dataset1..3")
@pytest.mark.parametrize(
    ("name", "frames", "slots", "absent", "joint_frames"),
    [("Dataset1", 370, ("left", "right"), 0, 80), ("Dataset2", 375, ("right",), 0, 76), ("Dataset3", 375, ("right",), 71, 76)],
)
def test_real_sequences(name: str, frames: int, slots: tuple[str, ...], absent: int, joint_frames: int) -> None:
    [sequence] = open_endovis2015(REAL, [name])
    assert (len(sequence), sequence.slots, sequence.size, sequence.fps) == (frames, slots, (576, 720), 25.0)
    landmarks, labelled = sequence.all_landmarks, sequence.all_labelled
    center, tracked, tip = (LANDMARKS.index(n) for n in ("center", "tracked_point", "left_clasper"))
    assert np.isnan(landmarks[:, :, center, 0]).sum() == absent
    assert labelled[:, :, center].all()
    assert labelled[:, :, tip].all(axis=1).sum() == joint_frames
    # ids that were matched to the wrong instrument would put the annotations hundreds of px apart
    assert np.nanmedian(np.linalg.norm(landmarks[:, :, center] - landmarks[:, :, tracked], axis=-1)) < 20
    first = next(iter(sequence))
    assert first.label_map is not None
    shares = np.bincount(first.label_map.ravel(), minlength=3) / first.label_map.size
    assert shares[0] > 0.8
    assert shares[1] > shares[2] > 0.01


@pytest.mark.parametrize(
    ("video", "masks", "poses"),
    [
        ("video.avi", "segmentation.avi", "pose.txt"),
        ("Video.AVI", "Segmentation.AVI", "Pose.TXT"),
        ("VIDEO.AVI", "SEGMENTATION.AVI", "POSE.TXT"),
        ("Video.mp4", "Segmentation.mkv", "Pose.txt"),
    ],
)
def test_names_in_any_case_and_container(
    tmp_path: Path, write_sequence: WriteSequence, video: str, masks: str, poses: str
) -> None:
    folder = write_sequence(tmp_path / "Dataset2", [GOOD] * 2)
    (folder / "Pose.txt").write_bytes(b"\xef\xbb\xbf" + (folder / "Pose.txt").read_bytes())
    for old, new in (("Video.avi", video), ("Segmentation.avi", masks), ("Pose.txt", poses)):
        (folder / old).rename(folder / new)
    for junk in ("._Video.avi", "._Pose.txt", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (folder / junk).write_bytes(b"\0\5\x16\7")
        (tmp_path / "__MACOSX" / "Dataset2").mkdir(parents=True, exist_ok=True)
        (tmp_path / "__MACOSX" / "Dataset2" / junk).write_bytes(b"\0\5\x16\7")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "Dataset2").symlink_to(folder)
    assert [detection.layout for detection in detect_layouts(tmp_path)] == ["endovis2015"]
    [sequence] = open_endovis2015(tmp_path)
    assert (sequence.name, len(sequence)) == ("Dataset2", 2)
    np.testing.assert_array_equal(sequence.all_landmarks[:, 0, 0], [[100, 50]] * 2)
