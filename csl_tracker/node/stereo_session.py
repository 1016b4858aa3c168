"""The stereo node's work without ROS: pair poses, locate instruments in space, count and diagnose."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from csl_tracker.camera import CameraModel
from csl_tracker.errors import CslTrackerError
from csl_tracker.messages.diagnostics import ERROR, OK, WARN
from csl_tracker.messages.poses import read_pose_array, stamp_ns
from csl_tracker.stereo.finder import FinderSettings, FoundInstrument, StereoFinder
from csl_tracker.stereo.pairing import SIDES, StampPairer

INPUT_PATIENCE_S = 3.0
"""Time for discovery before a missing topic is logged."""


@dataclass(frozen=True)
class StereoFindings:
    """Instruments of one pair of pose arrays.

    Attributes:
        left: The left pose array; the results use its header.
        instruments: Instruments with finite poses.
    """

    left: Any
    instruments: tuple[FoundInstrument, ...]


class StereoSession:
    """Finder, pairer, calibrations and counters of one activation."""

    def __init__(self, settings: FinderSettings, tolerance_s: float, warn: Callable[[str, str], None]) -> None:
        """Create the finder.

        Args:
            settings: Settings of the finder.
            tolerance_s: Largest difference of the stamps of a pair, s.
            warn: Logs a rate-limited warning; called with a key and a text.

        Raises:
            ConfigError: The settings contradict each other.
        """
        self._finder = StereoFinder(settings)
        self._pairer: StampPairer[Any] = StampPairer(round(tolerance_s * 1e9))
        self._slots = settings.slots
        self._warn = warn
        self._infos: dict[str, Any] = {}
        self._calibration_problem = "no camera_info yet"
        self._received: Counter[str] = Counter()
        self._published: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._pairs = 0
        self._skew_ns = 0
        self._began_s = time.monotonic()
        self._logged_problem = ""
        self._last: tuple[float, int, Counter[str]] = (time.monotonic(), 0, Counter())

    def take_camera_info(self, side: str, message: Any) -> str:
        """Use a new or changed calibration.

        Returns:
            A description of the rig when it has become complete or has changed; otherwise empty.
        """
        before = self._infos.get(side)
        if before is not None and _calibration(before) == _calibration(message):
            return ""
        self._infos[side] = message
        try:
            camera = CameraModel.from_info(message)
        except CslTrackerError as error:
            self._finder.forget_camera(side)  # the previous calibration is no longer valid
            self._calibration_problem = f"{side} camera: {error}"
            self._warn("calibration", self._calibration_problem)
            return ""
        try:
            self._finder.set_camera(side, camera)
        except CslTrackerError as error:
            self._calibration_problem = str(error)
            self._warn("calibration", self._calibration_problem)
            return ""
        rig = self._finder.rig
        if rig is None:
            self._calibration_problem = f"camera_info of {side} alone"
            return ""
        self._calibration_problem = ""
        return (
            f"cameras of {rig.left.width}x{rig.left.height} px, {rig.geometry.focal[0]:.0f} px focal length,"
            f" {1e3 * rig.geometry.baseline:.2f} mm apart"
        )

    def frame_id(self) -> str:
        """Frame of the left camera from its calibration; empty before the first one."""
        return str(self._infos["left"].header.frame_id) if "left" in self._infos else ""

    def take_poses(self, side: str, message: Any) -> StereoFindings | None:
        """Add a pose array; if it completes a usable pair, locate the instruments in space."""
        self._received[side] += 1
        pair = self._pairer.add(side, stamp_ns(message.header.stamp), message)
        if pair is None:
            return None
        self._pairs += 1
        self._skew_ns = pair.skew_ns
        if self._finder.rig is None:
            self._rejected["no_calibration"] += 1
            self._warn("no_calibration", f"Poses arrive but cannot be used: {self._calibration_problem}.")
            return None
        try:
            findings = self._finder.find(read_pose_array(pair.left), read_pose_array(pair.right))
        except CslTrackerError as error:
            self._rejected["size"] += 1
            self._warn("size", str(error))
            return None
        self._rejected += findings.rejected
        finite = tuple(found for found in findings.instruments if _is_finite(found))
        self._rejected["not_finite"] += len(findings.instruments) - len(finite)
        return StereoFindings(pair.left, finite)

    def count_published(self, slot: str) -> None:
        """Count a published pose."""
        self._published[slot] += 1

    def diagnose(
        self, contested: Sequence[str], explain_silence: Callable[[str], list[str]]
    ) -> tuple[int, str, dict[str, str]]:
        """Level, message and values of the diagnostics, since the previous call.

        Args:
            contested: The node's topics with another publisher.
            explain_silence: Returns why no poses arrive from a side.
        """
        now = time.monotonic()
        since, pairs, received = self._last
        self._last = (now, self._pairs, self._received.copy())
        rates = {side: (self._received[side] - received[side]) / (now - since) for side in SIDES}
        pair_rate = (self._pairs - pairs) / (now - since)
        level, message = OK, "poses are paired"
        if contested:
            level, message = ERROR, f"silent: another publisher on {', '.join(sorted(contested))}"
        elif self._calibration_problem:
            level, message = WARN, f"no calibration: {self._calibration_problem}"
        elif min(rates.values()) == 0:
            level, message = WARN, self._describe_silence([side for side in SIDES if rates[side] == 0], explain_silence, now)
        elif pair_rate == 0:
            level, message = WARN, "poses come from both sides, but none have stamps within the tolerance"
        return level, message, self._values(rates, pair_rate)

    def _describe_silence(self, silent: Sequence[str], explain: Callable[[str], list[str]], now_s: float) -> str:
        reasons = [reason for side in silent for reason in explain(side)]
        message = ". ".join([f"no poses from {' and '.join(silent)}", *reasons]).rstrip(".")
        if reasons and now_s - self._began_s > INPUT_PATIENCE_S and message != self._logged_problem:
            self._logged_problem = message
            self._warn(f"silence: {message}", f"{message[0].upper()}{message[1:]}.")
        return message

    def _values(self, rates: dict[str, float], pair_rate: float) -> dict[str, str]:
        values = {
            **{f"{side} rate (Hz)": f"{rates[side]:.1f}" for side in SIDES},
            "pair rate (Hz)": f"{pair_rate:.1f}",
            "last skew (ms)": f"{self._skew_ns / 1e6:.3f}",
            **{f"published {slot}": str(self._published[slot]) for slot in self._slots},
            **{f"rejected {reason}": str(count) for reason, count in sorted((+self._rejected).items())},
            **{f"dropped {reason}": str(count) for reason, count in sorted((+self._pairer.dropped).items())},
        }
        rig = self._finder.rig
        if rig is not None:
            values["baseline (mm)"] = f"{1e3 * rig.geometry.baseline:.3f}"
        return values


def _is_finite(found: FoundInstrument) -> bool:
    pose = found.pose
    return all(bool(np.isfinite(values).all()) for values in (pose.position, pose.quaternion, pose.covariance))


def _calibration(message: Any) -> tuple[Any, ...]:
    """The fields of a ``CameraInfo`` that define the calibration."""
    return (
        message.width,
        message.height,
        message.distortion_model,
        *(tuple(values) for values in (message.d, message.k, message.r, message.p)),
    )
