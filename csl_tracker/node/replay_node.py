"""``replay_node``: the frames of a bag go to a tracker, and what it says goes into a second bag.

    ros2 run csl_tracker replay_node --ros-args -p bag:=frames.mcap -p output:=poses.mcap

Publishes ``/camera/image_raw`` (or its ``/compressed`` sibling), and the bag's ground truth on ``/ground_truth/...``.
Subscribes the tracker's ``poses``. In lock-step (``rate`` 0) the next frame is published when the answer to this one has
come; a frame without an answer is sent again, so that a lost one cannot stall it, and passed over after some attempts, so that
one that the tracker cannot use does not end it. With a ``rate`` the frames go out at that
multiple of their own pace, whatever the tracker does.

Each publication carries its own time as stamp, so that latency is the time of the answer's reception minus the stamp, on one
clock. The stamp that the image has in its bag goes beside it, as ``/replay/source_time``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, TimeReference
from std_msgs.msg import Header
from tqdm import tqdm

from csl_tracker.bags import topics
from csl_tracker.bags.cdr import header_stamp_ns, restamp
from csl_tracker.bags.messages import NS
from csl_tracker.bags.reader import BagFrame, BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.errors import BagError, ConfigError
from csl_tracker.node.running import EXIT_INTERRUPTED, run
from csl_tracker_msgs.msg import InstrumentPoseArray

NAME = "replay_node"

IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
PATIENCE = 3
"""Lock-step: so many frames in a row without an answer are the tracker's end, not their own fault."""

ANSWER_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)

PARAMETERS: dict[str, tuple[Any, str]] = {
    "bag": ("", "The bag to replay: an .mcap or .db3 file, or a bag folder."),
    "output": ("", "The bag to record into: an .mcap file, or a folder that does not exist; empty records nothing."),
    "image_topic": ("", "Topic of the images in the bag; empty takes the only one."),
    "poses_topic": (topics.POSES, "Topic of the tracker's pose arrays."),
    "segmentation_topic": (topics.SEGMENTATION, "Topic of the tracker's label maps."),
    "rate": (0.0, "Multiple of the bag's own pace; 0 is lock-step: the next frame when this one was answered."),
    "frames": (0, "Number of frames to replay; 0 is all."),
    "timeout_s": (
        2.0,
        "Lock-step: time after which an unanswered frame is sent again, s. With a rate: time to wait for the last answers.",
    ),
    "attempts": (
        5,
        f"Lock-step: how often a frame is sent before it is passed over; {PATIENCE} such frames in a row end the replay.",
    ),
    "wait_s": (60.0, "How long to wait for the tracker to be there, s."),
    "record_segmentation": (False, "Record the tracker's label maps too, and in lock-step wait for them."),
    "progress": (True, "Show a progress bar."),
}

_SETTLE_S = 0.5
"""Time for discovery to run its course both ways."""


