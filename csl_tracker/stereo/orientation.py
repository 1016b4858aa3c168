"""Pose of an instrument from landmarks in space: the shaft's axis, and a convention for the unobservable roll.

The z axis of an instrument is the shaft's direction towards the tip. Points on the axis do not determine the roll about it. By
convention the orientation is the smallest rotation from the optical axis to the shaft's direction, and the roll gets the
variance of an unknown angle. The convention is singular only for a shaft that points straight back into the camera, which is
impossible for an instrument.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray

UNKNOWN_ANGLE_VARIANCE = math.pi**2 / 3
"""Variance of an angle with uniform distribution over a full turn, rad^2."""

_ITERATIONS = 8


@dataclass(frozen=True)
class Axis:
    """A directed line through landmarks.

    Attributes:
        direction: float64 (3,), unit, from the first landmark to the last.
        covariance: float64 (3, 3), of the direction; singular along it.
        length: Distance between the first and last landmark, m.
    """

    direction: FloatArray
    covariance: FloatArray
    length: float


@dataclass(frozen=True)
class Pose3D:
    """Position and orientation in a frame.

    Attributes:
        position: float64 (3,), m.
        quaternion: float64 (4,), x y z w, unit, w >= 0.
        covariance: float64 (6, 6), as in ``geometry_msgs/PoseWithCovariance``: x, y, z in m, then small rotations about the
            fixed x, y, z axes of the frame, rad.
    """

    position: FloatArray
    quaternion: FloatArray
    covariance: FloatArray


def fit_axis(positions: npt.ArrayLike, covariances: npt.ArrayLike) -> Axis | None:
    """The maximum-likelihood line through two or more points with covariances.

    Two points define the line. With more points, both ends and the positions of the intermediate points are fitted by least
    squares. Residuals are weighted by the inverse covariance, since depth is much less certain than the other coordinates.

    Args:
        positions: (n, 3), m, in order along the axis.
        covariances: (n, 3, 3), m^2, positive definite.

    Returns:
        The axis, or None if the first and last point coincide.
    """
    points, spreads = np.asarray(positions, np.float64), np.asarray(covariances, np.float64)
    weights = np.linalg.inv(spreads)
    ends: FloatArray = points[[0, -1]].copy()
    spread_of_ends: FloatArray = np.zeros((6, 6))
    spread_of_ends[:3, :3], spread_of_ends[3:, 3:] = spreads[0], spreads[-1]
    for _ in range(_ITERATIONS if len(points) > 2 else 0):
        along = ends[1] - ends[0]
        if not float(along @ along) > 0:
            return None
        information, pull = np.zeros((6, 6)), np.zeros(6)
        for index, (point, weight) in enumerate(zip(points, weights, strict=True)):
            if index in (0, len(points) - 1):
                share, effective = (0.0 if index == 0 else 1.0), weight
            else:
                stiffness = weight @ along
                share = float((point - ends[0]) @ stiffness / (along @ stiffness))
                # The position along the line is free and adds no information.
                effective = weight - np.outer(stiffness, stiffness) / float(along @ stiffness)
            place = np.kron([[1.0 - share, share]], np.eye(3))
            information += place.T @ effective @ place
            pull += place.T @ effective @ point
        ends = np.asarray(np.linalg.solve(information, pull).reshape(2, 3), np.float64)
        spread_of_ends = np.asarray(np.linalg.inv(information), np.float64)
    along = ends[1] - ends[0]
    length = float(np.linalg.norm(along))
    if not length > 0:
        return None
    direction = along / length
    difference = np.concatenate((-np.eye(3), np.eye(3)), axis=1)
    across = (np.eye(3) - np.outer(direction, direction)) / length
    return Axis(direction, across @ difference @ spread_of_ends @ difference.T @ across.T, length)


def make_pose(position: npt.ArrayLike, position_covariance: npt.ArrayLike, axis: Axis | None) -> Pose3D:
    """A pose with the roll of the module's convention.

    Args:
        position: (3,), m.
        position_covariance: (3, 3), m^2.
        axis: The shaft's axis; None gives the identity rotation with the variances of an unknown rotation.

    Returns:
        The pose. Rotation variances are at most :data:`UNKNOWN_ANGLE_VARIANCE`, which is also the roll's. The correlation of
        position and rotation is neglected.
    """
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = position_covariance
    if axis is None:
        covariance[3:, 3:] = UNKNOWN_ANGLE_VARIANCE * np.eye(3)
        return Pose3D(np.asarray(position, np.float64).copy(), np.array([0.0, 0.0, 0.0, 1.0]), covariance)
    # A small rotation theta moves the direction a by theta x a; its component across the axis is a x (theta x a).
    cross = cross_matrix(axis.direction)
    values, vectors = np.linalg.eigh(cross @ axis.covariance @ cross.T)
    values = np.clip(values, 0.0, UNKNOWN_ANGLE_VARIANCE)
    across = np.eye(3) - np.outer(axis.direction, axis.direction)
    spread = across @ (vectors * values) @ vectors.T @ across
    covariance[3:, 3:] = spread + UNKNOWN_ANGLE_VARIANCE * np.outer(axis.direction, axis.direction)
    return Pose3D(np.asarray(position, np.float64).copy(), shortest_rotation(axis.direction), covariance)


def shortest_rotation(direction: npt.ArrayLike) -> FloatArray:
    """The smallest rotation from the z axis to a direction, as a quaternion x y z w.

    Args:
        direction: (3,), unit. For -z, where the rotation is ambiguous, it is the one about x.
    """
    x, y, z = (float(value) for value in np.asarray(direction, np.float64))
    if z < -1.0 + 1e-12:
        return np.array([1.0, 0.0, 0.0, 0.0])
    # Half-way between the identity (0, 0, 0, 1) and twice the rotation (z cross direction, z dot direction).
    quaternion = np.array([-y, x, 0.0, 1.0 + z])
    return np.asarray(quaternion / np.linalg.norm(quaternion), np.float64)


def cross_matrix(vector: npt.ArrayLike) -> FloatArray:
    """(3, 3) matrix with ``cross_matrix(a) @ b == a x b``."""
    x, y, z = np.asarray(vector, np.float64)
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def rotation_matrix(quaternion: npt.ArrayLike) -> FloatArray:
    """(3, 3) rotation of a unit quaternion x y z w."""
    vector, w = np.asarray(quaternion, np.float64)[:3], float(np.asarray(quaternion)[3])
    cross = cross_matrix(vector)
    matrix: FloatArray = np.eye(3) + 2.0 * w * cross + 2.0 * cross @ cross
    return matrix


def multiply(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    """Product of two quaternions x y z w: rotate by ``second``, then by ``first``; w >= 0."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    product = np.append(a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3]), a[3] * b[3] - a[:3] @ b[:3])
    product /= np.linalg.norm(product)
    return product if product[3] >= 0 else -product


def quaternion_of(rotation: npt.ArrayLike) -> FloatArray:
    """Quaternion x y z w, w >= 0, of a (3, 3) rotation."""
    # The eigenvector of the largest eigenvalue avoids case distinctions (Bar-Itzhack 2000).
    (a, b, c), (d, e, f), (g, h, i) = np.asarray(rotation, np.float64)
    symmetric = np.array(
        [
            [a - e - i, b + d, c + g, h - f],
            [b + d, e - a - i, f + h, c - g],
            [c + g, f + h, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    quaternion: FloatArray = np.linalg.eigh(symmetric)[1][:, -1]
    return quaternion if quaternion[3] >= 0 else -quaternion
