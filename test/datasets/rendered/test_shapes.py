import numpy as np
import pytest

from csl_tracker.datasets.rendered.shapes import joined, lathe, loft, tube
from csl_tracker.datasets.rendered.tool import Mesh


def volume(mesh: Mesh) -> float:
    """Signed volume; positive if the triangles face outwards."""
    a, b, c = np.moveaxis(mesh.vertices.astype(float).reshape(-1, 3, 3), 1, 0)
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


MESHES = {
    "cylinder": (lathe(np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.5, 0.5])), np.pi * 0.25 * 2),
    "cone": (lathe(np.array([0.0, 3.0]), np.array([1.0, 1e-6])), np.pi),
    "box along x": (loft(0, np.array([0.0, 1.0]), np.zeros((2, 2)), np.ones((2, 2)), power=200.0), 4.0),
    "oblong along y": (loft(1, np.array([0.0, 2.0]), np.zeros((2, 2)), np.full((2, 2), (0.5, 1.0))), np.pi * 0.5 * 2),
    "straight tube": (tube(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), 0.5), np.pi * 0.25 * 2),
}


@pytest.mark.parametrize("name", MESHES)
def test_a_body_is_closed_faces_outwards_and_has_its_volume(name):
    mesh, expected = MESHES[name]
    assert volume(mesh) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("name", MESHES)
def test_normals_have_unit_length_and_agree_with_their_triangle(name):
    mesh, _ = MESHES[name]
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-5)
    corners = mesh.vertices.astype(float).reshape(-1, 3, 3)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert (np.einsum("ij,ikj->ik", flat, mesh.normals.reshape(-1, 3, 3)) > 0.7).all()


def test_the_normals_of_a_round_wall_are_smooth_and_those_of_its_rim_are_not():
    mesh = lathe(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    wall = np.abs(mesh.normals[:, 2]) < 0.5
    np.testing.assert_allclose(mesh.normals[wall][:, 2], 0, atol=1e-5)
    outwards = mesh.vertices[wall][:, :2] / np.linalg.norm(mesh.vertices[wall][:, :2], axis=1, keepdims=True)
    assert (np.einsum("ij,ij->i", outwards, mesh.normals[wall][:, :2]) > 0.99).all()
    np.testing.assert_allclose(np.abs(mesh.normals[~wall][:, 2]), 1, atol=1e-5)


def test_a_tube_keeps_its_radius_around_a_bend():
    turn = np.linspace(0, np.pi / 2, 30)
    curve = np.stack([np.cos(turn), np.sin(turn), np.zeros(30)], axis=1)
    mesh = tube(curve, 0.1)
    distance = np.linalg.norm(mesh.vertices[:, None] - curve[None], axis=-1).min(axis=1)
    assert distance.max() == pytest.approx(0.1, abs=0.003)


def test_meshes_with_and_without_normals_do_not_join():
    flat = Mesh(np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match="some have none"):
        joined(flat, lathe(np.array([0.0, 1.0]), np.ones(2)))
