"""A calibrated pair of cameras, from the landmarks of two images to instruments in space."""

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
"""Of one image; what a message holds beyond is not looked at."""


@dataclass(frozen=True)
class StereoRig:
    """Two cameras that were calibrated together.

    Attributes:
        left: Left camera.
        right: Right camera.
        geometry: Of their rectified images.
    """

    left: CameraModel
    right: CameraModel
    geometry: StereoGeometry

    @classmethod
    def from_cameras(cls, left: CameraModel, right: CameraModel, max_baseline: float = 0.1) -> StereoRig:
        """A rig of two models.

        Raises:
            ConfigError: The cameras are no rectified pair; see :meth:`StereoGeometry.from_projections`.
        """
        return cls(left, right, StereoGeometry.from_projections(left.p, right.p, max_baseline))

    def locate(
        self, left: TrackingResult, right: TrackingResult, limits: MatchLimits, already_rectified: bool = False
    ) -> Matches:
        """Find the instruments of two images in space.

        Args:
            left: What the left tracker saw.
            right: What the right tracker saw in the same moment.
            limits: What to believe.
            already_rectified: The landmarks are in rectified px; else they are in px of the cameras' own images.

        Raises:
            ConfigError: An image's size is not that of its camera's calibration.
        """
        views = []
        for side, camera, result in (("left", self.left, left), ("right", self.right, right)):
            if result.size != (camera.height, camera.width):
                raise ConfigError(
                    f"The {side} images have {result.size[1]}x{result.size[0]} px and their camera_info"
                    f" {camera.width}x{camera.height}; calibrate at the size that is tracked, or resize both."
                )
            found = [View.of(instrument) for instrument in result.instruments[:MAX_INSTRUMENTS]]
            views.append(found if already_rectified else [_rectified(camera, view) for view in found])
        return match(self.geometry, views[0], views[1], limits)


def pose_of(instrument: StereoInstrument, position_landmark: str, axis_landmarks: Sequence[str]) -> tuple[Pose3D | None, bool]:
    """The pose of an instrument, in the left camera's rectified frame.

    Args:
        instrument: In space.
        position_landmark: The landmark whose position is the pose's.
        axis_landmarks: Two or more landmarks on the shaft's axis, in the order towards the tip.

    Returns:
        The pose, None where its landmark was not triangulated; and whether two landmarks gave it an orientation.
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
