"""From what two trackers saw to poses in the frame that was asked for: everything a stereo node does but ROS."""

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
    """What is wanted.

    Attributes:
        slots: Instruments that are reported, by their names in the left image.
        position_landmark: The landmark whose position is the pose's.
        axis_landmarks: Two or more landmarks on the shaft's axis, in the order towards the tip.
        already_rectified: The trackers' landmarks are in rectified px.
        camera_frame: Poses are in the left camera's own frame, as its lens looks; else in its rectified one.
        hand_eye: Where that frame is in an arm's; None leaves it.
        min_confidence: Of an instrument in both images.
        require_orientation: Report no instrument whose axis was not seen; else it gets the frame's own orientation with
            variances that say that nothing is known.
        max_baseline: Longest baseline that is believed, m.
        limits: What to believe of landmarks.
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
        """Reject what cannot work.

        Raises:
            ConfigError: Slots or axis landmarks are too few or stand twice, or the limits contradict each other.
        """
        if not self.slots or len(set(self.slots)) != len(self.slots):
            raise ConfigError(f"slots is {list(self.slots)}; name each instrument once, such as [left, right].")
        if len(set(self.axis_landmarks)) < 2 or len(set(self.axis_landmarks)) != len(self.axis_landmarks):
            raise ConfigError(
                f"axis_landmarks is {list(self.axis_landmarks)}; name two or more landmarks of the shaft towards the tip."
            )
        if not 0 < self.limits.min_depth < self.limits.max_depth:
            raise ConfigError(
                f"min_depth is {self.limits.min_depth} m and max_depth {self.limits.max_depth} m; the first has to be less."
            )


@dataclass(frozen=True)
class FoundInstrument:
    """One instrument in the frame that was asked for.

    Attributes:
        slot: Its name in the left image.
        confidence: The lesser of both images'.
        pose: Where it is.
        names: Landmarks that were triangulated.
        positions: float64 (n, 3), m.
    """

    slot: str
    confidence: float
    pose: Pose3D
    names: tuple[str, ...]
    positions: FloatArray


@dataclass(frozen=True)
class Findings:
    """What one pair of images gave.

    Attributes:
        instruments: At most one per slot.
        rejected: What was not believed, by reason: those of :class:`csl_tracker.stereo.matching.Matches`, and of instruments
            ``predicted``, ``low_confidence``, ``unknown_slot``, ``repeated_slot``, ``no_position``, ``no_orientation``.
    """

    instruments: tuple[FoundInstrument, ...]
    rejected: Counter[str]


class StereoFinder:
    """Finds instruments in space; knows the cameras once both were told.

    Attributes:
        settings: What is wanted.
        rig: The cameras; None until both are known and fit each other.
    """

    def __init__(self, settings: FinderSettings) -> None:
        self.settings = settings
        self.rig: StereoRig | None = None
        self._cameras: dict[str, CameraModel] = {}
        self._transforms: list[HandEye] = []

    def set_camera(self, side: str, camera: CameraModel) -> None:
        """Take the calibration of the ``left`` or ``right`` camera.

        Raises:
            ConfigError: The two cameras are no rectified pair; :attr:`rig` is None then.
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
        """Use no camera of that side until a new calibration comes: the last one holds no more."""
        self._cameras.pop(side, None)
        self.rig = None

    def find(self, left: TrackingResult, right: TrackingResult) -> Findings:
        """Find the instruments of two images of one moment.

        Raises:
            ConfigError: An image's size is not that of its camera's calibration.
        """
        assert self.rig is not None, "both cameras come first"
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
        """The instruments that were measured in this very image, and surely enough."""
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
        """Why an instrument is not reported; empty where it is."""
        if slot not in self.settings.slots:
            return "unknown_slot"
        if repeated:
            return "repeated_slot"
        if pose is None:
            return "no_position"
        return "no_orientation" if self.settings.require_orientation and not oriented else ""
