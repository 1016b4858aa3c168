"""The parameters of ``replay_node``, all read at start. This module imports no ROS."""

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
"""Lock-step: number of consecutive unanswered frames that ends the replay."""

NOW, ORIGINAL = "now", "original"

Parameter = partial(AnyParameter, change=Change.START)

PARAMETERS: dict[str, AnyParameter] = {
    "bag": Parameter("", "Bag to replay: an .mcap or .db3 file, or a bag folder."),
    "output": Parameter("", "Bag to record: an .mcap file, or a folder that does not exist yet; empty records nothing."),
    "image_topic": Parameter("", "Image topic in the bag; empty for the only one."),
    "publish_topic": Parameter(
        topics.IMAGE, "Topic for the published images, without /compressed; camera_info is published next to it."
    ),
    "poses_topic": Parameter(topics.POSES, "Topic of the tracker's pose arrays."),
    "segmentation_topic": Parameter(topics.SEGMENTATION, "Topic of the tracker's label maps."),
    "rate": Parameter(0.0, "Multiple of the recorded rate; 0 is lock-step: publish the next frame after the answer."),
    "frames": Parameter(0, "Number of frames to replay; 0 for all."),
    "start": Parameter(0.0, "Start of the replay after the bag's first message, s."),
    "end": Parameter(0.0, "End of the replay after the bag's first message, s; 0 for the end of the bag."),
    "loop": Parameter(False, "Repeat the bag until stopped by a signal; requires an empty output."),
    "stamps": Parameter(
        NOW,
        "now: stamp messages with their publication time; original: keep the bag's stamps.",
        choices=(NOW, ORIGINAL),
    ),
    "clock": Parameter(False, "Publish the original stamps on /clock, for nodes with use_sim_time."),
    "timeout_s": Parameter(
        2.0,
        "Lock-step: time before an unanswered frame is sent again, s. With a rate: time to wait for the last answers.",
    ),
    "attempts": Parameter(
        5,
        f"Lock-step: how often a frame is sent before it is skipped; {PATIENCE} skipped frames in a row end the replay.",
    ),
    "wait_s": Parameter(60.0, "How long to wait for the tracker at start, s."),
    "record_segmentation": Parameter(False, "Record the tracker's label maps; lock-step then waits for them, too."),
    "progress": Parameter(True, "Show a progress bar."),
}


@dataclass(frozen=True)
class ReplaySettings:
    """Values of all parameters, described in :data:`PARAMETERS`."""

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
        """Make settings from the values of all parameters."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def original(self) -> bool:
        """Whether messages keep the bag's stamps."""
        return self.stamps == ORIGINAL

    def check(self) -> None:
        """Check the values.

        Raises:
            ConfigError: A parameter is missing, invalid, or contradicts another one.
        """
        if not self.bag:
            raise ConfigError(f"No bag was named; give '{set_at_start('bag', 'PATH')}'.")
        if not (self.rate >= 0 and self.timeout_s > 0 and self.attempts >= 1):
            raise ConfigError(
                f"rate is {self.rate}, timeout_s {self.timeout_s} and attempts {self.attempts}; give a rate of 0 or more, a"
                " timeout above 0 s and at least 1 attempt."
            )
        if not (self.start >= 0 and (self.end == 0 or self.end > self.start)):
            raise ConfigError(
                f"start is {self.start:g} and end {self.end:g}; give seconds from the beginning of the bag, with end after"
                " start, or end 0 for the whole bag."
            )
        if self.clock and not self.original:
            raise ConfigError(f"clock publishes the bag's time, but stamps is {NOW}; add '{set_at_start('stamps', ORIGINAL)}'.")
        if not self.publish_topic or self.publish_topic.endswith(topics.COMPRESSED_SUFFIX):
            raise ConfigError(
                f"publish_topic is {self.publish_topic!r}; give the topic without {topics.COMPRESSED_SUFFIX}, which is appended"
                " for a bag of compressed images."
            )
        if self.loop and self.output:
            raise ConfigError("With loop the replay never ends, so output would never be complete; remove one of the two.")
