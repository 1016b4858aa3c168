"""A calibrated camera pair that locates the instruments of two images in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from csl_tracker.camera import CameraModel
from csl_tracker.errors import ConfigError
from csl_tracker.results import TrackingResult
from csl_tracker.stereo.geometry import StereoGeometry
from csl_tracker.stereo.matching import Matches, MatchLimits, StereoInstrument, View, match
from csl_tracker.stereo.orientation import Pose3D, fit_axis, make_pose

MAX_INSTRUMENTS = 8
"""Largest number of instruments per image; further ones are ignored."""


@dataclass(frozen=True)
class StereoRig:
    """Two cameras that were calibrated together.

    Attributes:
        left: Left camera.
        right: Right camera.
        geometry: Geometry of the rectified images.
    """

    left: CameraModel
    right: CameraModel
    geometry: StereoGeometry

    @classmethod
    def from_cameras(cls, left: CameraModel, right: CameraModel, max_baseline: float = 0.1) -> StereoRig:
        """Combine two camera models.

        Raises:
            ConfigError: The cameras are not a rectified pair; see :meth:`StereoGeometry.from_projections`.
        """
        return cls(left, right, StereoGeometry.from_projections(left.p, right.p, max_baseline))

    def locate(
        self, left: TrackingResult, right: TrackingResult, limits: MatchLimits, already_rectified: bool = False
    ) -> Matches:
        """Locate the instruments of two images in space.

        Args:
            left: Result of the left tracker.
            right: Result of the right tracker for the same moment.
            limits: Limits of the matching.
            already_rectified: Whether landmarks are in rectified px instead of px of the camera images.

        Raises:
            ConfigError: An image size differs from its camera's calibration.
        """
        views = []
        for side, camera, result in (("left", self.left, left), ("right", self.right, right)):
            if result.size != (camera.height, camera.width):
                raise ConfigError(
                    f"The {side} images have {result.size[1]}x{result.size[0]} px and their camera_info"
                    f" {camera.width}x{camera.height}; calibrate at the tracked size, or resize both."
                )
            found = [View.of(instrument) for instrument in result.instruments[:MAX_INSTRUMENTS]]
            views.append(found if already_rectified else [_rectified(camera, view) for view in found])
        return match(self.geometry, views[0], views[1], limits)


def pose_of(instrument: StereoInstrument, position_landmark: str, axis_landmarks: Sequence[str]) -> tuple[Pose3D | None, bool]:
    """The pose of an instrument in the left camera's rectified frame.

    Args:
        instrument: Instrument in space.
        position_landmark: Landmark that defines the position of the pose.
        axis_landmarks: Two or more landmarks on the shaft's axis, in order towards the tip.

    Returns:
        The pose, or None if its landmark was not triangulated; and whether its orientation was measured.
    """
    if position_landmark not in instrument.names:
        return None, False
    index = instrument.names.index(position_landmark)
    positions, covariances = instrument.select(axis_landmarks)
    axis = fit_axis(positions, covariances) if len(positions) >= 2 else None
    return make_pose(instrument.positions[index], instrument.covariances[index], axis), axis is not None


def _rectified(camera: CameraModel, view: View) -> View:
    return replace(
        view,
        points=camera.rectify_points(view.points),
        covariances=camera.rectify_covariances(view.points, view.covariances),
    )
