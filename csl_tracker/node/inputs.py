"""Why nothing comes on a topic: what is really published there, and what to set instead."""

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
    """Who publishes a topic: type of the messages -> names of nodes."""
    found: dict[str, set[str]] = {}
    for publisher in node.get_publishers_info_by_topic(topic):
        found.setdefault(publisher.topic_type, set()).add(endpoint_name(publisher))
    return {kind: " and ".join(sorted(names)) for kind, names in found.items()}


def named_publishers(node: Node, topic: str) -> str:
    """The nodes that publish a topic, in words."""
    return ", ".join(publishers_of(node, topic).values()) or "none now"


def explain_images(node: Node, image: str, compressed: bool) -> list[str]:
    """Why no images come: another type on the topic, a doubled ``/compressed``, or nobody who publishes.

    Args:
        node: The node that waits for images.
        image: Topic of the images, without what ``compressed`` adds.
        compressed: Whether the node subscribes to its ``/compressed`` sibling.

    Returns:
        A sentence or two; nothing while somebody publishes what the node takes.
    """
    suffix = topics.COMPRESSED_SUFFIX
    topic = image + suffix if compressed else image
    wanted = topics.COMPRESSED_TYPE if compressed else topics.IMAGE_TYPE
    there = publishers_of(node, topic)
    if wanted in there:
        return []
    remedy = _remedy(node, image, compressed)
    if there:
        kinds = " and ".join(f"{kind} by {names}" for kind, names in sorted(there.items()))
        return [f"{topic} is published as {kinds}, and this node takes {wanted} there: {remedy or _look_elsewhere(node)}."]
    if compressed and image.endswith(suffix):
        base = image.removesuffix(suffix)
        return [
            f"Nobody publishes {topic}: image_transport compressed adds {suffix} by itself, and image ends with it already:"
            f" start this node with '{take_images_from(base)}'."
        ]
    return [f"Nobody publishes images on {topic}: {remedy or _look_elsewhere(node)}."]


def _remedy(node: Node, image: str, compressed: bool) -> str:
    """What to set so that images of the other transport are taken, where there are any; empty where there are none."""
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
            f"this node takes compressed images from topics that end with {suffix}; republish them as {image}{suffix}, and"
            f" start this node with '{set_at_start('image_transport', 'compressed')}'"
        )
    return ""


def _look_elsewhere(node: Node) -> str:
    # What lies beside poses are pictures of a tracker, this one included, and no camera's images.
    trackers = {name.rpartition("/")[0] for name in topics_of(node, (topics.POSES_TYPE,))} - {""}
    found = [name for name in topics_of(node, IMAGE_TYPES) if not name.startswith(tuple(f"{tracker}/" for tracker in trackers))]
    if not found:
        return f"there are no images of a camera in ROS_DOMAIN_ID {os.environ.get('ROS_DOMAIN_ID', '0')}; start the camera"
    listed = ", ".join(found[:_MOST_NAMED]) + (", ..." if len(found) > _MOST_NAMED else "")
    first = found[0].removesuffix(topics.COMPRESSED_SUFFIX)
    return f"images are on {listed}; start this node with, for example, '{take_images_from(first)}'"


def explain_topic(node: Node, topic: str, wanted: str) -> list[str]:
    """Why nothing comes on a topic of another kind; nothing while somebody publishes what is wanted."""
    there = publishers_of(node, topic)
    if wanted in there:
        return []
    if there:
        kinds = " and ".join(f"{kind} by {names}" for kind, names in sorted(there.items()))
        return [f"{topic} is published as {kinds}, and this node takes {wanted} there."]
    elsewhere = [name for name in topics_of(node, (wanted,)) if name != topic]
    hint = f"; {wanted} is on {', '.join(elsewhere[:_MOST_NAMED])}" if elsewhere else ""
    return [f"Nobody publishes {topic}{hint}."]


def topics_of(node: Node, kinds: Sequence[str]) -> list[str]:
    """Topics of some types that somebody publishes, sorted."""
    return sorted(
        name for name, types in node.get_topic_names_and_types() if set(types) & set(kinds) and node.count_publishers(name)
    )
