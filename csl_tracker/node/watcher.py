"""A node that listens to a tracker and explains missing poses."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_full_topic_name import validate_full_topic_name

from csl_tracker.clock import NS
from csl_tracker.errors import ConfigError
from csl_tracker.messages import topics
from csl_tracker.messages.diagnostics import Diagnosis
from csl_tracker.messages.poses import read_pose_array, stamp_ns
from csl_tracker.messages.watch import STALE_S, View, Watch
from csl_tracker.node.qos import describe
from csl_tracker_msgs.msg import InstrumentPoseArray

NAME = "csl_tracker_watch"
DIAGNOSTICS = "/diagnostics"
IMAGE_TYPES = (topics.IMAGE_TYPE, topics.COMPRESSED_TYPE)

# The weakest request: compatible with every publisher, and slows none down.
_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
_ASK_STATE_EVERY_S = 1.0
_LOOK_AROUND_EVERY_S = 0.5

DISCOVERY_S = 5.0
"""Time for discovery on a busy machine before anything is reported as missing."""


class Watcher:
    """Watches one tracker node in a separate ROS context; a context manager.

    Attributes:
        watch: The collected data.
    """

    def __init__(self, node: str) -> None:
        """Subscribe.

        Args:
            node: Name of the tracker node; the leading slash is optional.

        Raises:
            ConfigError: Not a valid node name.
        """
        self.watch = Watch(full_name(node))
        self.poses_topic = f"{self.watch.node}/poses"
        self._context = rclpy.Context()
        rclpy.init(context=self._context, args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node(NAME, context=self._context, start_parameter_services=False, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._began_s = time.time()
        self._node.create_subscription(InstrumentPoseArray, self.poses_topic, self._receive, _QOS)
        self._node.create_subscription(DiagnosticArray, DIAGNOSTICS, self._diagnose, _QOS)
        self._get_state = self._node.create_client(GetState, f"{self.watch.node}/get_state")
        self._asked_s = 0.0
        self._answer: Any | None = None
        self._looked_s = 0.0
        self._problems: list[str] = []

    def spin(self, duration_s: float) -> None:
        """Receive messages for a duration, s."""
        end = time.monotonic() + duration_s
        while (remaining := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=remaining)
        self._ask_state()

    def view(self) -> View:
        """The collected data, with explanations if poses are missing."""
        now = time.time()
        age = self.watch.age_s(now)
        if age is not None and age <= STALE_S:
            self._problems = []
        elif now - self._looked_s > _LOOK_AROUND_EVERY_S:
            self._looked_s = now
            self._problems = self._find_problems(now - self._began_s if age is None else age)
        return self.watch.view(now, self._problems)

    def close(self) -> None:
        """Shut down the ROS context."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _receive(self, message: Any) -> None:
        self.watch.receive(read_pose_array(message), str(message.model), stamp_ns(message.header.stamp) / NS, time.time())

    def _diagnose(self, message: Any) -> None:
        for status in message.status:
            # The format of diagnostic_updater: node name, colon, title.
            if str(status.name).partition(":")[0].strip().strip("/") == self.watch.node.strip("/"):
                values = {str(value.key): str(value.value) for value in status.values}
                level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
                self.watch.diagnose(Diagnosis(level, str(status.message), values, time.time()))

    def _ask_state(self) -> None:
        """Request the state of a managed node periodically, without blocking."""
        now = time.monotonic()
        if self._answer is not None and self._answer.done():
            result = self._answer.result()
            self.watch.state = "" if result is None else str(result.current_state.label)
            self._answer = None
        if now - self._asked_s < _ASK_STATE_EVERY_S:
            return
        self._asked_s = now
        if self._answer is not None:
            self._get_state.remove_pending_request(self._answer)
            self._answer, self.watch.state = None, ""
        if self._get_state.service_is_ready():
            self._answer = self._get_state.call_async(GetState.Request())

    def _find_problems(self, silence_s: float) -> list[str]:
        publishers = self._node.get_publishers_info_by_topic(self.poses_topic)
        if not publishers:
            searching = time.time() - self._began_s < DISCOVERY_S
            return [f"Looking for {self.watch.node} ..." if searching else self._explain_no_publisher()]
        for publisher in publishers:
            if publisher.topic_type != topics.POSES_TYPE:
                return [
                    f"{self.poses_topic} has type {publisher.topic_type} (from {_full(publisher)}), not {topics.POSES_TYPE};"
                    " give the tracker's name with --node."
                ]
            verdict, reason = qos_check_compatible(publisher.qos_profile, _QOS)
            if verdict == QoSCompatibility.ERROR:
                return [f"The QoS of {self.poses_topic} is incompatible: {reason}"]
        problems = []
        if self.watch.state not in ("", "active"):
            problems.append(
                f"The node is {self.watch.state}, not active: run 'ros2 lifecycle set {self.watch.node}"
                f" {'activate' if self.watch.state == 'inactive' else 'configure'}'."
            )
        return problems + (self._find_input_problems() or [_silence(silence_s, self.watch.heard(time.time()))])

    def _explain_no_publisher(self) -> str:
        named = {_join(space, name) for name, space in self._node.get_node_names_and_namespaces()}
        if self.watch.node in named:
            state = f" ({self.watch.state})" if self.watch.state else ""
            return (
                f"The node {self.watch.node} exists{state}, but does not publish {self.poses_topic} yet: it is being"
                f" configured, or waits for 'ros2 lifecycle set {self.watch.node} configure'."
            )
        others = sorted(
            topic.rpartition("/")[0]
            for topic, types in self._node.get_topic_names_and_types()
            if topics.POSES_TYPE in types and topic.endswith("/poses") and self._node.count_publishers(topic)
        )
        domain = f"ROS_DOMAIN_ID {os.environ.get('ROS_DOMAIN_ID', '0')}"
        remedy = (
            f"publishing poses there: {', '.join(others)} (give one with --node)" if others else "start it, or check the domain"
        )
        return f"No node {self.watch.node} was found in {domain}; {remedy}."

    def _find_input_problems(self) -> list[str]:
        """Why the tracker may receive no images: no publisher, another type, or incompatible QoS."""
        space, _, name = self.watch.node.rpartition("/")
        try:
            subscribed = self._node.get_subscriber_names_and_types_by_node(name, space or "/")
        except RuntimeError:  # the node has just exited; rclpy's class for it is private
            return []
        found = []
        for topic in (topic for topic, types in subscribed if set(types) & set(IMAGE_TYPES)):
            publishers = self._node.get_publishers_info_by_topic(topic)
            if not publishers:
                found.append(f"No node publishes images on {topic}, to which the tracker subscribes.")
                continue
            endpoints = [end for end in self._node.get_subscriptions_info_by_topic(topic) if _full(end) == self.watch.node]
            kinds = {str(subscriber.topic_type) for subscriber in endpoints}
            for publisher in publishers:
                if kinds and publisher.topic_type not in kinds:
                    found.append(
                        f"{_full(publisher)} publishes {topic} as {publisher.topic_type}, but {self.watch.node} expects"
                        f" {' and '.join(sorted(kinds))}."
                    )
                    continue
                for subscriber in endpoints:
                    verdict, _ = qos_check_compatible(publisher.qos_profile, subscriber.qos_profile)
                    if verdict == QoSCompatibility.ERROR:
                        found.append(
                            f"The QoS of {topic} is incompatible: {_full(publisher)} offers {describe(publisher.qos_profile)},"
                            f" {self.watch.node} requests {describe(subscriber.qos_profile)}; change one of them."
                        )
        return found


def full_name(node: str) -> str:
    """A node's name with a leading slash.

    Raises:
        ConfigError: Not a valid node name.
    """
    name = "/" + node.strip("/")
    try:
        validate_full_topic_name(name)
    except NameValidationException:
        raise ConfigError(f"--node {node!r} is not a valid node name; write it like /{topics.TRACKER_NODE}.") from None
    return name


def _silence(seconds: float, heard: str) -> str:
    if seconds < STALE_S:
        return "No poses yet."
    silent = f"No poses for {seconds:.0f} s, although the topic has a publisher"
    if heard:
        return f"{silent}; the node is alive and reports: {heard.rstrip('.')}."
    return f"{silent}, and no diagnostics: the tracker is stuck or stopped, or the camera has stopped."


def _join(space: str, name: str) -> str:
    return f"{space.rstrip('/')}/{name}"


def _full(endpoint: Any) -> str:
    return _join(endpoint.node_namespace, endpoint.node_name)
