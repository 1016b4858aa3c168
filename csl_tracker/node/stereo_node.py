"""``stereo_node``: poses of two trackers in, positions in metres out.

    ros2 run csl_tracker stereo_node --ros-args -r left/poses:=/left/tracker_node/poses -r right/poses:=...

(``ros2 launch csl_tracker dvrk_stereo.launch.py`` names all of its topics.)

Subscribes ``left/poses`` and ``right/poses`` (InstrumentPoseArray), ``left/camera_info`` and ``right/camera_info``. Publishes,
with the stamp of the left image,

- ``~/SLOT/measured_cp`` (PoseStamped) and ``~/SLOT/measured_cp_cov`` (PoseWithCovarianceStamped) for each slot, whenever that
  instrument was found in both images; nothing where it was not;
- ``~/markers`` (MarkerArray) while someone subscribes;
- ``/diagnostics``.

It is the only publisher of its topics: it does not start where there is another one, and falls silent where one comes later.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything that takes time, or may be missing
    import sys

    from csl_tracker.node.start import start

    sys.exit(start("stereo_node"))

import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from csl_tracker.camera import CameraModel
from csl_tracker.errors import ConfigError, CslTrackerError
from csl_tracker.messages import topics
from csl_tracker.messages.poses import read_pose_array, stamp_ns
from csl_tracker.node.given import take_given
from csl_tracker.node.inputs import explain_topic
from csl_tracker.node.qos import CAMERA_INFO_QOS, poses_qos
from csl_tracker.node.running import run, spin
from csl_tracker.node.stereo_messages import make_markers, make_measured_cp, make_measured_cp_cov
from csl_tracker.node.stereo_parameters import CHOICES, PARAMETERS
from csl_tracker.node.timing import heartbeat_s
from csl_tracker.stereo.finder import FinderSettings, FoundInstrument, StereoFinder
from csl_tracker.stereo.hand_eye import load_hand_eye
from csl_tracker.stereo.matching import MatchLimits
from csl_tracker.stereo.pairing import SIDES, StampPairer
from csl_tracker_msgs.msg import InstrumentPoseArray

NAME = "stereo_node"

WARNING_PERIOD_S = 5.0
DIAGNOSTICS_PERIOD_S = 1.0
NAME_TIMEOUT_S = 2.0
INPUT_PATIENCE_S = 3.0
"""Discovery may take so long: before that no topic is said to be missing in the log."""
POSES_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
MARKER_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)

COMMAND = re.compile(r"(servo|move|interpolate)_\w+")
"""Names of CRTK's motion commands, which no perception may publish."""

