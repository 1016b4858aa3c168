"""Explain why no messages arrive on a topic, and how to fix it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rclpy.node import Node

from csl_tracker.messages import topics
from csl_tracker.node.hints import set_at_start, take_images_from
from csl_tracker.node.qos import endpoint_name

IMAGE_TYPES = (topics.IMAGE_TYPE, topics.COMPRESSED_TYPE)

_MOST_NAMED = 5


def publishers_of(node: Node, topic: str) -> dict[str, str]:
    """Publishers of a topic: message type -> names of nodes."""
    found: dict[str, set[str]] = {}
    for publisher in node.get_publishers_info_by_topic(topic):
        found.setdefault(publisher.topic_type, set()).add(endpoint_name(publisher))
    return {kind: " and ".join(sorted(names)) for kind, names in found.items()}


def named_publishers(node: Node, topic: str) -> str:
    """Names of the nodes that publish a topic, as text."""
    return ", ".join(publishers_of(node, topic).values()) or "none now"


def explain_images(node: Node, image: str, compressed: bool) -> list[str]:
    """Explain why no images arrive: wrong type, a doubled ``/compressed``, or no publisher.

    Args:
        node: The node that waits for images.
        image: Topic of the images, without the suffix that ``compressed`` adds.
        compressed: Whether the node subscribes to ``image/compressed``.

    Returns:
        One or two sentences; empty if the wanted type is published.
    """
    suffix = topics.COMPRESSED_SUFFIX
    topic = image + suffix if compressed else image
    wanted = topics.COMPRESSED_TYPE if compressed else topics.IMAGE_TYPE
    published = publishers_of(node, topic)
    if wanted in published:
        return []
    remedy = _remedy(node, image, compressed)
    if published:
        kinds = " and ".join(f"{kind} by {names}" for kind, names in sorted(published.items()))
        return [f"{topic} is published as {kinds}, but this node expects {wanted}: {remedy or _look_elsewhere(node)}."]
    if compressed and image.endswith(suffix):
        base = image.removesuffix(suffix)
        return [
            f"No publisher on {topic}: image already ends with {suffix}, and image_transport compressed appends it again:"
            f" start this node with '{take_images_from(base)}'."
        ]
    return [f"No image publisher on {topic}: {remedy or _look_elsewhere(node)}."]


def _remedy(node: Node, image: str, compressed: bool) -> str:
    """Settings that select images of the other transport, if there are any; otherwise empty."""
    suffix = topics.COMPRESSED_SUFFIX
    if compressed:
        for topic in (image, image + suffix):
            if topics.IMAGE_TYPE in publishers_of(node, topic):
                return f"start this node with '{take_images_from(topic, 'raw')}'"
        return ""
    base = image.removesuffix(suffix)
    if topics.COMPRESSED_TYPE in publishers_of(node, base + suffix):
        return f"{base + suffix} has compressed images; start this node with '{take_images_from(base, 'compressed')}'"
    if topics.COMPRESSED_TYPE in publishers_of(node, image):
        return (
            f"this node reads compressed images only from topics that end with {suffix}; republish them as {image}{suffix}, and"
            f" start this node with '{set_at_start('image_transport', 'compressed')}'"
        )
    return ""


def _look_elsewhere(node: Node) -> str:
    # Images beside a topic of poses are a tracker's own output, not a camera's.
    trackers = {name.rpartition("/")[0] for name in topics_of(node, (topics.POSES_TYPE,))} - {""}
    found = [name for name in topics_of(node, IMAGE_TYPES) if not name.startswith(tuple(f"{tracker}/" for tracker in trackers))]
    if not found:
        return f"ROS_DOMAIN_ID {os.environ.get('ROS_DOMAIN_ID', '0')} has no image topic of a camera; start the camera"
    listed = ", ".join(found[:_MOST_NAMED]) + (", ..." if len(found) > _MOST_NAMED else "")
    first = found[0].removesuffix(topics.COMPRESSED_SUFFIX)
    return f"images are on {listed}; start this node with, for example, '{take_images_from(first)}'"


def explain_topic(node: Node, topic: str, wanted: str) -> list[str]:
    """Explain why no messages of a type arrive; empty if that type is published."""
    published = publishers_of(node, topic)
    if wanted in published:
        return []
    if published:
        kinds = " and ".join(f"{kind} by {names}" for kind, names in sorted(published.items()))
        return [f"{topic} is published as {kinds}, but this node expects {wanted}."]
    elsewhere = [name for name in topics_of(node, (wanted,)) if name != topic]
    hint = f"; {wanted} is on {', '.join(elsewhere[:_MOST_NAMED])}" if elsewhere else ""
    return [f"No publisher on {topic}{hint}."]


def topics_of(node: Node, kinds: Sequence[str]) -> list[str]:
    """Published topics of some types, sorted."""
    return sorted(
        name for name, types in node.get_topic_names_and_types() if set(types) & set(kinds) and node.count_publishers(name)
    )
