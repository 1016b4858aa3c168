"""The parameters of ``replay_node``, all read at the start. This module imports no ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from csl_tracker.errors import ConfigError
from csl_tracker.messages import topics
from csl_tracker.node.hints import set_at_start
from csl_tracker.node.parameter_table import Change
from csl_tracker.node.parameter_table import Parameter as AnyParameter

PATIENCE = 3
"""Lock-step: so many frames in a row without an answer are the tracker's end, not their own fault."""

NOW, ORIGINAL = "now", "original"

Parameter = partial(AnyParameter, change=Change.START)

PARAMETERS: dict[str, AnyParameter] = {
    "bag": Parameter("", "The bag to replay: an .mcap or .db3 file, or a bag folder."),
    "output": Parameter("", "The bag to record into: an .mcap file, or a folder that does not exist; empty records nothing."),
    "image_topic": Parameter("", "Topic of the images in the bag; empty takes the only one."),
    "publish_topic": Parameter(
        topics.IMAGE, "Topic to publish the images on, without /compressed; their camera_info goes to its sibling."
    ),
    "poses_topic": Parameter(topics.POSES, "Topic of the tracker's pose arrays."),
    "segmentation_topic": Parameter(topics.SEGMENTATION, "Topic of the tracker's label maps."),
    "rate": Parameter(0.0, "Multiple of the bag's own pace; 0 is lock-step: the next frame when this one was answered."),
    "frames": Parameter(0, "Number of frames to replay; 0 is all."),
    "start": Parameter(0.0, "Begin so many seconds after the bag's first message."),
    "end": Parameter(0.0, "End so many seconds after the bag's first message; 0 is at its end."),
    "loop": Parameter(False, "Begin anew at the end of the bag, until a signal comes; nothing can be recorded then."),
    "stamps": Parameter(
        NOW,
        "now: each publication carries its own time; original: everything keeps the stamps of the bag.",
        choices=(NOW, ORIGINAL),
    ),
    "clock": Parameter(False, "Publish the time of the original stamps on /clock, for nodes with use_sim_time."),
    "timeout_s": Parameter(
        2.0,
        "Lock-step: time after which an unanswered frame is sent again, s. With a rate: time to wait for the last answers.",
    ),
    "attempts": Parameter(
        5,
        f"Lock-step: how often a frame is sent before it is passed over; {PATIENCE} such frames in a row end the replay.",
    ),
    "wait_s": Parameter(60.0, "How long to wait for the tracker to be there, s."),
    "record_segmentation": Parameter(False, "Record the tracker's label maps too, and in lock-step wait for them."),
    "progress": Parameter(True, "Show a progress bar."),
}


@dataclass(frozen=True)
class ReplaySettings:
    """The values of all parameters; what each means is in :data:`PARAMETERS`."""

    bag: str
    output: str
    image_topic: str
    publish_topic: str
    poses_topic: str
    segmentation_topic: str
    rate: float
    frames: int
    start: float
    end: float
    loop: bool
    stamps: str
    clock: bool
    timeout_s: float
    attempts: int
    wait_s: float
    record_segmentation: bool
    progress: bool

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> ReplaySettings:
        """Take over the values of all parameters."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def original(self) -> bool:
        """Whether everything keeps the stamps of the bag."""
        return self.stamps == ORIGINAL

    def check(self) -> None:
        """Look for what cannot work, before anything is opened.

        Raises:
            ConfigError: A parameter is missing, impossible, or contradicts another one.
        """
        if not self.bag:
            raise ConfigError(f"No bag was named; give '{set_at_start('bag', 'PATH')}'.")
        if not (self.rate >= 0 and self.timeout_s > 0 and self.attempts >= 1):
            raise ConfigError(
                f"rate is {self.rate}, timeout_s {self.timeout_s} and attempts {self.attempts}; give a rate of 0 or more, a"
                " time-out above 0 s and at least 1 attempt."
            )
        if not (self.start >= 0 and (self.end == 0 or self.end > self.start)):
            raise ConfigError(
                f"start is {self.start:g} and end {self.end:g}; give seconds from the beginning of the bag, the end after the"
                " start, or 0 for all."
            )
        if self.clock and not self.original:
            raise ConfigError(
                f"clock publishes the time of the bag, and stamps is {NOW}; give '{set_at_start('stamps', ORIGINAL)}' too."
            )
        if not self.publish_topic or self.publish_topic.endswith(topics.COMPRESSED_SUFFIX):
            raise ConfigError(
                f"publish_topic is {self.publish_topic!r}; give the topic without {topics.COMPRESSED_SUFFIX}, which is appended"
                " for a bag of compressed images."
            )
        if self.loop and self.output:
            raise ConfigError("loop has no end, so that output would never be complete; give one of the two.")