SLOT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class StereoNode(Node):  # type: ignore[misc]  # rclpy brings no types on some distributions
    """The shell around a :class:`csl_tracker.stereo.finder.StereoFinder`."""

    def __init__(self, arguments: Sequence[str] | None = None, **node_arguments: Any) -> None:
        """Declare the parameters.

        Args:
            arguments: Command line of the process; None takes the process's own.
            node_arguments: See ``rclpy.node.Node``.

        Raises:
            ParameterException: A parameter was given with another type, or out of its range.
            ConfigError: A parameter is unknown.
        """
        super().__init__(NAME, **node_arguments)
        self._finder: StereoFinder | None = None
        self._pairer: StampPairer[InstrumentPoseArray] = StampPairer()
        self._frame = ""
        self._infos: dict[str, CameraInfo] = {}
        self._calibration = "no camera_info yet"
        self._outputs: dict[str, tuple[Publisher, Publisher]] = {}
        self._markers: Publisher | None = None
        self._contested: set[str] = set()
        self._received: Counter[str] = Counter()
        self._published: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._pairs = 0
        self._skew_ns = 0
        self._began_s = time.monotonic()
        self._input_problem = ""
        self._before: tuple[float, int, Counter[str]] = (time.monotonic(), 0, Counter())
        self._diagnostics: Publisher | None = None
        self._last_warning: dict[str, float] = {}
        take_given(self, {name: default for name, (default, *_) in PARAMETERS.items()}, arguments)
        for name, (default, description, limits) in PARAMETERS.items():
            self.declare_parameter(name, default, _descriptor(description, default, limits))

    def configure(self) -> None:
        """Check the parameters, make sure that the topics are free, and connect.

        Raises:
            ConfigError: A parameter or the hand-eye file is wrong, or a topic has another publisher.
        """
        settings = self._settings()
        self._finder = StereoFinder(settings)
        self._frame = "" if settings.hand_eye is None else settings.hand_eye.parent_frame
        self._pairer = StampPairer(round(self._value("tolerance") * 1e9))
        names = [f"~/{slot}/{kind}" for slot in settings.slots for kind in ("measured_cp", "measured_cp_cov")]
        self._refuse_commands([*names, "~/markers"])
        self._refuse_company([*names, "~/markers"])
        quality = poses_qos(self._value("expected_rate"))
        for slot in settings.slots:
            self._outputs[slot] = (
                self.create_publisher(PoseStamped, f"~/{slot}/measured_cp", quality),
                self.create_publisher(PoseWithCovarianceStamped, f"~/{slot}/measured_cp_cov", quality),
            )
        self._markers = self.create_publisher(MarkerArray, "~/markers", MARKER_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        for side in SIDES:
            self.create_subscription(
                InstrumentPoseArray, f"{side}/poses", lambda message, side=side: self._take_poses(side, message), POSES_QOS
            )
            self.create_subscription(
                CameraInfo, f"{side}/camera_info", lambda message, side=side: self._take_info(side, message), CAMERA_INFO_QOS
            )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._look_after_itself, clock=steady)
        if self._value("expected_rate") > 0:
            # From the thread that does the work: where that hangs, the lease runs out.
            self.create_timer(heartbeat_s(self._value("expected_rate")), self._assert_liveliness, clock=steady)
        self.get_logger().info(
            f"ready: poses of {', '.join(settings.slots)} at {settings.position_landmark}, from"
            f" {self.resolve_topic_name('left/poses')} and {self.resolve_topic_name('right/poses')}"
        )

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _settings(self) -> FinderSettings:
        for name, choices in CHOICES.items():
            if self._value(name) not in choices:
                raise ConfigError(f"{name} is {self._value(name)!r}; choose {' or '.join(choices)}.")
        slots = tuple(self._value("slots"))
        for slot in slots:
            if not SLOT.fullmatch(slot):
                raise ConfigError(f"slots has the name {slot!r}; a slot is part of a topic: letters, digits and underscores.")
        path = self._value("hand_eye")
        return FinderSettings(
            slots=slots,
            position_landmark=self._value("position_landmark"),
            axis_landmarks=tuple(self._value("axis_landmarks")),
            already_rectified=self._value("pose_frame") == "rectified",
            camera_frame=self._value("output_frame") == "camera",
            hand_eye=load_hand_eye(path) if path else None,
            min_confidence=self._value("min_confidence"),
            require_orientation=self._value("require_orientation"),
            max_baseline=self._value("max_baseline"),
            limits=MatchLimits(
                min_depth=self._value("min_depth"),
                max_depth=self._value("max_depth"),
                epipolar_gate=self._value("epipolar_gate"),
                max_extent=self._value("max_extent"),
                min_landmarks=self._value("min_landmarks"),
                pixel_noise=self._value("pixel_noise"),
                ambiguity=self._value("ambiguity"),
            ),
        )

    def _refuse_commands(self, names: Sequence[str]) -> None:
        for name in names:
            topic = self.resolve_topic_name(name)
            if COMMAND.fullmatch(topic.rpartition("/")[2]):
                raise ConfigError(
                    f"{name} is remapped to {topic}, a motion command: what was seen never goes straight to an arm; put a"
                    " controller with its own checks between them."
                )

    def _refuse_company(self, names: Sequence[str]) -> None:
        """Wait for discovery, and look for others on our topics."""
        topics = [self.resolve_topic_name(name) for name in names]
        end = time.monotonic() + self._value("discovery_time")
        while True:
            taken = next((topic for topic in topics if self.count_publishers(topic)), None)
            if taken is not None:
                raise ConfigError(
                    f"The topic {taken} has another publisher already ({self._publisher_of(taken)}); give this node another"
                    " name or namespace."
                )
            if time.monotonic() >= end or not self.context.ok():
                return
            time.sleep(0.05)

    def _publisher_of(self, topic: str) -> str:
        """Name of a node that publishes a topic; it becomes known a moment after the topic does."""
        end = time.monotonic() + NAME_TIMEOUT_S
        while time.monotonic() < end:
            for other in self.get_publishers_info_by_topic(topic):
                if "_UNKNOWN_" not in other.node_name:
                    return f"{other.node_namespace.rstrip('/')}/{other.node_name}"
            time.sleep(0.05)
        return "a node that gives no name"

    def _take_info(self, side: str, message: CameraInfo) -> None:
        """Take a calibration when it is another one than before."""
        assert self._finder is not None
        before = self._infos.get(side)
        if before is not None and _calibration(before) == _calibration(message):
            return
        self._infos[side] = message
        try:
            camera = CameraModel.from_info(message)
        except CslTrackerError as error:
            self._finder.forget_camera(side)  # the calibration before holds no more
            self._calibration = f"{side} camera: {error}"
            self._warn("calibration", self._calibration)
            return
        try:
            self._finder.set_camera(side, camera)
        except CslTrackerError as error:
            self._calibration = str(error)
            self._warn("calibration", self._calibration)
            return
        rig = self._finder.rig
        if rig is None:
            self._calibration = f"camera_info of {side} alone"
            return
        self._calibration = ""
        self.get_logger().info(
            f"cameras of {rig.left.width}x{rig.left.height} px, {rig.geometry.focal[0]:.0f} px focal length,"
            f" {1e3 * rig.geometry.baseline:.2f} mm apart"
        )

    def _take_poses(self, side: str, message: InstrumentPoseArray) -> None:
        assert self._finder is not None
        self._received[side] += 1
        pair = self._pairer.add(side, stamp_ns(message.header.stamp), message)
        if pair is None:
            return
        self._pairs += 1
        self._skew_ns = pair.skew_ns
        if self._finder.rig is None:
            self._rejected["no_calibration"] += 1
            self._warn("no_calibration", f"Poses have come, but cannot be used: {self._calibration}.")
            return
        try:
            findings = self._finder.find(read_pose_array(pair.left), read_pose_array(pair.right))
        except CslTrackerError as error:
            self._rejected["size"] += 1
            self._warn("size", str(error))
            return
        self._rejected += findings.rejected
        header = Header(stamp=pair.left.header.stamp, frame_id=self._frame or self._left_frame(pair.left))
        for found in findings.instruments:
            self._publish(header, found)
        if self._markers is not None and self._markers.get_subscription_count() > 0:
            self._markers.publish(make_markers(header, findings.instruments))

    def _left_frame(self, message: InstrumentPoseArray) -> str:
        return str(message.header.frame_id or self._infos["left"].header.frame_id)

    def _publish(self, header: Header, found: FoundInstrument) -> None:
        pose = found.pose
        if not (np.isfinite(pose.position).all() and np.isfinite(pose.quaternion).all() and np.isfinite(pose.covariance).all()):
            self._rejected["not_finite"] += 1
            return
        position, with_covariance = self._outputs[found.slot]
        if position.topic_name not in self._contested and with_covariance.topic_name not in self._contested:
            position.publish(make_measured_cp(header, pose))
            with_covariance.publish(make_measured_cp_cov(header, pose))
            self._published[found.slot] += 1

    def _assert_liveliness(self) -> None:
        for publishers in self._outputs.values():
            for publisher in publishers:
                publisher.assert_liveliness()

    def _look_after_itself(self) -> None:
        """Look for company on our topics, and publish the diagnostics."""
        topics = [publisher.topic_name for publishers in self._outputs.values() for publisher in publishers]
        contested = {topic for topic in topics if len(self.get_publishers_info_by_topic(topic)) > 1}
        for topic in sorted(contested - self._contested):
            self.get_logger().error(f"Another publisher has come to {topic}; this node is silent there until it is gone.")
        self._contested = contested
        assert self._diagnostics is not None
        array = DiagnosticArray(status=[self._status()])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _status(self) -> DiagnosticStatus:
        assert self._finder is not None
        now = time.monotonic()
        since, pairs, received = self._before
        self._before = (now, self._pairs, self._received.copy())
        came = {side: (self._received[side] - received[side]) / (now - since) for side in SIDES}
        pair_rate = (self._pairs - pairs) / (now - since)
        level, message = DiagnosticStatus.OK, "poses are paired"
        if self._contested:
            level, message = DiagnosticStatus.ERROR, f"silent: another publisher on {', '.join(sorted(self._contested))}"
        elif self._calibration:
            level, message = DiagnosticStatus.WARN, f"no calibration: {self._calibration}"
        elif min(came.values()) == 0:
            silent = " and ".join(side for side in SIDES if came[side] == 0)
            reasons = [
                reason
                for side in SIDES
                if came[side] == 0
                for reason in explain_topic(self, self.resolve_topic_name(f"{side}/poses"), topics.POSES_TYPE)
            ]
            level, message = DiagnosticStatus.WARN, ". ".join([f"no poses from {silent}", *reasons]).rstrip(".")
            if reasons and now - self._began_s > INPUT_PATIENCE_S and message != self._input_problem:
                self._input_problem = message
                self.get_logger().warning(f"{message[0].upper()}{message[1:]}.")
        elif pair_rate == 0:
            level, message = DiagnosticStatus.WARN, "poses come from both sides, but none have stamps within the tolerance"
        values = {
            **{f"{side} rate (Hz)": f"{came[side]:.1f}" for side in SIDES},
            "pair rate (Hz)": f"{pair_rate:.1f}",
            "last skew (ms)": f"{self._skew_ns / 1e6:.3f}",
            **{f"published {slot}": str(self._published[slot]) for slot in self._outputs},
            **{f"rejected {reason}": str(count) for reason, count in sorted(self._rejected.items())},
            **{f"dropped {reason}": str(count) for reason, count in sorted((+self._pairer.dropped).items())},
        }
        rig = self._finder.rig
        if rig is not None:
            values["baseline (mm)"] = f"{1e3 * rig.geometry.baseline:.3f}"
        return DiagnosticStatus(
            level=level,
            name=f"{self.get_fully_qualified_name()}: stereo",
            message=message,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def _warn(self, reason: str, sentence: str) -> None:
        now = time.monotonic()
        if now - self._last_warning.get(reason, -WARNING_PERIOD_S) >= WARNING_PERIOD_S:
            self._last_warning[reason] = now
            self.get_logger().warning(sentence)


def _calibration(message: CameraInfo) -> tuple[Any, ...]:
    """What of a message is the calibration."""
    return (
        message.width,
        message.height,
        message.distortion_model,
        *(tuple(values) for values in (message.d, message.k, message.r, message.p)),
    )


def _descriptor(description: str, default: Any, limits: tuple[float, float] | None) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if limits is not None and isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(limits[0]), to_value=int(limits[1]), step=1)]
    elif limits is not None:
        descriptor.floating_point_range = [FloatingPointRange(from_value=limits[0], to_value=limits[1])]
    return descriptor


def _work(arguments: Sequence[str] | None) -> None:
    node = StereoNode(arguments)
    try:
        node.configure()
        spin(node)
    finally:
        node.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a signal comes.

    Returns:
        0, or 2 for a mistake of the user (one sentence on stderr).
    """
    return run(NAME, partial(_work, args), args)