class ReplayNode(Node):  # type: ignore[misc]
    """Publishes the frames of one bag and collects the answers."""

    def __init__(self, **node_arguments: Any) -> None:
        """Declare the parameters.

        Raises:
            ParameterException: A parameter was given with another type.
        """
        super().__init__(NAME, **node_arguments)
        for name, (default, description) in PARAMETERS.items():
            self.declare_parameter(name, default, ParameterDescriptor(description=description, read_only=True))
        self.rate: float = self._value("rate")
        self.timeout_s: float = self._value("timeout_s")
        self.attempts: int = self._value("attempts")
        self.published = 0
        self.resent = 0
        self.answered = 0
        self._image: Publisher | None = None
        self._truth: dict[str, Publisher] = {}
        self._source_time: Publisher | None = None
        self._recorder: BagWriter | None = None
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        # Stamps of the publications of the frame that is being waited for, and the topics that have yet to answer it.
        self._asked: set[int] = set()
        self._missing: dict[str, set[int]] = {}
        self._unanswered: set[int] = set()

    def replay(self) -> None:
        """Replay the whole bag.

        Raises:
            BagError: The bag cannot be read, the other not be written, or the tracker answers no frame, or several in a
                row not.
            ConfigError: A parameter is missing or impossible.
        """
        if not self._value("bag"):
            raise ConfigError("No bag was named; give '--ros-args -p bag:=PATH'.")
        if self.rate < 0 or self.timeout_s <= 0 or self.attempts < 1:
            raise ConfigError(
                f"rate is {self.rate}, timeout_s {self.timeout_s} and attempts {self.attempts}; give a rate of 0 or more, a"
                " time-out above 0 s and at least 1 attempt."
            )
        with BagReader(self._value("bag")) as bag:
            topic = bag.image_topic(self._value("image_topic") or None)
            total = bag.count(topic)
            limit = self._value("frames")
            if limit > 0:
                total = min(total, limit)
            self._open(bag, bag.types[topic])
            try:
                self._wait_for_tracker()
                self._publish_all(bag, topic, total)
            except BaseException:
                if self._recorder is not None:
                    self._recorder.abort()
                raise
            if self._recorder is not None:
                self._recorder.close()

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _open(self, bag: BagReader, image_type: str) -> None:
        """Make publishers, subscriptions and the recorder."""
        compressed = image_type == topics.COMPRESSED_TYPE
        name = topics.IMAGE + (topics.COMPRESSED_SUFFIX if compressed else "")
        self._image = self.create_publisher(CompressedImage if compressed else Image, name, IMAGE_QOS)
        self._source_time = self.create_publisher(TimeReference, topics.SOURCE_TIME, ANSWER_QOS)
        for topic, kind in ((topics.TRUTH_POSES, InstrumentPoseArray), (topics.TRUTH_SEGMENTATION, Image)):
            if topic in bag.types:
                self._truth[topic] = self.create_publisher(kind, topic, ANSWER_QOS)
        answers = {topics.POSES: (InstrumentPoseArray, self._value("poses_topic"))}
        if self._value("record_segmentation"):
            answers[topics.SEGMENTATION] = (Image, self._value("segmentation_topic"))
        if self._value("output"):
            self._recorder = BagWriter(self._value("output"), compress=True)
            self._recorder.add_topic(topics.SOURCE_TIME, topics.TIME_REFERENCE_TYPE)
            self._recorder.add_topic(topics.POSES, topics.POSES_TYPE)
            if topics.TRUTH_POSES in self._truth:
                self._recorder.add_topic(topics.TRUTH_POSES, topics.POSES_TYPE)
            if topics.SEGMENTATION in answers:
                self._recorder.add_topic(topics.SEGMENTATION, topics.IMAGE_TYPE)
        for topic, (kind, subscribed) in answers.items():
            self._missing[topic] = set()
            # Raw, so that what is recorded is what was received, bit for bit.
            self.create_subscription(kind, subscribed, partial(self._receive, topic), ANSWER_QOS, raw=True)

    def _wait_for_tracker(self) -> None:
        assert self._image is not None
        end = time.monotonic() + self._value("wait_s")
        wanted = [self._value("poses_topic")]
        if self._value("record_segmentation"):
            wanted.append(self._value("segmentation_topic"))
        while self._image.get_subscription_count() < 1 or any(self.count_publishers(topic) < 1 for topic in wanted):
            if time.monotonic() > end:
                raise BagError(
                    f"No tracker was there within {self._value('wait_s'):g} s: nobody subscribes {self._image.topic_name}"
                    f" or publishes {wanted[0]}; start tracker_node with '-r image:={topics.IMAGE}' in the same ROS_DOMAIN_ID."
                )
            self._spin(0.02)
        # That the tracker's publishers are known here does not mean that it knows of these subscriptions: it makes pictures
        # only while someone subscribes, and an active tracker subscribes to images the moment it is ready.
        self._spin_until(time.monotonic() + _SETTLE_S)

    def _publish_all(self, bag: BagReader, topic: str, total: int) -> None:
        start: tuple[int, float] | None = None  # the first frame's stamp, and when it was due
        in_a_row = passed_over = 0
        with tqdm(total=total, desc="replay", unit="frame", disable=not self._value("progress"), leave=False) as bar:
            for index, frame in enumerate(bag.frames(topic)):
                if index >= total:
                    break
                if self.rate > 0:
                    start = start or (frame.stamp_ns, time.monotonic())
                    self._spin_until(start[1] + (frame.stamp_ns - start[0]) / NS / self.rate)
                    self._publish(frame)
                else:
                    in_a_row = 0 if self._ask(frame) else in_a_row + 1
                    if in_a_row:
                        passed_over += 1
                        if in_a_row == PATIENCE or passed_over == total:
                            raise self._no_answers(in_a_row, index)
                        self.get_logger().warning(
                            f"Frame {index} was sent {self.attempts} times and not answered; it is passed over."
                        )
                bar.update()
            if self.rate > 0:
                self._spin_until(time.monotonic() + self.timeout_s, lambda: not self._unanswered)

    def _ask(self, frame: BagFrame) -> bool:
        """Publish a frame until it is answered; whether it was, within the given number of attempts."""
        self._asked.clear()
        for stamps in self._missing.values():
            stamps.clear()
        for attempt in range(self.attempts):
            self.resent += attempt > 0
            self._publish(frame)
            if self._spin_until(time.monotonic() + self.timeout_s, lambda: not any(self._missing.values())):
                return True
        return False

    def _no_answers(self, count: int, last: int) -> BagError:
        frames = f"frame {last}" if count == 1 else f"the frames {last - count + 1} to {last}"
        return BagError(
            f"The tracker gave no answer to {frames} of {self._value('bag')}, each sent {self.attempts} times with"
            f" {self.timeout_s:g} s of patience; look at the tracker's own output, or raise timeout_s."
        )

    def _spin_until(self, end: float, done: Any = lambda: False) -> bool:
        """Receive answers until ``done()`` or the end (of time.monotonic); whether it was done."""
        while not done():
            remaining = end - time.monotonic()
            if remaining <= 0:
                return False
            self._spin(remaining)
        return True

    def _spin(self, timeout_s: float) -> None:
        if not self.context.ok():
            raise ExternalShutdownException
        self._executor.spin_once(timeout_sec=timeout_s)

    def _publish(self, frame: BagFrame) -> None:
        """Publish a frame and what is known about it, all under the time of now."""
        assert self._image is not None
        assert self._source_time is not None
        truth = frame.truth_poses
        array = deserialize_message(truth.data, InstrumentPoseArray) if truth is not None else None
        stamp = time.time_ns()
        data = restamp(frame.image.data, stamp)
        self._asked.add(stamp)
        self._unanswered.add(stamp)
        for stamps in self._missing.values():
            stamps.add(stamp)
        self._image.publish(data)
        self.published += 1
        header = Header(stamp=_time(stamp), frame_id=topics.CAMERA_FRAME)
        reference = TimeReference(header=header, time_ref=_time(frame.stamp_ns), source=Path(self._value("bag")).name)
        self._source_time.publish(reference)
        self._record(topics.SOURCE_TIME, serialize_message(reference), stamp)
        if array is not None:
            array.header.stamp = header.stamp
            for pose in array.poses:
                pose.header.stamp = header.stamp
            self._truth[topics.TRUTH_POSES].publish(array)
            self._record(topics.TRUTH_POSES, serialize_message(array), stamp)
        if frame.truth_segmentation is not None:
            self._truth[topics.TRUTH_SEGMENTATION].publish(restamp(frame.truth_segmentation.data, stamp))

    def _receive(self, topic: str, data: bytes) -> None:
        received = time.time_ns()
        self._record(topic, data, received)
        stamp = header_stamp_ns(data)
        if topic == topics.POSES and stamp in self._unanswered:
            self._unanswered = {other for other in self._unanswered if other > stamp}  # older ones were dropped
            self.answered += 1
        if stamp in self._asked:  # one answer to any of the attempts will do
            self._missing[topic].clear()

    def _record(self, topic: str, data: bytes, time_ns: int) -> None:
        if self._recorder is not None:
            self._recorder.write_raw(topic, data, time_ns)


def _time(ns: int) -> Any:
    return Time(sec=ns // NS, nanosec=ns % NS)


def _work() -> None:
    node = ReplayNode()
    try:
        node.replay()
        print(
            f"{NAME}: {node.published} frames published ({node.resent} of them again), {node.answered} answered",
            file=sys.stderr,
        )
    finally:
        node.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Replay one bag.

    Returns:
        0, 2 for a mistake of the user (one sentence on stderr), 130 when it was stopped before the end.
    """
    return run(NAME, _work, args, interrupted=EXIT_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
