"""``stereo_node``: triangulates the poses of two trackers and publishes positions in metres.

    ros2 run csl_tracker stereo_node --ros-args -r left/poses:=/left/tracker_node/poses -r right/poses:=...

(``ros2 launch csl_tracker dvrk_stereo.launch.py`` sets all topics.)

A managed node like the tracker: configuring checks parameters and topics and creates the publishers, activating subscribes.
With the parameter ``autostart`` it does both by itself.

Subscribes to ``left/poses`` and ``right/poses`` (InstrumentPoseArray), ``left/camera_info`` and ``right/camera_info``.
Publishes, with the stamp of the left image,

- ``~/SLOT/measured_cp`` (PoseStamped) and ``~/SLOT/measured_cp_cov`` (PoseWithCovarianceStamped) for each slot, only if the
  instrument was found in both images;
- ``~/markers`` (MarkerArray) while it has subscribers;
- ``/diagnostics``.

The node must be the only publisher of its topics: it does not start if there is another one, and pauses while there is one.

This module handles ROS; :mod:`csl_tracker.node.stereo_session` processes the poses.
"""

from __future__ import annotations

if __name__ == "__main__":  # before slow or missing imports
    import sys

    from csl_tracker.node.start import start

    sys.exit(start("stereo_node"))

import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from rclpy.clock import Clock, ClockType
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from csl_tracker.errors import ConfigError
from csl_tracker.messages import topics
from csl_tracker.messages.diagnostics import ERROR, OK
from csl_tracker.node.inputs import explain_topic
from csl_tracker.node.managed_node import ManagedNode
from csl_tracker.node.qos import CAMERA_INFO_QOS, poses_qos
from csl_tracker.node.running import run, spin
from csl_tracker.node.stereo_messages import make_markers, make_measured_cp, make_measured_cp_cov
from csl_tracker.node.stereo_parameters import PARAMETERS
from csl_tracker.node.stereo_session import StereoSession
from csl_tracker.node.timing import heartbeat_s
from csl_tracker.stereo.finder import FinderSettings, FoundInstrument
from csl_tracker.stereo.hand_eye import load_hand_eye
from csl_tracker.stereo.matching import MatchLimits
from csl_tracker.stereo.pairing import SIDES
from csl_tracker_msgs.msg import InstrumentPoseArray

NAME = "stereo_node"

NAME_TIMEOUT_S = 2.0
POSES_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
MARKER_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)

COMMAND = re.compile(r"(servo|move|interpolate)_\w+")
"""CRTK's motion commands, which this node must never publish."""

