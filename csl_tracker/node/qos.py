"""QoS profiles of the tracker, and explanations of QoS mismatches."""

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
"""Durations from 11 days on count as infinite."""


def image_qos(reliability: str, depth: int) -> QoSProfile:
    """Profile of the image subscription; ``reliability`` is ``best_effort`` or ``reliable``."""
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=depth, reliability=policy)


def poses_qos(expected_rate: float) -> QoSProfile:
    """Profile of ``~/poses``; a rate above 0 Hz adds a deadline and a manually renewed liveliness lease.

    Subscribers that request neither are compatible, too.
    """
    profile = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
    if expected_rate > 0:
        duration = Duration(nanoseconds=round(lease_s(expected_rate) * 1e9))
        profile.liveliness = LivelinessPolicy.MANUAL_BY_TOPIC
        profile.liveliness_lease_duration = duration
        profile.deadline = duration
    return profile


def describe(qos: QoSProfile) -> str:
    """The policies that affect compatibility, as text."""
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
    """One sentence per image publisher whose QoS is incompatible with the subscription."""
    return [
        f"No images from {endpoint_name(publisher)} on {topic}: it offers {describe(publisher.qos_profile)}, but this node"
        f" requests {describe(asked)}. Start this node with '{set_at_start('image_reliability', 'best_effort')}', or make the"
        " camera publish reliably."
        for publisher in node.get_publishers_info_by_topic(topic)
        if qos_check_compatible(publisher.qos_profile, asked)[0] == QoSCompatibility.ERROR
    ]


def explain_listener(node: Node, topic: str, offered: QoSProfile) -> list[str]:
    """One sentence per subscriber whose request is incompatible with the offered QoS."""
    return [
        f"{endpoint_name(subscriber)} receives nothing on {topic}: it requests {describe(subscriber.qos_profile)}, but this"
        f" node offers {describe(offered)}. Relax the request, or start this node with a higher expected_rate, which shortens"
        f" deadline and lease: '{set_at_start('expected_rate', 'HZ')}'."
        for subscriber in node.get_subscriptions_info_by_topic(topic)
        if qos_check_compatible(offered, subscriber.qos_profile)[0] == QoSCompatibility.ERROR
    ]


def endpoint_name(endpoint: Any) -> str:
    """Full name of an endpoint's node."""
    if "_UNKNOWN_" in endpoint.node_name:  # rmw's placeholder until discovery has delivered the name
        return "a node of unknown name"
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
