"""SurgPose in its layout, small; the rectification against points projected by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from csl_tracker.datasets.surgpose import open_surgpose, read_calibration
from csl_tracker.errors import DatasetError
from csl_tracker.stereo.geometry import StereoGeometry
from csl_tracker.video import VideoWriter

SIZE = (48, 64)
TURN = cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0]
SHIFT_MM = (-5.2, 0.05, 0.1)


def calibration(**changes: float) -> str:
    """A ``StereoCalibrationDVRK.ini`` of 64x48 px cameras."""
    common = {"res_x": 64, "res_y": 48, "fc_x": 60.0, "fc_y": 61.0, "cc_x": 31.0, "cc_y": 24.5}
    lens = {"kc_0": -0.1, "kc_1": 0.02, "kc_2": 0.001, "kc_3": -0.002, "kc_4": 0.003}
    pose = {f"R_{i}": float(v) for i, v in enumerate(TURN.ravel())} | {f"T_{i}": v for i, v in enumerate(SHIFT_MM)}
    sections = {"StereoLeft": {**common, **lens}, "StereoRight": {**common, "cc_x": 33.0, **lens, **pose, **changes}}
    return "\n".join(f"[{name}]\n" + "\n".join(f"{k}={v}" for k, v in keys.items()) for name, keys in sections.items())


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "SurgPose" / "000007"
    for side in ("left", "right"):
        path = folder / "regular" / f"{side}_video.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoWriter(path, 30) as writer:
            for index in range(3):
                writer.write(np.full((*SIZE, 3), 50 * index, np.uint8))
    points = {
        0: {number: None if number in (6, 7, 13, 14) else [4 * number, 10.5] for number in range(1, 15)},
        2: {1: [3, 4], 8: None, 9: [63.6, 5]},
    }
    (folder / "keypoints_left.yaml").write_text(yaml.safe_dump(points))
    (folder / "keypoints_right.yaml").write_text("{}")
    (folder / "StereoCalibrationDVRK.ini").write_text(calibration())
    return tmp_path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0: {1: [2, 3]", r"keypoints_left.yaml is not readable YAML: .*line"),
        ("- 1", "hold a list and not a mapping of frames"),
        ("first: {1: [2, 3]}", "have the entry 'first'"),
        ("0: [1, 2]", r"have the entry 0: \[1, 2\]"),
        ("0: {15: [2, 3]}", "Frame 0 of .* has the keypoint 15: .* a number from 1 to 14"),
        ("0: {}\n1: {3: [2]}", r"Frame 1 of .* has the keypoint 3: \[2\]"),
        ("0: {3: [2, .nan]}", "has the keypoint 3"),
        ("0: {3: [2, x]}", "has the keypoint 3"),
        ("4: {3: [2, 3]}", r"go to frame 4, and .*left_video.mp4 has 3 frames"),
    ],
)
def test_keypoints_that_are_broken_are_named(dataset: Path, text: str, said: str) -> None:
    (dataset / "SurgPose/000007/keypoints_left.yaml").write_text(text)
    with pytest.raises(DatasetError, match=said):
        open_surgpose(dataset, ["000007_left"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fc_x=1", "StereoCalibrationDVRK.ini is broken"),
        ("[StereoLeft]\nfc_x=1", "has no fc_y"),
        (calibration(fc_x=-1.0), "is not a valid stereo calibration: camera_info states 64x48 px"),
        (calibration(R_0=3.0), "is not a valid stereo calibration: R is"),
    ],
)
def test_calibrations_that_are_broken_are_named(dataset: Path, text: str, said: str) -> None:
    (dataset / "SurgPose/000007/StereoCalibrationDVRK.ini").write_text(text)
    with pytest.raises(DatasetError, match=said):
        _ = open_surgpose(dataset)[0].camera


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "regular/left_video.mp4").unlink(), "keypoints_left.yaml have no video .*left_video.mp4"),
        (lambda f: [path.unlink() for path in f.glob("*.yaml")], "is not a SurgPose dataset: looked for folders 00000N"),
    ],
)
def test_missing_files_are_named(dataset: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(dataset / "SurgPose/000007")
    with pytest.raises(DatasetError, match=said):
        open_surgpose(dataset)


def test_arms_become_slots_and_null_is_not_labelled(dataset: Path) -> None:
    left, right = open_surgpose(dataset)
    assert (left.name, right.name, left.slots, left.size) == ("000007_left", "000007_right", ("left", "right"), SIZE)
    assert left.landmarks == tuple(f"keypoint_{number}" for number in range(1, 8))
    samples = list(left)
    assert [s.stamp_ns for s in samples] == [0, 33_333_333, 66_666_667]
    np.testing.assert_array_equal(samples[0].landmarks[1, :5, 0], [4, 8, 12, 16, 20])  # PSM1 is the right instrument
    np.testing.assert_array_equal(samples[0].landmarks[0, :5, 0], [32, 36, 40, 44, 48])  # PSM3 the left one
    assert samples[0].labelled.tolist() == [[True] * 5 + [False] * 2] * 2
    assert not samples[1].labelled.any()
    assert samples[2].labelled.tolist() == [[False, True] + [False] * 5, [True] + [False] * 6]
    assert np.isnan(samples[2].landmarks[0, 1]).all()  # labelled, and outside the image
    assert len(left.notes) == 1
    assert (samples[0].label_map, right.all_labelled.any()) == (None, False)


def test_the_calibration_is_that_of_a_rectified_pair_in_metres(dataset: Path) -> None:
    both = read_calibration(dataset / "SurgPose/000007/StereoCalibrationDVRK.ini")
    geometry = StereoGeometry.from_projections(both.left.p, both.right.p)
    assert geometry.baseline == pytest.approx(np.linalg.norm(SHIFT_MM) / 1000)
    position = np.array([0.004, -0.003, 0.09])  # m, in the left camera's frame, by the plain formula of a pinhole with a lens
    pixels = []
    for camera, point in ((both.left, position), (both.right, TURN @ position + np.array(SHIFT_MM) / 1000)):
        x, y = point[:2] / point[2]
        r2, (k1, k2, p1, p2, k3) = x * x + y * y, camera.d
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        bent = (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y)
        pixels.append(camera.rectify_points(np.array([60 * bent[0] + camera.k[0, 2], 61 * bent[1] + camera.k[1, 2]])))
    np.testing.assert_allclose(pixels, geometry.project(both.left.r @ position), atol=1e-3)
    assert [sequence.camera for sequence in open_surgpose(dataset)] != [None, None]
    (dataset / "SurgPose/000007/StereoCalibrationDVRK.ini").unlink()
    assert open_surgpose(dataset)[0].camera is None