SLOT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class StereoNode(ManagedNode):
    """The ROS interface of a :class:`csl_tracker.node.stereo_session.StereoSession`."""

    def __init__(self, arguments: Sequence[str] | None = None, **node_arguments: Any) -> None:
        """Declare the parameters.

        Args:
            arguments: Command line; None for this process's own.
            node_arguments: See ``rclpy.node.Node``.

        Raises:
            ParameterException: Wrong type, or out of range.
            ConfigError: Unknown name, or not one of the allowed choices.
        """
        super().__init__(NAME, PARAMETERS, arguments, **node_arguments)
        self._settings: FinderSettings | None = None
        self._session: StereoSession | None = None
        self._outputs: dict[str, tuple[Publisher, Publisher]] = {}
        self._markers: Publisher | None = None
        self._contested: set[str] = set()
        self._subscriptions_of_active: list[Subscription] = []
        self._heartbeat: Timer | None = None
        self.complete("stereo")

    # --- transitions

    def configure(self) -> None:
        """Check the parameters and that the topics are free, and create the publishers.

        Raises:
            ConfigError: A parameter or the hand-eye file is invalid, or a topic has another publisher.
        """
        settings = self._finder_settings()
        names = [f"~/{slot}/{kind}" for slot in settings.slots for kind in ("measured_cp", "measured_cp_cov")]
        self._refuse_commands([*names, "~/markers"])
        self._refuse_other_publishers([*names, "~/markers"])
        quality = poses_qos(self._value("expected_rate"))
        for slot in settings.slots:
            self._outputs[slot] = (
                self.create_publisher(PoseStamped, f"~/{slot}/measured_cp", quality),
                self.create_publisher(PoseWithCovarianceStamped, f"~/{slot}/measured_cp_cov", quality),
            )
        self._markers = self.create_publisher(MarkerArray, "~/markers", MARKER_QOS)
        self._settings = settings

    def clean_up(self) -> None:
        """Destroy the publishers."""
        outputs, self._outputs = self._outputs, {}
        markers, self._markers = self._markers, None
        for publisher in (*(one for pair in outputs.values() for one in pair), *([] if markers is None else [markers])):
            self.destroy_publisher(publisher)
        self._settings = None
        self._contested = set()

    def activate(self) -> None:
        """Subscribe."""
        assert self._settings is not None
        settings = self._settings
        self._session = StereoSession(settings, self._value("tolerance"), self.log_now_and_then)
        for side in SIDES:
            self._subscriptions_of_active += [
                self.create_subscription(InstrumentPoseArray, f"{side}/poses", partial(self._receive_poses, side), POSES_QOS),
                self.create_subscription(CameraInfo, f"{side}/camera_info", partial(self._receive_info, side), CAMERA_INFO_QOS),
            ]
        if self._value("expected_rate") > 0:
            # In the thread that processes poses: if it hangs, the lease expires.
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            period_s = heartbeat_s(self._value("expected_rate"))
            self._heartbeat = self.create_timer(period_s, self._assert_liveliness, clock=steady)
        self.get_logger().info(
            f"ready: poses of {', '.join(settings.slots)} at {settings.position_landmark}, from"
            f" {self.resolve_topic_name('left/poses')} and {self.resolve_topic_name('right/poses')}"
        )

    def deactivate(self) -> None:
        """Stop publishing poses."""
        subscriptions, self._subscriptions_of_active = self._subscriptions_of_active, []
        for subscription in subscriptions:
            self.destroy_subscription(subscription)
        if self._heartbeat is not None:
            self.destroy_timer(self._heartbeat)
        self._heartbeat = self._session = None

    # --- parameters

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _finder_settings(self) -> FinderSettings:
        slots = tuple(self._value("slots"))
        for slot in slots:
            if not SLOT.fullmatch(slot):
                raise ConfigError(f"slots contains {slot!r}; a slot is part of a topic name: use letters, digits, underscores.")
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

    # --- exclusive topics

    def _refuse_commands(self, names: Sequence[str]) -> None:
        for name in names:
            topic = self.resolve_topic_name(name)
            if COMMAND.fullmatch(topic.rpartition("/")[2]):
                raise ConfigError(
                    f"{name} is remapped to {topic}, a motion command; perception results must not command an arm directly. Put"
                    " a controller with its own checks between them."
                )

    def _refuse_other_publishers(self, names: Sequence[str]) -> None:
        """Wait for discovery, and fail if another node publishes one of the topics."""
        own = [self.resolve_topic_name(name) for name in names]
        end = time.monotonic() + self._value("discovery_time")
        while True:
            contested = next((topic for topic in own if self.count_publishers(topic)), None)
            if contested is not None:
                raise ConfigError(
                    f"The topic {contested} already has a publisher ({self._publisher_of(contested)}); give this node another"
                    " name or namespace."
                )
            if time.monotonic() >= end or not self.context.ok():
                return
            time.sleep(0.05)

    def _publisher_of(self, topic: str) -> str:
        """Name of a node that publishes a topic; discovered shortly after the topic."""
        end = time.monotonic() + NAME_TIMEOUT_S
        while time.monotonic() < end:
            for other in self.get_publishers_info_by_topic(topic):
                if "_UNKNOWN_" not in other.node_name:
                    return f"{other.node_namespace.rstrip('/')}/{other.node_name}"
            time.sleep(0.05)
        return "a node of unknown name"

    # --- messages

    def _receive_info(self, side: str, message: CameraInfo) -> None:
        if self._session is not None and (rig := self._session.take_camera_info(side, message)):
            self.get_logger().info(rig)

    def _receive_poses(self, side: str, message: InstrumentPoseArray) -> None:
        if self._session is None or self._settings is None:
            return
        findings = self._session.take_poses(side, message)
        if findings is None:
            return
        stamp, frame = findings.left.header.stamp, findings.left.header.frame_id
        hand_eye = self._settings.hand_eye
        frame = str(frame or self._session.frame_id()) if hand_eye is None else hand_eye.parent_frame
        header = Header(stamp=stamp, frame_id=frame)
        for found in findings.instruments:
            self._publish(header, found)
        if self._markers is not None and self._markers.get_subscription_count() > 0:
            self._markers.publish(make_markers(header, findings.instruments))

    def _publish(self, header: Header, found: FoundInstrument) -> None:
        assert self._session is not None
        position, with_covariance = self._outputs[found.slot]
        if position.topic_name not in self._contested and with_covariance.topic_name not in self._contested:
            position.publish(make_measured_cp(header, found.pose))
            with_covariance.publish(make_measured_cp_cov(header, found.pose))
            self._session.count_published(found.slot)

    def _assert_liveliness(self) -> None:
        for publishers in self._outputs.values():
            for publisher in publishers:
                publisher.assert_liveliness()

    # --- diagnostics

    def diagnose(self) -> tuple[int, str, dict[str, str]]:
        """Check for other publishers of the topics; return level, message and values of the diagnostics."""
        self._look_for_other_publishers()
        state = self.state_name()
        if self._session is None:
            level, message = (ERROR, self.fault) if self.fault else (OK, f"The node is {state}.")
            return level, message, {"state": state}
        level, message, values = self._session.diagnose(
            sorted(self._contested),
            lambda side: explain_topic(self, self.resolve_topic_name(f"{side}/poses"), topics.POSES_TYPE),
        )
        return level, message, {"state": state, **values}

    def _look_for_other_publishers(self) -> None:
        own = [publisher.topic_name for publishers in self._outputs.values() for publisher in publishers]
        contested = {topic for topic in own if len(self.get_publishers_info_by_topic(topic)) > 1}
        for topic in sorted(contested - self._contested):
            self.get_logger().error(f"Another node also publishes {topic}; this node pauses that topic until it stops.")
        self._contested = contested


def _work(arguments: Sequence[str] | None) -> None:
    node = StereoNode(arguments)
    try:
        if node.get_parameter("autostart").value:
            node.start()
        spin(node)
    finally:
        node.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a signal arrives.

    Returns:
        0, or 2 after a user error (with one sentence on stderr).
    """
    return run(NAME, partial(_work, args), args)
