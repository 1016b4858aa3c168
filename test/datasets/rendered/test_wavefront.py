import numpy as np
import pytest

from csl_tracker.datasets.rendered.wavefront import read_obj
from csl_tracker.errors import DatasetError

SQUARE = """# a square of two materials
v 0 0 0
v 1 0 0
v 1 2 0
v 0 2 0
vn 0 0 1
usemtl steel
f 1//1 2//1 3//1 4//1
usemtl rope
f 1 2 3
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it has no faces"),
        ("v 0 0 0\n", "it has no faces"),
        ("v 0 zero 0\nf 1 1 1\n", "could not convert string to float: 'zero'"),
        ("v 0 0 0\nf 1 2 3\n", "out of bounds"),
        ("v 0 0 0\nf 0 1 1\n", "the corner '0' does not count from 1"),
        ("v 0 0 0\nf -1 1 1\n", "the corner '-1' does not count from 1"),
        ("v 0 0 0\nf a/b/c 1 1\n", "invalid literal for int"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path, text, words):
    path = tmp_path / "tool.obj"
    path.write_text(text)
    with pytest.raises(DatasetError, match=words) as error:
        read_obj(path, np.eye(4), np.ones(3))
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_or_too_large_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "tool.obj"
    with pytest.raises(DatasetError, match="cannot be read"):
        read_obj(path, np.eye(4), np.ones(3))
    path.write_text(SQUARE)
    monkeypatch.setattr("csl_tracker.datasets.rendered.wavefront.MAX_BYTES", 10)
    with pytest.raises(DatasetError, match="more than 10 bytes"):
        read_obj(path, np.eye(4), np.ones(3))


def test_polygons_become_fans_by_material_scaled_and_posed(tmp_path):
    path = tmp_path / "tool.obj"
    path.write_text(SQUARE)
    pose = np.array([[0.0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    meshes = read_obj(path, pose, np.array([2.0, 2.0, 2.0]))
    assert list(meshes) == ["steel", "rope"]
    # (1, 0), scaled to (2, 0), turned to (0, 2), moved to (5, 2).
    np.testing.assert_allclose(meshes["steel"].vertices[1], (5, 2, 0), atol=1e-6)
    assert len(meshes["steel"].vertices) == 6
    np.testing.assert_allclose(meshes["steel"].normals, np.tile([0, 0, 1], (6, 1)), atol=1e-6)
    assert meshes["rope"].normals is None
