"""Find the topics of a bag with camera images, calibration and ground truth."""

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
    """The calibration topic next to an image topic, as in image_transport."""
    return image_topic.removesuffix(topics.COMPRESSED_SUFFIX).rpartition("/")[0] + "/camera_info"


def listed(names: Collection[str]) -> str:
    """Names as text."""
    return ", ".join(sorted(names)) or "none"


def describe_foreign(found: Mapping[str, TopicSummary], names: Collection[str] = ()) -> str:
    """Describe topics (default: all) with messages that are not ROS 2's, with the remedy; empty if there are none."""
    chosen = {name: topic for name, topic in found.items() if topic.count and (name in names or not names)}
    kinds = {name: TopicKind(topic.msgtype, topic.serialization, topic.definition_format) for name, topic in chosen.items()}
    return foreign_topics(kinds)


def truth_topics(found: Mapping[str, TopicSummary]) -> list[str]:
    """Ground-truth topics with the right type."""
    return [name for name, kind in _TRUTH_TYPES.items() if name in found and found[name].msgtype == kind]


def camera_topics(found: Mapping[str, TopicSummary]) -> list[str]:
    """Topics of camera images, without ground truth, a tracker's pictures, and depth."""
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
    """Choose the topic of the camera images.

    Args:
        path: The bag, for error messages.
        found: Its topics.
        choice: The topic; None for :data:`csl_tracker.messages.topics.IMAGE`, or else the only image topic.

    Raises:
        BagError: No such topic, no images, or several image topics.
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
    # A camera driver publishes an image and its compressed copy.
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
            f"The topic {choice} of the bag {path} has type {found[choice].msgtype}, which is no image type; "
            + (foreign or f"images are on {listed(images)}")
            + "."
        )
    if not found[choice].count:
        raise BagError(f"The bag {path} has no images on {choice}; it has images on {listed(images)}.")
