"""Triangulation of rectified points, with covariances.

All positions are in the left camera's *rectified* optical frame, as in ROS's ``stereo_image_proc``: x to the right, y down, z
forward, metres, origin in the left camera's centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.errors import ConfigError

_SAME_ROWS_PX = 0.5
"""Largest row or focal-length difference of two projections that still count as rectified together."""


@dataclass(frozen=True)
class StereoGeometry:
    """A rectified pair of pinhole cameras.

    Attributes:
        focal: Focal lengths (x, y) of the rectified images, px.
        left_center: Principal point (x, y) of the left rectified image, px.
        right_center: Principal point of the right one; only x may differ.
        baseline: Distance of the right camera from the left one along x, m.
    """

    focal: tuple[float, float]
    left_center: tuple[float, float]
    right_center: tuple[float, float]
    baseline: float

    @classmethod
    def from_projections(cls, left: npt.ArrayLike, right: npt.ArrayLike, max_baseline: float = 0.1) -> StereoGeometry:
        """Read the projection matrices of two ``sensor_msgs/CameraInfo``: ``P[0, 3] = -f_x * baseline`` for the right one.

        Args:
            left: (3, 4), of the left camera.
            right: (3, 4), of the right camera.
            max_baseline: A longer baseline indicates a calibration in mm, m.

        Raises:
            ConfigError: The matrices do not form a rectified pair.
        """
        p, q = np.asarray(left, np.float64).reshape(3, 4), np.asarray(right, np.float64).reshape(3, 4)
        if not (np.isfinite(p).all() and np.isfinite(q).all()) or min(p[0, 0], p[1, 1], q[0, 0], q[1, 1]) <= 0:
            raise ConfigError(
                f"The projection matrices P have focal lengths of {p[0, 0]:g} and {q[0, 0]:g} px: a camera is not"
                " calibrated; calibrate both together (ros2 run camera_calibration cameracalibrator, stereo)."
            )
        difference = max(abs(p[0, 0] - q[0, 0]), abs(p[1, 1] - q[1, 1]), abs(p[1, 2] - q[1, 2]))
        if difference > _SAME_ROWS_PX or abs(p[1, 3]) > 1e-9 or abs(q[1, 3]) > 1e-9:
            raise ConfigError(
                f"The projection matrices P of left and right camera differ by {difference:.3g} px in focal length or row:"
                " they were not rectified together; calibrate both as a stereo pair."
            )
        baseline = float(p[0, 3] / p[0, 0] - q[0, 3] / q[0, 0])
        if baseline <= 0:
            raise ConfigError(
                f"The baseline is {baseline:g} m (P[0,3] is {p[0, 3]:g} left and {q[0, 3]:g} right): left and right are"
                " swapped, or each camera was calibrated alone; swap the topics or calibrate as a stereo pair."
            )
        if baseline > max_baseline:
            raise ConfigError(
                f"The baseline is {baseline:g} m, more than {max_baseline:g} m; P[0,3] must be in px m: was the calibration"
                " made in mm?"
            )
        # Positions are relative to the left camera's centre even if its P[0,3] is not zero.
        return cls(
            focal=(float((p[0, 0] + q[0, 0]) / 2), float((p[1, 1] + q[1, 1]) / 2)),
            left_center=(float(p[0, 2]), float(p[1, 2])),
            right_center=(float(q[0, 2]), float(q[1, 2])),
            baseline=baseline,
        )

    def project(self, positions: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Project positions in the left camera's rectified frame.

        Args:
            positions: (..., 3), m, in front of the cameras.

        Returns:
            Points in the left and right rectified image, float64 (..., 2), px.
        """
        x, y, z = np.moveaxis(np.asarray(positions, np.float64), -1, 0)
        row = self.focal[1] * y / z
        left = np.stack((self.focal[0] * x / z + self.left_center[0], row + self.left_center[1]), axis=-1)
        right = np.stack((self.focal[0] * (x - self.baseline) / z + self.right_center[0], row + self.right_center[1]), axis=-1)
        return left, right

    def disparity_px(self, depth: float) -> float:
        """Disparity of a depth (m), px, for equal principal points."""
        return self.focal[0] * self.baseline / depth if depth > 0 else math.inf

    def depth_sigma(self, depth: float, sigma_px: float) -> float:
        """Standard deviation of a depth, m: ``z^2 / (f b) * sqrt(2) * sigma``.

        The first-order formula for independent column errors of the same size in both images.

        Args:
            depth: m.
            sigma_px: Standard deviation of one coordinate in one rectified image, px.
        """
        return depth**2 / (self.focal[0] * self.baseline) * math.sqrt(2.0) * sigma_px


