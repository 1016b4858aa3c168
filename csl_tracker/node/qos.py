"""Qualities of service: what the tracker asks of a camera, what it offers to a controller, and why two ends do not meet."""

from __future__ import annotations

from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from csl_tracker.node.hints import set_at_start
from csl_tracker.node.timing import lease_s

POSE_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
PICTURE_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
CAMERA_INFO_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

_LONGEST_NS = 10**15
"""From here on a duration means none: 11 days."""


def image_qos(reliability: str, depth: int) -> QoSProfile:
    """What is asked of the camera: ``best_effort`` or ``reliable``, and how many images wait."""
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, reliability=policy)


def poses_qos(expected_rate: float) -> QoSProfile:
    """What ``~/poses`` offers: with a rate (Hz) a lease that the tracker renews itself, and a deadline as long.

    A subscriber that asks for neither is served too.
    """
    profile = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
    if expected_rate > 0:
        duration = Duration(nanoseconds=round(lease_s(expected_rate) * 1e9))
        profile.liveliness = LivelinessPolicy.MANUAL_BY_TOPIC
        profile.liveliness_lease_duration = duration
        profile.deadline = duration
    return profile


def describe(qos: QoSProfile) -> str:
    """The policies that can keep two ends apart, in words."""
    parts = [
        "reliable" if qos.reliability == ReliabilityPolicy.RELIABLE else "best effort",
        "transient local" if qos.durability == DurabilityPolicy.TRANSIENT_LOCAL else "volatile",
    ]
    if 0 < qos.deadline.nanoseconds < _LONGEST_NS:
        parts.append(f"deadline {qos.deadline.nanoseconds / 1e6:g} ms")
    if qos.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC:
        parts.append("liveliness manual by topic")
    if 0 < qos.liveliness_lease_duration.nanoseconds < _LONGEST_NS:
        parts.append(f"lease {qos.liveliness_lease_duration.nanoseconds / 1e6:g} ms")
    return ", ".join(parts)


def explain_camera(node: Node, topic: str, asked: QoSProfile) -> list[str]:
    """A sentence for each publisher of images whose offer is less than what the tracker asks for."""
    return [
        f"No images come from {endpoint_name(publisher)} on {topic}: it offers {describe(publisher.qos_profile)}, and this node"
        f" asks for {describe(asked)}. Start this node with '{set_at_start('image_reliability', 'best_effort')}', or let the"
        " camera publish reliably."
        for publisher in node.get_publishers_info_by_topic(topic)
        if qos_check_compatible(publisher.qos_profile, asked)[0] == QoSCompatibility.ERROR
    ]


def explain_listener(node: Node, topic: str, offered: QoSProfile) -> list[str]:
    """A sentence for each subscriber that asks for more than what the tracker offers."""
    return [
        f"{endpoint_name(subscriber)} gets nothing on {topic}: it asks for {describe(subscriber.qos_profile)}, and this node"
        f" offers {describe(offered)}. Ask for no more than that, or start this node with a higher expected_rate, which"
        f" shortens deadline and lease: '{set_at_start('expected_rate', 'HZ')}'."
        for subscriber in node.get_subscriptions_info_by_topic(topic)
        if qos_check_compatible(offered, subscriber.qos_profile)[0] == QoSCompatibility.ERROR
    ]


def endpoint_name(endpoint: Any) -> str:
    """Full name of the node that an end of a topic belongs to."""
    if "_UNKNOWN_" in endpoint.node_name:  # what rmw says until discovery has brought the name
        return "a node of unknown name"
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
