"""Compute poses in the requested frame from the results of two trackers, without ROS."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.camera import CameraModel
from csl_tracker.errors import ConfigError
from csl_tracker.results import TrackingResult
from csl_tracker.stereo.hand_eye import HandEye
from csl_tracker.stereo.matching import MatchLimits
from csl_tracker.stereo.orientation import Pose3D, quaternion_of
from csl_tracker.stereo.rig import StereoRig, pose_of


@dataclass(frozen=True)
class FinderSettings:
    """Settings of a finder.

    Attributes:
        slots: Instruments to report, by their slots in the left image.
        position_landmark: Landmark that defines the position of the pose.
        axis_landmarks: Two or more landmarks on the shaft's axis, in order towards the tip.
        already_rectified: Whether the trackers' landmarks are in rectified px.
        camera_frame: Report poses in the left camera's own frame instead of its rectified frame.
        hand_eye: Transform from that frame to an arm's, or None.
        min_confidence: Smallest confidence of an instrument, in both images.
        require_orientation: Skip instruments without a visible axis; otherwise they get the identity rotation with the
            variances of an unknown rotation.
        max_baseline: Largest valid baseline, m.
        limits: Limits for landmarks.
    """

    slots: tuple[str, ...] = ("left", "right")
    position_landmark: str = "head"
    axis_landmarks: tuple[str, ...] = ("center", "shaft")
    already_rectified: bool = False
    camera_frame: bool = False
    hand_eye: HandEye | None = None
    min_confidence: float = 0.3
    require_orientation: bool = True
    max_baseline: float = 0.1
    limits: MatchLimits = field(default_factory=MatchLimits)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: Too few or repeated slots or axis landmarks, or contradictory limits.
        """
        if not self.slots or len(set(self.slots)) != len(self.slots):
            raise ConfigError(f"slots is {list(self.slots)}; name each instrument once, such as [left, right].")
        if len(set(self.axis_landmarks)) < 2 or len(set(self.axis_landmarks)) != len(self.axis_landmarks):
            raise ConfigError(
                f"axis_landmarks is {list(self.axis_landmarks)}; name two or more landmarks of the shaft towards the tip."
            )
        if not 0 < self.limits.min_depth < self.limits.max_depth:
            raise ConfigError(
                f"min_depth is {self.limits.min_depth} m and max_depth {self.limits.max_depth} m; min_depth must be less."
            )


@dataclass(frozen=True)
class FoundInstrument:
    """An instrument in the requested frame.

    Attributes:
        slot: Slot in the left image.
        confidence: Smaller of the confidences in both images.
        pose: Pose.
        names: Triangulated landmarks.
        positions: float64 (n, 3), m.
    """

    slot: str
    confidence: float
    pose: Pose3D
    names: tuple[str, ...]
    positions: FloatArray


@dataclass(frozen=True)
class Findings:
    """Result of a pair of images.

    Attributes:
        instruments: At most one per slot.
        rejected: Counts by reason: those of :class:`csl_tracker.stereo.matching.Matches`, and for instruments ``predicted``,
            ``low_confidence``, ``unknown_slot``, ``repeated_slot``, ``no_position``, ``no_orientation``.
    """

    instruments: tuple[FoundInstrument, ...]
    rejected: Counter[str]


class StereoFinder:
    """Finds instruments in space after both cameras have been set.

    Attributes:
        settings: Settings.
        rig: The cameras; None until both are known and form a rectified pair.
    """

    def __init__(self, settings: FinderSettings) -> None:
        self.settings = settings
        self.rig: StereoRig | None = None
        self._cameras: dict[str, CameraModel] = {}
        self._transforms: list[HandEye] = []

    def set_camera(self, side: str, camera: CameraModel) -> None:
        """Set the calibration of the ``left`` or ``right`` camera.

        Raises:
            ConfigError: The cameras are not a rectified pair; :attr:`rig` stays None.
        """
        self._cameras[side] = camera
        self.rig = None
        if len(self._cameras) < 2:
            return
        self.rig = StereoRig.from_cameras(self._cameras["left"], self._cameras["right"], self.settings.max_baseline)
        self._transforms = []
        if self.settings.camera_frame:
            back = quaternion_of(np.asarray(self.rig.left.r, np.float64).reshape(3, 3).T)
            self._transforms.append(HandEye("", np.zeros(3), back))
        if self.settings.hand_eye is not None:
            self._transforms.append(self.settings.hand_eye)

    def forget_camera(self, side: str) -> None:
        """Remove an invalid calibration; :attr:`rig` is None until a new one is set."""
        self._cameras.pop(side, None)
        self.rig = None

    def find(self, left: TrackingResult, right: TrackingResult) -> Findings:
        """Find the instruments in two images of the same moment.

        Raises:
            ConfigError: An image size differs from its camera's calibration.
        """
        assert self.rig is not None, "both cameras must be set"
        settings = self.settings
        rejected: Counter[str] = Counter()
        measured = [self._measured(result, rejected) for result in (left, right)]
        matches = self.rig.locate(measured[0], measured[1], settings.limits, settings.already_rectified)
        rejected += matches.rejected
        found: dict[str, FoundInstrument] = {}
        for instrument in matches.instruments:
            pose, oriented = pose_of(instrument, settings.position_landmark, settings.axis_landmarks)
            reason = self._objection(instrument.slot, instrument.slot in found, pose, oriented)
            if pose is None or reason:
                rejected[reason] += 1
                continue
            positions = instrument.positions
            for transform in self._transforms:
                pose, positions = transform.apply(pose), transform.apply_points(positions)
            found[instrument.slot] = FoundInstrument(instrument.slot, instrument.confidence, pose, instrument.names, positions)
        return Findings(tuple(found.values()), +rejected)

    def _measured(self, result: TrackingResult, rejected: Counter[str]) -> TrackingResult:
        """Keep instruments that were measured in this image with sufficient confidence."""
        kept = []
        for instrument in result.instruments:
            if instrument.predicted:
                rejected["predicted"] += 1
            elif not (math.isfinite(instrument.confidence) and instrument.confidence >= self.settings.min_confidence):
                rejected["low_confidence"] += 1
            else:
                kept.append(instrument)
        return TrackingResult(tuple(kept), None, result.size, result.processing_time_s)

    def _objection(self, slot: str, repeated: bool, pose: Pose3D | None, oriented: bool) -> str:
        """Why an instrument is rejected; empty if it is accepted."""
        if slot not in self.settings.slots:
            return "unknown_slot"
        if repeated:
            return "repeated_slot"
        if pose is None:
            return "no_position"
        return "no_orientation" if self.settings.require_orientation and not oriented else ""
