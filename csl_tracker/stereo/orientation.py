"""From landmarks in space to the pose of an instrument: its shaft's axis, and a rule for the roll that nobody can see.

Orientation of an instrument: its z axis is the shaft's direction towards the tip. The roll about the shaft cannot be seen in a
few points on its axis; it is set by a rule, the smallest rotation that takes the optical axis to the shaft's direction, and its
variance is that of an angle of which nothing is known. The rule has one singular direction, a shaft that points straight back
into the camera, which an instrument cannot have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray

UNKNOWN_ANGLE_VARIANCE = math.pi**2 / 3
"""Variance of an angle that is uniform over a full turn, rad^2."""

_ITERATIONS = 8


@dataclass(frozen=True)
class Axis:
    """A directed straight line through landmarks.

    Attributes:
        direction: float64 (3,), unit, from the first landmark to the last.
        covariance: float64 (3, 3), of the direction; singular along it.
        length: Between the first and the last landmark, m.
    """

    direction: FloatArray
    covariance: FloatArray
    length: float


@dataclass(frozen=True)
class Pose3D:
    """Position and orientation in some frame.

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
    """The most likely straight line through two or more points of known covariance.

    With two points it is the line through them. With more, both ends and the places of the points between them are fitted by
    least squares, each residual weighted by the inverse of its point's covariance: depth is far less certain than the rest.

    Args:
        positions: (n, 3), m, in the order in which they lie along the axis.
        covariances: (n, 3, 3), m^2, positive definite.

    Returns:
        The axis, or None where first and last point are one.
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
                # Where the point lies along the line is free, and says nothing.
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
    """A pose with the roll set by the rule above.

    Args:
        position: (3,), m.
        position_covariance: (3, 3), m^2.
        axis: Of the shaft; None leaves the frame's own orientation, with variances that say that nothing is known.

    Returns:
        The pose. Rotation variances are never larger than :data:`UNKNOWN_ANGLE_VARIANCE`, and the roll's is just that. The
        correlation of position and rotation is left out.
    """
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = position_covariance
    if axis is None:
        covariance[3:, 3:] = UNKNOWN_ANGLE_VARIANCE * np.eye(3)
        return Pose3D(np.asarray(position, np.float64).copy(), np.array([0.0, 0.0, 0.0, 1.0]), covariance)
    # A small rotation theta moves the direction a by theta x a; its part across the axis is a x (theta x a).
    cross = cross_matrix(axis.direction)
    values, vectors = np.linalg.eigh(cross @ axis.covariance @ cross.T)
    values = np.clip(values, 0.0, UNKNOWN_ANGLE_VARIANCE)
    across = np.eye(3) - np.outer(axis.direction, axis.direction)
    spread = across @ (vectors * values) @ vectors.T @ across
    covariance[3:, 3:] = spread + UNKNOWN_ANGLE_VARIANCE * np.outer(axis.direction, axis.direction)
    return Pose3D(np.asarray(position, np.float64).copy(), shortest_rotation(axis.direction), covariance)


def shortest_rotation(direction: npt.ArrayLike) -> FloatArray:
    """The smallest rotation that takes the z axis to a direction, as a quaternion x y z w.

    Args:
        direction: (3,), unit. Straight back along z, where many rotations are smallest, it is the one about x.
    """
    x, y, z = (float(value) for value in np.asarray(direction, np.float64))
    if z < -1.0 + 1e-12:
        return np.array([1.0, 0.0, 0.0, 0.0])
    # Half-way between no rotation (0, 0, 0, 1) and twice the angle (z cross direction, z dot direction).
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
    """Product of two quaternions x y z w: the rotation ``second``, then ``first``; w >= 0."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    product = np.append(a[3] * b[:3] + b[3] * a[:3] + np.cross(a[:3], b[:3]), a[3] * b[3] - a[:3] @ b[:3])
    product /= np.linalg.norm(product)
    return product if product[3] >= 0 else -product


def quaternion_of(rotation: npt.ArrayLike) -> FloatArray:
    """Quaternion x y z w, w >= 0, of a (3, 3) rotation."""
    # The eigenvector of the largest eigenvalue needs no case distinctions (Bar-Itzhack 2000).
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
