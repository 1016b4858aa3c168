"""What a replay has recorded: for each image that was published, when, what it was in its bag, and what the tracker said."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from csl_tracker.bags import topics
from csl_tracker.bags.messages import read_pose_array, stamp_ns
from csl_tracker.bags.reader import BagReader, RawMessage
from csl_tracker.errors import BagError
from csl_tracker.results import TrackingResult

OFFLINE = {"csl_tracker_replay": "offline"}
ORIGINAL_STAMPS = {"csl_tracker_replay": "original stamps"}
"""Noted in the metadata of a bag of results whose poses stand at the stamps of their images: it tells of no latency."""

_LOOKAHEAD = 64


@dataclass(frozen=True)
class Replayed:
    """One publication of an image.

    Attributes:
        source_ns: The image's stamp in its own bag, ns.
        published_ns: The stamp under which it was published: the time of the publication, ns.
        received_ns: When the pose array came, ns of the same clock; None when none came.
        result: What the tracker said, with its label map where that was recorded; None when it said nothing.
        model: Name and hash of the weights, empty without a result.
    """

    source_ns: int
    published_ns: int
    received_ns: int | None = None
    result: TrackingResult | None = None
    model: str = ""

    @property
    def latency_ms(self) -> float | None:
        """From publication to reception, ms; None without a result."""
        return None if self.received_ns is None else (self.received_ns - self.published_ns) / 1e6


def read_recording(bag: BagReader) -> Iterator[Replayed]:
    """Yield the publications in their order; a bounded number is in memory at a time.

    Raises:
        BagError: The bag was not recorded by a replay, or is broken.
    """
    if topics.SOURCE_TIME not in bag.types:
        raise BagError(f"The bag {bag.path} was not recorded by replay_node: it has no topic {topics.SOURCE_TIME}.")
    names = [name for name in (topics.SOURCE_TIME, topics.POSES, topics.SEGMENTATION) if name in bag.types]
    answers = set(names) - {topics.SOURCE_TIME}
    waiting: dict[int, Replayed] = {}
    parts: dict[int, dict[str, RawMessage]] = {}
    for message in bag.messages(names):
        if message.topic == topics.SOURCE_TIME:
            reference = bag.deserialize(message)
            stamp = stamp_ns(reference.header.stamp)
            waiting[stamp] = Replayed(stamp_ns(reference.time_ref), stamp)
            parts[stamp] = {}
        elif message.stamp_ns in parts:
            parts[message.stamp_ns].setdefault(message.topic, message)
        while waiting:
            first = next(iter(waiting))
            if len(waiting) <= _LOOKAHEAD and set(parts[first]) != answers:
                break
            yield _complete(bag, waiting.pop(first), parts.pop(first))
    for stamp, replayed in waiting.items():
        yield _complete(bag, replayed, parts[stamp])


def _complete(bag: BagReader, replayed: Replayed, parts: dict[str, RawMessage]) -> Replayed:
    poses = parts.get(topics.POSES)
    if poses is None:
        return replayed
    message = bag.deserialize(poses)
    result = read_pose_array(message)
    if topics.SEGMENTATION in parts:
        result = replace(result, label_map=label_map(bag.deserialize(parts[topics.SEGMENTATION])))
    return replace(replayed, received_ns=poses.time_ns, result=result, model=str(message.model))


def label_map(message: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The label map, uint8 (H, W), of a mono8 image message.

    Raises:
        BagError: It is no mono8 image, or its size does not agree with its data.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if message.encoding != "mono8" or step < width or data.size != height * step:
        raise BagError(
            f"A label map is a mono8 image, but this one is {message.encoding!r}, {width}x{height} px with {data.size} bytes."
        )
    return data.reshape(height, step)[:, :width]


def first_answers(recording: Iterator[Replayed]) -> Iterator[Replayed]:
    """One answered publication of each image; the ones sent in vain, and second answers, are left out.

    It is the first that was answered with a label map, or without any such the first that was answered: a tracker that was
    asked twice may have sent the label map the second time only.
    """
    for _, group in itertools.groupby(recording, key=lambda replayed: replayed.source_ns):
        best: Replayed | None = None
        for replayed in group:
            if replayed.result is None or (best is not None and replayed.result.label_map is None):
                continue
            best = replayed
            if replayed.result.label_map is not None:
                break
        if best is not None:
            yield best
