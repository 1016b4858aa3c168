from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from csl_tracker.errors import ConfigError
from csl_tracker.stereo.hand_eye import load_hand_eye
from csl_tracker.stereo.orientation import Pose3D, rotation_matrix

ROTATION = Rotation.from_euler("xyz", [20, -35, 130], degrees=True)
SHIFT = np.array([0.1, -0.2, 0.05])


def rows(rotation=None, last=(0, 0, 0, 1)):
    matrix = np.eye(4)
    matrix[:3, :3] = ROTATION.as_matrix() if rotation is None else rotation
    matrix[:3, 3] = SHIFT
    matrix[3] = last
    return [[float(f"{value:.6f}") for value in row] for row in matrix]


QUATERNION = [float(f"{value:.5f}") for value in ROTATION.as_quat()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("\x00", "not readable YAML"),
        ("{", "not readable YAML"),
        ("[1, 2]", "holds no keys"),
        ("parent_frame: a\nmatrlx: 1", "unknown key 'matrlx'"),
        ("matrix: [[1]]", "parent_frame None"),
        ("parent_frame: true\nmatrix: [[1]]", "parent_frame True"),
        ("parent_frame: a", "either matrix"),
        (f"parent_frame: a\nmatrix: {rows()}\nquaternion: [0, 0, 0, 1]", "either matrix"),
        ("parent_frame: a\nmatrix: [[1, 0], [0, 1]]", "4x4 finite numbers"),
        ("parent_frame: a\nmatrix: one", "4x4 finite numbers"),
        (f"parent_frame: a\nmatrix: {rows(last=(0, 0, 0.5, 1))}", "row .0.0, 0.0, 0.5"),
        (f"parent_frame: a\nmatrix: {rows(1.2 * np.eye(3))}", "no rotation"),
        (f"parent_frame: a\nmatrix: {rows(np.diag([1, 1, -1]))}", "no rotation .determinant -1"),
        ("parent_frame: a\ntranslation: [0, 0, 0]\nquaternion: [0, 0, 0, 2]", "length 2"),
        ("parent_frame: a\ntranslation: [0, 0]\nquaternion: [0, 0, 0, 1]", "3 finite numbers"),
        ("parent_frame: a\ntranslation: [0, 0, .nan]\nquaternion: [0, 0, 0, 1]", "3 finite numbers"),
        ("parent_frame: a\nquaternion: [0, 0, 0, 1]", "translation of .* is None"),
    ],
)
def test_a_file_without_a_rigid_transform_is_refused_by_name(tmp_path, text, words):
    path = tmp_path / "hand_eye.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_hand_eye(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"parent_frame: PSM1_base\nmatrix: {rows()}",
        f"parent_frame: PSM1_base\ntranslation: {SHIFT.tolist()}\nquaternion: {QUATERNION}",
    ],
)
def test_poses_go_into_the_parent_frame(tmp_path, text):
    path = tmp_path / "hand_eye.yaml"
    path.write_text(text)
    transform = load_hand_eye(path)
    assert transform.parent_frame == "PSM1_base"
    inner = Rotation.from_euler("xyz", [5, 60, -10], degrees=True)
    rng = np.random.default_rng(1)
    root = rng.normal(size=(6, 6))
    pose = Pose3D(np.array([0.01, 0.02, 0.1]), inner.as_quat(), root @ root.T)
    moved = transform.apply(pose)
    np.testing.assert_allclose(moved.position, ROTATION.apply(pose.position) + SHIFT, atol=1e-5)
    np.testing.assert_allclose(transform.apply_points([pose.position]), [moved.position], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix(moved.quaternion), (ROTATION * inner).as_matrix(), atol=1e-4)
    both = np.kron(np.eye(2), ROTATION.as_matrix())
    np.testing.assert_allclose(moved.covariance, both @ pose.covariance @ both.T, atol=1e-3)