@dataclass(frozen=True)
class Triangulation:
    """Triangulation of n points.

    Attributes:
        positions: float64 (n, 3), m, in the left camera's rectified frame; meaningless (but finite) for disparities that are
            not positive; NaN for NaN points.
        covariances: float64 (n, 3, 3), m^2.
        disparities: float64 (n,), px, positive in front of the cameras.
        epipolar_px: float64 (n,): row in the left image minus row in the right one, px.
        epipolar_chi2: float64 (n,): its square over its variance; chi-squared with one degree of freedom if the covariances
            are correct.
    """

    positions: FloatArray
    covariances: FloatArray
    disparities: FloatArray
    epipolar_px: FloatArray
    epipolar_chi2: FloatArray


def triangulate(
    geometry: StereoGeometry,
    left: npt.ArrayLike,
    right: npt.ArrayLike,
    left_covariances: npt.ArrayLike,
    right_covariances: npt.ArrayLike,
) -> Triangulation:
    """Maximum-likelihood positions of points measured in both rectified images.

    The four measured coordinates (x, y left, x, y right) have three degrees of freedom because both rows are equal in rectified
    images. Conditioning the measurement on equal rows is the closed-form maximum of the likelihood for Gaussian errors (m - C a
    (a^T C a)^-1 a^T m, a = (0, 1, 0, -1)). The Jacobian of ``z = f b / d``, ``x = (x_l - c) z / f`` propagates its covariance.
    The errors of both images are assumed to be independent.

    Args:
        geometry: The cameras.
        left: (n, 2), rectified px.
        right: (n, 2), rectified px.
        left_covariances: (n, 2, 2), px^2; the sum of both row variances must be positive.
        right_covariances: (n, 2, 2), px^2.

    Returns:
        Positions and quality measures; NaN for NaN points.
    """
    a, b = np.asarray(left, np.float64).reshape(-1, 2), np.asarray(right, np.float64).reshape(-1, 2)
    count = len(a)
    covariance = np.zeros((count, 4, 4))
    covariance[:, :2, :2] = left_covariances
    covariance[:, 2:, 2:] = right_covariances
    measured = np.concatenate((a - geometry.left_center, b - geometry.right_center), axis=1)
    row_gap = measured[:, 1] - measured[:, 3]
    towards = covariance[:, :, 1] - covariance[:, :, 3]
    variance = towards[:, 1] - towards[:, 3]
    best = measured - towards * (row_gap / variance)[:, None]
    covariance = covariance - towards[:, :, None] * towards[:, None, :] / variance[:, None, None]
    x, y, disparity = best[:, 0], best[:, 1], best[:, 0] - best[:, 2]
    # Zero disparity is a point at infinity, which the caller's disparity limits reject.
    safe = np.where(np.abs(disparity) < 1e-9, 1e-9, disparity)
    fx, fy = geometry.focal
    z = fx * geometry.baseline / safe
    positions = np.stack((x * z / fx, y * z / fy, z), axis=-1)
    jacobian = np.zeros((count, 3, 4))
    jacobian[:, :, 0] = -positions / safe[:, None]
    jacobian[:, :, 2] = positions / safe[:, None]
    jacobian[:, 0, 0] += z / fx
    jacobian[:, 1, 1] = z / fy
    spread = jacobian @ covariance @ jacobian.transpose(0, 2, 1)
    return Triangulation(
        positions=positions,
        covariances=0.5 * (spread + spread.transpose(0, 2, 1)),
        disparities=disparity,
        epipolar_px=row_gap,
        epipolar_chi2=row_gap**2 / variance,
    )
