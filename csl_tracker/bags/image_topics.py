"""Which topics of a bag hold a camera's images, its calibration and its ground truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from csl_tracker.bags.foreign import TopicKind, foreign_topics
from csl_tracker.bags.summary import TopicSummary
from csl_tracker.errors import BagError
from csl_tracker.messages import topics

_IMAGE_TYPES = (topics.IMAGE_TYPE, topics.COMPRESSED_TYPE)
_TRUTH_TYPES = {topics.TRUTH_POSES: topics.POSES_TYPE, topics.TRUTH_SEGMENTATION: topics.IMAGE_TYPE}


def camera_info_topic(image_topic: str) -> str:
    """The sibling of an image topic on which its camera's calibration comes, as in image_transport."""
    return image_topic.removesuffix(topics.COMPRESSED_SUFFIX).rpartition("/")[0] + "/camera_info"


def listed(names: Collection[str]) -> str:
    """Names for a sentence."""
    return ", ".join(sorted(names)) or "none"


def describe_foreign(found: Mapping[str, TopicSummary], names: Collection[str] = ()) -> str:
    """Describe topics (all without names) whose messages are not those of ROS 2, and what to do; empty where there are none."""
    chosen = {name: topic for name, topic in found.items() if topic.count and (name in names or not names)}
    kinds = {name: TopicKind(topic.msgtype, topic.serialization, topic.definition_format) for name, topic in chosen.items()}
    return foreign_topics(kinds)


def truth_topics(found: Mapping[str, TopicSummary]) -> list[str]:
    """The topics of ground truth; a topic of that name with another type does not count."""
    return [name for name, kind in _TRUTH_TYPES.items() if name in found and found[name].msgtype == kind]


def camera_topics(found: Mapping[str, TopicSummary]) -> list[str]:
    """The topics of a camera's images: no ground truth, no pictures made by a tracker, no depth."""
    return [
        name
        for name, topic in found.items()
        if topic.msgtype in _IMAGE_TYPES
        and topic.count > 0
        and name != topics.TRUTH_SEGMENTATION
        and f"/{topics.TRACKER_NODE}/" not in name
        and not name.endswith("/compressedDepth")
        and not describe_foreign(found, [name])
    ]


def choose_image_topic(path: Path, found: Mapping[str, TopicSummary], choice: str | None) -> str:
    """Find the topic of the camera's images.

    Args:
        path: The bag, for the errors.
        found: Its topics.
        choice: The topic to take; None takes :data:`csl_tracker.messages.topics.IMAGE`, or the only one there is.

    Raises:
        BagError: There is no such topic, none of images, or several to choose from.
    """
    images = camera_topics(found)
    if choice is not None:
        _check_choice(path, found, choice, images)
        return choice
    if topics.IMAGE in images:
        return topics.IMAGE
    if not images:
        raise BagError(
            f"The bag {path} has no images ({topics.IMAGE_TYPE} or {topics.COMPRESSED_TYPE}); "
            + (describe_foreign(found) or f"its topics are {listed(found)}")
            + "."
        )
    # A camera's driver publishes an image and its compressed copy.
    single = [name for name in images if name.removesuffix(topics.COMPRESSED_SUFFIX) not in set(images) - {name}]
    if len(single) > 1:
        raise BagError(
            f"The bag {path} has images on {listed(images)}; name one of these topics (--topic TOPIC, or the parameter"
            " image_topic of replay_node)."
        )
    return single[0]


def _check_choice(path: Path, found: Mapping[str, TopicSummary], choice: str, images: Collection[str]) -> None:
    if choice not in found:
        raise BagError(f"The bag {path} has no images on {choice}; it has images on {listed(images)}.")
    foreign = describe_foreign(found, [choice])
    if found[choice].msgtype not in _IMAGE_TYPES or foreign:
        raise BagError(
            f"The topic {choice} of the bag {path} is of type {found[choice].msgtype}, no images; "
            + (foreign or f"images are on {listed(images)}")
            + "."
        )
    if not found[choice].count:
        raise BagError(f"The bag {path} has no images on {choice}; it has images on {listed(images)}.")
