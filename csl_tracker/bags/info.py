"""Describe a bag: content, usable topics and problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tqdm import tqdm

from csl_tracker.bags.errors import DamagedBagError
from csl_tracker.bags.image_topics import camera_info_topic
from csl_tracker.bags.reader import BagReader
from csl_tracker.clock import NS
from csl_tracker.errors import BagError, ConfigError, ImageError
from csl_tracker.messages import topics
from csl_tracker.yaml_files import YamlError, parse_yaml, spelled

_MAX_QOS_BYTES = 4096
"""Longest QoS text of a topic: that of ten publishers."""
_RELIABILITY = {1: "reliable", 2: "best_effort"}

_USES = {
    topics.TRUTH_POSES: ("ground truth", topics.POSES_TYPE),
    topics.TRUTH_SEGMENTATION: ("ground truth", topics.IMAGE_TYPE),
    topics.SOURCE_TIME: ("times of a replay", topics.TIME_REFERENCE_TYPE),
}


def describe_bag(bag: BagReader, decode: Callable[[Any], Any], check: bool = False) -> dict[str, Any]:
    """Describe a bag from its index and the first image of each topic.

    Args:
        bag: The bag.
        decode: Converts an image message to uint8 (H, W, 3), RGB.
        check: Read every message, which is necessary to find stamps that run backwards or are missing, changing sizes and
            corrupt data.

    Returns:
        JSON-compatible values: ``files``, ``duration_s``, ``start_ns``, ``compression``, ``notes``, ``topics`` (name, type,
        count, rate_hz, reliability, defined, use), ``images`` (topic, encoding, width, height, camera_info) and ``problems``
        (sentences).
    """
    problems = list(bag.problems)
    images = [_describe_images(bag, name, decode, problems) for name in bag.image_topics()]
    foreign = bag.foreign()
    if foreign:
        problems.append(f"In the bag {bag.path} {foreign}.")
    if not images and not foreign and topics.POSES_TYPE not in bag.types.values():
        problems.append(
            f"The bag {bag.path} has no images ({topics.IMAGE_TYPE} or {topics.COMPRESSED_TYPE}) to track; record the camera's"
            " topic."
        )
    for name, (use, kind) in _USES.items():
        if bag.types.get(name, kind) != kind:
            problems.append(f"The topic {name} has type {bag.types[name]} and is not used as {use}, which requires {kind}.")
    if check:
        problems += _check(bag, problems)
    return {
        "path": bag.path.name,
        "files": [{"name": file.name, "bytes": file.stat().st_size} for file in bag.files],
        "start_ns": bag.start_ns,
        "duration_s": round(bag.duration_s, 6),
        "messages": sum(bag.count(name) for name in bag.types),
        "compression": bag.compression,
        "notes": bag.custom,
        "topics": [_describe_topic(bag, name) for name in sorted(bag.types)],
        "images": images,
        "checked": check,
        "problems": problems,
    }


def _describe_topic(bag: BagReader, name: str) -> dict[str, Any]:
    count, duration = bag.count(name), bag.duration_s
    return {
        "name": name,
        "type": bag.types[name],
        "count": count,
        "rate_hz": round((count - 1) / duration, 3) if count > 1 and duration > 0 else None,
        "reliability": _reliability(bag.qos(name)),
        "defined": bag.defined(name),
        "use": _use(bag, name),
    }


@lru_cache(maxsize=256)
def _reliability(qos: str) -> str | None:
    """The offered reliability from any metadata version; the weakest one of several publishers."""
    try:
        offered = [item["reliability"] for item in parse_yaml(qos, max_bytes=_MAX_QOS_BYTES) or []]
        names = {_RELIABILITY.get(value) or spelled(value, "the reliability") for value in offered}
    except (YamlError, ConfigError, KeyError, TypeError):
        return None
    return "best_effort" if "best_effort" in names else next(iter(names), None)


def _use(bag: BagReader, name: str) -> str | None:
    """How this package uses a topic."""
    kind = bag.types[name]
    if name in bag.image_topics():
        return "images"
    if name in _USES:
        return _USES[name][0] if kind == _USES[name][1] else None
    if kind == topics.POSES_TYPE:
        return "poses"
    if name.endswith("/segmentation") and kind == topics.IMAGE_TYPE:
        return "segmentation"
    if kind == topics.CAMERA_INFO_TYPE and name in map(camera_info_topic, bag.image_topics()):
        return "calibration"
    return None


def _describe_images(bag: BagReader, name: str, decode: Callable[[Any], Any], problems: list[str]) -> dict[str, Any]:
    """Describe the first image of a topic."""
    found: dict[str, Any] = {
        "topic": name,
        "encoding": None,
        "width": None,
        "height": None,
        "camera_info": bag.types.get(camera_info_topic(name)) == topics.CAMERA_INFO_TYPE,
    }
    try:
        first = next(bag.messages([name]), None)
        if first is None:
            return found
        message = bag.deserialize(first)
        found["encoding"] = str(message.format if hasattr(message, "format") else message.encoding)
        found["height"], found["width"] = (int(value) for value in decode(message).shape[:2])
    except DamagedBagError:
        pass  # already among the problems
    except (BagError, ImageError) as error:
        problems.append(f"The first image on {name} cannot be used. {error}")
    return found


@dataclass
class _Headers:
    """Header statistics of a topic."""

    count: int = 0
    last_ns: int = 0
    unstamped: int = 0
    backwards: list[int] = field(default_factory=list)
    first_step_s: float = 0.0
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)

    def add(self, stamp_ns: int, size: tuple[int, int] | None) -> None:
        if stamp_ns == 0:
            self.unstamped += 1
        elif stamp_ns < self.last_ns:
            self.first_step_s = self.first_step_s or (self.last_ns - stamp_ns) / NS
            self.backwards.append(self.count)
        self.last_ns = stamp_ns or self.last_ns
        if size is not None:
            self.sizes.setdefault(size, self.count)
        self.count += 1

    def problems(self, name: str) -> Iterator[str]:
        if self.backwards:
            yield (
                f"The stamps on {name} run backwards {len(self.backwards)} times, first by {self.first_step_s:.3f} s at message"
                f" {self.backwards[0]}, which resets identities; record with one clock, or replay the parts with"
                " --start and --end."
            )
        if self.unstamped:
            yield (
                f"{self.unstamped} of {self.count} messages on {name} have no stamp; their recording time is used instead, and"
                " poses cannot be matched to them by stamp."
            )
        if len(self.sizes) > 1:
            changes = ", ".join(f"{width}x{height} from message {index}" for (width, height), index in self.sizes.items())
            yield f"The images on {name} change their size: {changes}; an overlay video needs one size."


def _check(bag: BagReader, known: list[str]) -> list[str]:
    """Read every message of the used topics; returns problems that are not yet known."""
    wanted = [name for name in bag.types if _use(bag, name) and bag.count(name)]
    headers = {name: _Headers() for name in wanted}
    problems: list[str] = []
    if not wanted:
        return problems
    try:
        for message in tqdm(bag.messages(wanted), total=sum(map(bag.count, wanted)), desc="check", unit="message", leave=False):
            size = None
            if message.msgtype == topics.IMAGE_TYPE:
                image = bag.deserialize(message)
                size = (int(image.width), int(image.height))
            headers[message.topic].add(message.stamp_ns, size)
    except BagError as error:
        if str(error) not in known:
            problems.append(str(error))
    for name, found in headers.items():
        problems += found.problems(name)
    return problems
