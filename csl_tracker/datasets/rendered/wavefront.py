"""Triangles of Wavefront OBJ files, by material."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.rendered.tool import Mesh
from csl_tracker.errors import DatasetError

MAX_BYTES = 64 * 2**20


def read_obj(path: Path, matrix: FloatArray, scale: FloatArray) -> dict[str, Mesh]:
    """Read the triangles of a file; polygons are split into fans.

    Args:
        path: The file.
        matrix: Pose of the mesh, float64 (4, 4), m.
        scale: Factors on the file's x, y, z, positive; normals are kept, as for equal factors.

    Returns:
        A mesh for each material, in the file's order; the material without a name is empty.

    Raises:
        DatasetError: The file cannot be read, is too large, or has a line that is no number or names a missing vertex.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"The mesh {path} has more than {MAX_BYTES} bytes; give a smaller one.")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DatasetError(f"The mesh {path} cannot be read ({error.strerror}); is the model complete?") from error
    try:
        return _parse(lines, matrix, scale)
    except (ValueError, IndexError) as error:
        raise DatasetError(f"The mesh {path} is not a readable OBJ file: {error}.") from error


def _parse(lines: list[str], matrix: FloatArray, scale: FloatArray) -> dict[str, Mesh]:
    points: list[list[float]] = []
    normals: list[list[float]] = []
    corners: dict[str, list[tuple[int, int]]] = {}
    material = ""
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "v":
            points.append([float(word) for word in rest.split()[:3]])
        elif kind == "vn":
            normals.append([float(word) for word in rest.split()[:3]])
        elif kind == "usemtl":
            material = rest.strip()
        elif kind == "f":
            polygon = [_corner(word) for word in rest.split()]
            fan = corners.setdefault(material, [])
            for second, third in pairwise(polygon[1:]):
                fan += [polygon[0], second, third]
    if not corners:
        raise ValueError("it has no faces")
    vertices = np.array(points, np.float64) * scale @ matrix[:3, :3].T + matrix[:3, 3]
    turned = np.array(normals, np.float64).reshape(-1, 3) @ matrix[:3, :3].T
    return {name: _mesh(np.array(fan), vertices, turned) for name, fan in corners.items()}


def _corner(word: str) -> tuple[int, int]:
    """Indices, from 0, of the vertex and the normal of one corner; -1 without a normal."""
    numbers = word.split("/")
    vertex = int(numbers[0])
    normal = int(numbers[2]) if len(numbers) > 2 and numbers[2] else 0
    if vertex < 1 or normal < 0:
        raise ValueError(f"the corner {word!r} does not count from 1")
    return vertex - 1, normal - 1


def _mesh(corners: np.ndarray[tuple[int, ...], np.dtype[np.int64]], vertices: FloatArray, normals: FloatArray) -> Mesh:
    smooth = bool((corners[:, 1] >= 0).all())
    return Mesh(
        vertices[corners[:, 0]].astype(np.float32),
        normals[corners[:, 1]].astype(np.float32) if smooth else None,
    )
