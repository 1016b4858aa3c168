"""Camera model of ``sensor_msgs/CameraInfo``: rectification of points and covariances, and its inverse.

Integer coordinates are pixel centres (see ``csl_tracker.pixels``), as in OpenCV and in the calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.errors import ConfigError

_PLUMB_BOB, _RATIONAL, _EQUIDISTANT = "plumb_bob", "rational_polynomial", "equidistant"
_COEFFICIENTS = {_PLUMB_BOB: (0, 4, 5), _RATIONAL: (8, 12, 14), _EQUIDISTANT: (4,)}
_ALIASES = {"": _PLUMB_BOB, "fisheye": _EQUIDISTANT}

_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)
_RESIDUAL_PX = 1e-3
"""Maximum round-trip error; beyond it the lens model is not invertible at that point."""

_STEP_PX = 0.05


@dataclass(frozen=True)
class CameraModel:
    """One calibrated camera, the fields of ``sensor_msgs/CameraInfo``.

    Attributes:
        width: Image width, px.
        height: Image height, px.
        k: float64 (3, 3), intrinsics of the raw image.
        d: float64 (n,), distortion coefficients.
        model: ``plumb_bob``, ``rational_polynomial`` or ``equidistant`` (also called ``fisheye``); empty without distortion.
        r: float64 (3, 3), rotation from the camera's frame to the rectified one.
        p: float64 (3, 4), projection from the rectified frame to the rectified image.
    """

    width: int
    height: int
    k: FloatArray
    d: FloatArray
    model: str
    r: FloatArray
    p: FloatArray

    def __post_init__(self) -> None:
        """Validate the calibration.

        Raises:
            ConfigError: The lens model is unknown, or values are missing, not finite or impossible.
        """
        model = _ALIASES.get(self.model, self.model)
        if model not in _COEFFICIENTS:
            raise ConfigError(
                f"The distortion model {self.model!r} of camera_info is not known; known are {', '.join(_COEFFICIENTS)}."
            )
        for name, shape in (("k", (3, 3)), ("r", (3, 3)), ("p", (3, 4))):
            values = np.asarray(getattr(self, name), np.float64)
            if values.size != shape[0] * shape[1] or not np.isfinite(values).all():
                raise ConfigError(f"The matrix {name.upper()} of camera_info is {values.tolist()}; calibrate the camera.")
            object.__setattr__(self, name, values.reshape(shape).copy())
        coefficients = np.asarray(self.d, np.float64).ravel().copy()
        if coefficients.size not in _COEFFICIENTS[model] or not np.isfinite(coefficients).all():
            wanted = " or ".join(str(count) for count in _COEFFICIENTS[model])
            raise ConfigError(
                f"camera_info has {coefficients.size} coefficients D for the model {model}: {coefficients.tolist()}; give"
                f" {wanted} finite numbers."
            )
        object.__setattr__(self, "d", coefficients)
        object.__setattr__(self, "model", model)
        if min(self.width, self.height) <= 0 or min(self.k[0, 0], self.k[1, 1], self.p[0, 0], self.p[1, 1]) <= 0:
            raise ConfigError(
                f"camera_info states {self.width}x{self.height} px with focal lengths of {self.k[0, 0]:g} px (K) and"
                f" {self.p[0, 0]:g} px (P), so the camera is not calibrated; calibrate it."
            )
        if np.abs(self.r @ self.r.T - np.eye(3)).max() > 1e-3:
            raise ConfigError(f"The matrix R of camera_info is not a rotation: {self.r.tolist()}; calibrate the camera again.")

    @classmethod
    def from_info(cls, info: Any) -> CameraModel:
        """Convert a ``sensor_msgs/CameraInfo`` message from ROS or a bag.

        Raises:
            ConfigError: The message is not a valid calibration.
        """
        return cls(
            width=int(info.width),
            height=int(info.height),
            k=np.array(info.k, np.float64),
            d=np.array(info.d, np.float64),
            model=str(info.distortion_model),
            r=np.array(info.r, np.float64),
            p=np.array(info.p, np.float64),
        )

    def rectify_points(self, points: npt.ArrayLike) -> FloatArray:
        """Map raw pixels to pixels of the rectified image (projection P).

        Args:
            points: (..., 2), px.

        Returns:
            float64 (..., 2); NaN for NaN, and where the lens model is not invertible.
        """
        given = np.asarray(points, np.float64)
        flat = given.reshape(-1, 2)
        rectified = np.full(flat.shape, np.nan)
        finite = np.isfinite(flat).all(axis=1)
        if finite.any():
            found = self._rectify(flat[finite])
            with np.errstate(invalid="ignore", over="ignore"):
                invalid = ~(np.abs(self._unrectify(found) - flat[finite]).max(axis=1) < _RESIDUAL_PX)
            found[invalid] = np.nan
            rectified[finite] = found
        return rectified.reshape(given.shape)

    def unrectify_points(self, points: npt.ArrayLike) -> FloatArray:
        """Map pixels of the rectified image to raw pixels: the inverse of :meth:`rectify_points`.

        Args:
            points: (..., 2), px.

        Returns:
            float64 (..., 2); NaN for NaN.
        """
        given = np.asarray(points, np.float64)
        flat = given.reshape(-1, 2)
        raw = np.full(flat.shape, np.nan)
        finite = np.isfinite(flat).all(axis=1)
        if finite.any():
            raw[finite] = self._unrectify(flat[finite])
        return raw.reshape(given.shape)

    def rectify_covariances(self, points: npt.ArrayLike, covariances: npt.ArrayLike) -> FloatArray:
        """Propagate covariances through the rectification to first order: ``J C J^T``.

        Args:
            points: (..., 2), raw px, the points of the covariances.
            covariances: (..., 2, 2), px^2.

        Returns:
            float64 (..., 2, 2); NaN where the point is NaN.
        """
        rectified = self.rectify_points(points)
        # Only the inverse mapping has a closed form: invert its Jacobian (central differences, accurate to 1e-7).
        steps = _STEP_PX * np.eye(2)
        columns = [
            (self.unrectify_points(rectified + e) - self.unrectify_points(rectified - e)) / (2 * _STEP_PX) for e in steps
        ]
        (a, b), (c, d) = np.moveaxis(np.stack(columns, axis=-1), (-2, -1), (0, 1))
        with np.errstate(divide="ignore", invalid="ignore"):  # singular Jacobian, or NaN
            jacobian = np.stack((np.stack((d, -b), -1), np.stack((-c, a), -1)), -2) / (a * d - b * c)[..., None, None]
        return np.asarray(jacobian @ np.asarray(covariances, np.float64) @ np.swapaxes(jacobian, -1, -2), np.float64)

    def _rectify(self, points: FloatArray) -> FloatArray:
        column = points[:, None, :]
        if self.model == _EQUIDISTANT:
            found = cv2.fisheye.undistortPoints(column, self.k, self.d, R=self.r, P=self.p[:, :3], criteria=_CRITERIA)
        else:
            found = cv2.undistortPointsIter(column, self.k, self.d, self.r, self.p[:, :3], _CRITERIA)
        return np.asarray(found, np.float64).reshape(-1, 2)

    def _unrectify(self, points: FloatArray) -> FloatArray:
        normalized = (points - self.p[:2, 2]) / (self.p[0, 0], self.p[1, 1])
        rays = np.column_stack((normalized, np.ones(len(normalized)))) @ self.r  # R^T x, row by row
        zero = np.zeros(3)
        project = cv2.fisheye.projectPoints if self.model == _EQUIDISTANT else cv2.projectPoints
        found, _ = project(rays[:, None, :], zero, zero, self.k, self.d)
        return np.asarray(found, np.float64).reshape(-1, 2)
