"""Rigid transforms as 4x4 matrices, float64; lengths in m, angles in rad."""

from __future__ import annotations

import numpy as np

from csl_tracker.arrays import FloatArray


def transform(
    rotation: FloatArray | None = None, translation: tuple[float, float, float] | FloatArray = (0, 0, 0)
) -> FloatArray:
    """The 4x4 matrix of a rotation, float64 (3, 3), followed by a translation, m."""
    matrix = np.eye(4)
    if rotation is not None:
        matrix[:3, :3] = rotation
    matrix[:3, 3] = translation
    return matrix


def rotation_about(axis: tuple[float, float, float] | FloatArray, angle: float) -> FloatArray:
    """Rotation matrix, float64 (3, 3), about an axis of any length other than 0 (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross, np.float64)


def rotation_rpy(roll: float, pitch: float, yaw: float) -> FloatArray:
    """Rotation matrix of URDF's ``rpy``: about the fixed axes x, y, z, in this order."""
    return np.asarray(
        rotation_about((0, 0, 1), yaw) @ rotation_about((0, 1, 0), pitch) @ rotation_about((1, 0, 0), roll), np.float64
    )


def moved(matrix: FloatArray, points: FloatArray) -> FloatArray:
    """Transform points, float (n, 3)."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3], np.float64)


def facing(direction: FloatArray, roll: float) -> FloatArray:
    """A rotation whose z axis is a direction (unit vector, float64 (3,)), rotated about it by an angle."""
    helper = np.array([0.0, 1.0, 0.0]) if abs(direction[2]) > 0.9 else np.array([0.0, 0.0, 1.0])
    x = np.cross(helper, direction)
    x /= np.linalg.norm(x)
    return np.asarray(np.column_stack([x, np.cross(direction, x), direction]) @ rotation_about((0, 0, 1), roll), np.float64)
