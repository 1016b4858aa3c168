"""The fixed transform from the camera to an arm's frame, read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.errors import ConfigError
from csl_tracker.paths import user_path
from csl_tracker.stereo.orientation import Pose3D, multiply, quaternion_of, rotation_matrix
from csl_tracker.yaml_files import read_yaml, spelled

_KEYS = ("parent_frame", "matrix", "translation", "quaternion")
_TOLERANCE = 1e-3
"""Allowed deviation from a rotation in files with few digits; the rotation is then made exact."""


@dataclass(frozen=True)
class HandEye:
    """Pose of the left camera in a parent frame: ``x_parent = R x_camera + t``.

    Attributes:
        parent_frame: Name of the frame, such as an arm's base.
        translation: float64 (3,), m.
        quaternion: float64 (4,), x y z w, unit.
    """

    parent_frame: str
    translation: FloatArray
    quaternion: FloatArray

    def apply(self, pose: Pose3D) -> Pose3D:
        """Transform a pose to the parent frame; the transform is assumed to be exact."""
        rotation = rotation_matrix(self.quaternion)
        both = np.kron(np.eye(2), rotation)
        return Pose3D(
            position=rotation @ pose.position + self.translation,
            quaternion=multiply(self.quaternion, pose.quaternion),
            covariance=both @ pose.covariance @ both.T,
        )

    def apply_points(self, positions: npt.ArrayLike) -> FloatArray:
        """Transform positions (..., 3) to the parent frame."""
        moved: FloatArray = np.asarray(positions, np.float64) @ rotation_matrix(self.quaternion).T + self.translation
        return moved


def load_hand_eye(path: Path | str) -> HandEye:
    """Read a YAML file with ``parent_frame`` and either ``matrix`` (4x4) or ``translation`` (m) and ``quaternion`` (x y z w).

    Raises:
        ConfigError: The file is missing, not YAML, or does not define a rigid transform.
    """
    path = user_path(path)
    data = read_yaml(path, "The hand-eye file")
    if not isinstance(data, Mapping):
        raise ConfigError(f"The hand-eye file {path} holds no keys; give parent_frame and matrix.")
    unknown = sorted(str(key) for key in data if key not in _KEYS)
    if unknown:
        raise ConfigError(f"The hand-eye file {path} has the unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}.")
    parent = data.get("parent_frame")
    if isinstance(parent, int | float) and not isinstance(parent, bool):
        parent = spelled(parent, "parent_frame")
    if not isinstance(parent, str) or not parent.strip():
        raise ConfigError(f"The hand-eye file {path} has the parent_frame {parent!r}; give the name of the arm's base frame.")
    if ("matrix" in data) == ("translation" in data or "quaternion" in data):
        raise ConfigError(f"The hand-eye file {path} needs either matrix, or translation and quaternion; give one of both.")
    if "matrix" in data:
        matrix = _numbers(path, data, "matrix", (4, 4))
        if np.abs(matrix[3] - (0, 0, 0, 1)).max() > _TOLERANCE:
            raise ConfigError(f"The matrix of {path} ends with the row {matrix[3].tolist()}; a rigid transform has 0 0 0 1.")
        return HandEye(parent, matrix[:3, 3].copy(), _quaternion_of(path, matrix[:3, :3]))
    quaternion = _numbers(path, data, "quaternion", (4,))
    length = float(np.linalg.norm(quaternion))
    if abs(length - 1.0) > _TOLERANCE:
        raise ConfigError(f"The quaternion of {path} has the length {length:g}; give a unit quaternion in the order x y z w.")
    return HandEye(parent, _numbers(path, data, "translation", (3,)), quaternion / length)


def _numbers(path: Path, data: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> FloatArray:
    try:
        values = np.array(data.get(key), np.float64)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if values.shape != shape or not np.isfinite(values).all():
        size = "x".join(str(side) for side in shape)
        raise ConfigError(f"The {key} of {path} is {data.get(key)!r}; give {size} finite numbers.")
    return values


def _quaternion_of(path: Path, matrix: FloatArray) -> FloatArray:
    """Quaternion of the rotation nearest to a matrix."""
    u, _, v = np.linalg.svd(matrix)
    rotation = u @ v
    if np.linalg.det(matrix) <= 0 or np.abs(rotation - matrix).max() > _TOLERANCE:
        raise ConfigError(
            f"The matrix of {path} holds no rotation (determinant {np.linalg.det(matrix):.4g}, off by"
            f" {np.abs(rotation - matrix).max():.2g}); its columns must be orthogonal, right-handed and of length 1."
        )
    return quaternion_of(rotation)
