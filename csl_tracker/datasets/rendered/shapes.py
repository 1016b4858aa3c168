"""Meshes from a few numbers: bodies of rounded cross-section along a line, and tubes along a curve."""

from __future__ import annotations

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.datasets.rendered.tool import Mesh

CORNERS = 28
_CREASE = np.cos(np.radians(38.0))  # sharper edges stay sharp


def loft(axis: int, along: FloatArray, centers: FloatArray, halves: FloatArray, power: float = 2.0, caps: bool = True) -> Mesh:
    """A body along a coordinate axis whose cross-sections are superellipses.

    Args:
        axis: The axis along which the body runs, 0 to 2; the other two, in cyclic order, are the section's u and v.
        along: Positions of the sections, float (n,), m, increasing.
        centers: (u, v) of each section's centre, float (n, 2), m.
        halves: Half the extent of each section in u and v, float (n, 2), m, positive.
        power: Exponent of the superellipse: 2 is an ellipse, more is boxier.
        caps: Close both ends.

    Returns:
        The mesh, its normals outwards.
    """
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    c, s = np.cos(turn), np.sin(turn)
    unit = np.stack([np.sign(c) * np.abs(c) ** (2 / power), np.sign(s) * np.abs(s) ** (2 / power)], axis=1)
    rings = np.empty((len(along), CORNERS, 3))
    rings[:, :, axis] = np.asarray(along)[:, None]
    rings[:, :, [(axis + 1) % 3, (axis + 2) % 3]] = np.asarray(centers)[:, None] + unit[None] * np.asarray(halves)[:, None]
    return _closed(rings, caps)


def lathe(along: FloatArray, radius: FloatArray) -> Mesh:
    """A body of revolution about the z axis, closed at both ends.

    Args:
        along: Positions of the circles, float (n,), m, increasing.
        radius: Their radii, float (n,), m.
    """
    radius = np.asarray(radius, float)
    return loft(2, along, np.zeros((len(radius), 2)), np.stack([radius, radius], axis=1))


def tube(curve: FloatArray, radius: FloatArray | float, flat: float = 1.0) -> Mesh:
    """A tube along a curve, closed at both ends.

    Args:
        curve: Points, float (n, 3), m, each apart from the next.
        radius: Radius, or one for each point, m.
        flat: Factor on the extent across the plane of the curve's first bend.
    """
    curve = np.asarray(curve, float)
    tangents = np.gradient(curve, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    helper = np.array([0.0, 0.0, 1.0]) if abs(tangents[0][2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    u = np.cross(helper, tangents[0])
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radii = np.broadcast_to(np.asarray(radius, float), len(curve))
    rings = np.empty((len(curve), CORNERS, 3))
    for k, tangent in enumerate(tangents):
        u = u - tangent * (u @ tangent)  # parallel transport
        u /= np.linalg.norm(u)
        v = np.cross(tangent, u)
        rings[k] = curve[k] + radii[k] * (np.cos(turn)[:, None] * u + flat * np.sin(turn)[:, None] * v)
    return _closed(rings, True)


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one."""
    normals = [mesh.normals for mesh in meshes if mesh.normals is not None]
    if len(normals) != len(meshes):
        raise ValueError("some meshes have normals, and some have none")
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(normals))


def _closed(rings: FloatArray, caps: bool) -> Mesh:
    a, b = rings[:-1], rings[1:]
    a1, b1 = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    triangles = [np.stack([a, a1, b1], axis=2).reshape(-1, 3, 3), np.stack([a, b1, b], axis=2).reshape(-1, 3, 3)]
    if caps:
        for ring, order in ((rings[0], (0, 2, 1)), (rings[-1], (0, 1, 2))):
            center = np.broadcast_to(ring.mean(axis=0), ring.shape)
            triangles.append(np.stack([center, ring, np.roll(ring, -1, axis=0)], axis=1)[:, order])
    return _with_normals(np.concatenate(triangles))


def _with_normals(triangles: FloatArray) -> Mesh:
    """Smooth the normals over edges that are blunter than the crease angle; triangles without an area are dropped."""
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    area = np.linalg.norm(normal, axis=1)
    kept = area > 1e-16
    triangles, normal, area = triangles[kept], normal[kept], area[kept]
    unit = normal / area[:, None]
    corners = triangles.reshape(-1, 3)
    _, where = np.unique(np.rint(corners * 1e8).astype(np.int64), axis=0, return_inverse=True)
    where = where.reshape(-1)
    face = np.repeat(np.arange(len(triangles)), 3)
    order = np.argsort(where, kind="stable")
    starts = np.flatnonzero(np.diff(where[order], prepend=-1))
    smooth = np.empty_like(corners)
    for group in np.split(order, starts[1:]):
        faces = face[group]
        near = unit[faces] @ unit[faces].T > _CREASE
        smooth[group] = near @ normal[faces]
    length = np.linalg.norm(smooth, axis=1, keepdims=True)
    return Mesh(corners.astype(np.float32), (smooth / np.maximum(length, 1e-20)).astype(np.float32))
