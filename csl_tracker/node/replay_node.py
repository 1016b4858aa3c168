"""``replay_node``: replays a bag's frames to a tracker and records the answers in a second bag.

    ros2 run csl_tracker replay_node --ros-args -p bag:=frames.mcap -p output:=poses.mcap

Publishes the images on ``publish_topic`` (or its ``/compressed``), the camera's calibration next to them if the bag has one,
and the bag's ground truth on ``/ground_truth/...``. Subscribes to the tracker's ``poses``.

In lock-step (``rate`` 0) the next frame follows the answer to the present one. An unanswered frame is sent again in case it was
lost, and skipped after ``attempts`` tries. With a ``rate`` the frames are published at that multiple of their own pace.

Each message is stamped with its publication time, so latency is the answer's reception time minus the stamp, on one clock. The
original stamp is published as ``/replay/source_time``. With ``stamps`` ``original`` all messages keep the bag's stamps, and
``clock`` publishes them as ``/clock`` for nodes with ``use_sim_time``; such a recording cannot be used to measure latency.

``~/pause`` (std_srvs/SetBool) pauses the replay before the next frame, and resumes it.
"""

from __future__ import annotations

if __name__ == "__main__":  # before slow or missing imports
    import sys

    from csl_tracker.node.start import start

    sys.exit(start("replay_node"))

import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, TimeReference
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from tqdm import tqdm

from csl_tracker.bags.errors import DamagedBagError
from csl_tracker.bags.frames import BagFrame
from csl_tracker.bags.image_topics import camera_info_topic
from csl_tracker.bags.notes import ORIGINAL_STAMPS
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.clock import NS
from csl_tracker.errors import BagError, ConfigError
from csl_tracker.messages import topics
from csl_tracker.messages.cdr import header_stamp_ns, restamp
from csl_tracker.node.declaration import declare_parameters
from csl_tracker.node.hints import remap_at_start
from csl_tracker.node.replay_parameters import PARAMETERS, PATIENCE, ReplaySettings
from csl_tracker.node.running import run
from csl_tracker_msgs.msg import InstrumentPoseArray

NAME = "replay_node"

IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
CLOCK_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""QoS with which rclcpp and rclpy subscribe to ``/clock``."""

ANSWER_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)

_CLOCK_PERIOD_S = 0.01
_PAUSE_POLL_S = 0.1

_SETTLE_S = 0.5
"""Time for discovery in both directions."""


class ReplayNode(Node):  # type: ignore[misc]
    """Publishes the frames of one bag and collects the answers."""

    def __init__(self, arguments: Sequence[str] | None = None, **node_arguments: Any) -> None:
        """Declare the parameters.

        Args:
            arguments: Command line; None for this process's own.
            node_arguments: See ``rclpy.node.Node``.

        Raises:
            ParameterException: Wrong type.
            ConfigError: Unknown name, or not one of the allowed choices.
        """
        super().__init__(NAME, **node_arguments)
        declare_parameters(self, PARAMETERS, arguments)
        self.settings = ReplaySettings.of({name: self.get_parameter(name).value for name in PARAMETERS})
        self.published = 0
        self.resent = 0
        self.answered = 0
        self._image: Publisher | None = None
        self._truth: dict[str, Publisher] = {}
        self._source_time: Publisher | None = None
        self._camera_info: Publisher | None = None
        self._clock_time: Publisher | None = None
        self._paused = False
        self._due = 0.0
        """Monotonic time at which the present frame is due."""
        self._last_ns: int | None = None
        """Stamp of the previous frame."""
        self._recorder: BagWriter | None = None
        self.create_service(SetBool, "~/pause", self._pause)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        # Stamps under which the present frame was published, and for each topic those that still lack an answer.
        self._asked: set[int] = set()
        self._missing: dict[str, set[int]] = {}
        self._unanswered: set[int] = set()

    def destroy_node(self) -> None:
        """Leave the graph. The executor ends first: rclpy fails over one that is collected after ROS was shut down."""
        self._executor.shutdown(timeout_sec=0)
        super().destroy_node()

    def replay(self) -> None:
        """Replay the whole bag.

        Raises:
            BagError: A bag cannot be read or written, or too many frames get no answer.
            ConfigError: A parameter is missing or invalid.
        """
        self.settings.check()
        self._check_topics()
        start, end = self.settings.start or None, self.settings.end or None
        with BagReader(self.settings.bag) as bag:
            topic = bag.image_topic(self.settings.image_topic or None)
            limit = self.settings.frames if self.settings.frames > 0 else None
            total = limit
            if start is None and end is None:
                total = min(bag.count(topic), limit or bag.count(topic))
            self._open(bag, topic)
            try:
                self._wait_for_tracker()
                while True:
                    self._publish_all(bag, topic, total, start, end)
                    if not self.settings.loop:
                        break
            except DamagedBagError:
                self._finish()  # keep the answers so far
                raise
            except BaseException:
                if self._recorder is not None:
                    self._recorder.abort()
                raise
            self._finish()

    def _finish(self) -> None:
        if self._recorder is not None:
            self._recorder.close()

    def _check_topics(self) -> None:
        for name in ("publish_topic", "poses_topic", "segmentation_topic"):
            value = getattr(self.settings, name)
            try:
                self.resolve_topic_name(value)
            except RuntimeError as error:  # the class is private to rclpy
                reason = str(error).rpartition(", at ")[0].rpartition(": ")[2]
                raise ConfigError(f"{name} is {value!r}, which is no valid topic name: {reason}.") from error

    def _pause(self, request: Any, response: Any) -> Any:
        self._paused = bool(request.data)
        response.success = True
        response.message = "Paused before the next frame." if self._paused else "Resumed."
        return response

    def _open(self, bag: BagReader, image_topic: str) -> None:
        """Create publishers, subscriptions and the recorder."""
        compressed = bag.types[image_topic] == topics.COMPRESSED_TYPE
        images = self.resolve_topic_name(self.settings.publish_topic, only_expand=True)  # a remapping is applied later
        name = images + (topics.COMPRESSED_SUFFIX if compressed else "")
        self._image = self.create_publisher(CompressedImage if compressed else Image, name, IMAGE_QOS)
        if not self.settings.original:
            self._source_time = self.create_publisher(TimeReference, topics.SOURCE_TIME, ANSWER_QOS)
        if bag.types.get(camera_info_topic(image_topic)) == topics.CAMERA_INFO_TYPE:
            self._camera_info = self.create_publisher(CameraInfo, camera_info_topic(images), IMAGE_QOS)
        if self.settings.clock:
            self._clock_time = self.create_publisher(Clock, "/clock", CLOCK_QOS)
        for topic, kind in ((topics.TRUTH_POSES, InstrumentPoseArray), (topics.TRUTH_SEGMENTATION, Image)):
            if topic in bag.annotated:
                self._truth[topic] = self.create_publisher(kind, topic, ANSWER_QOS)
        answers = {topics.POSES: (InstrumentPoseArray, self.settings.poses_topic)}
        if self.settings.record_segmentation:
            answers[topics.SEGMENTATION] = (Image, self.settings.segmentation_topic)
        if self.settings.output:
            self._recorder = self._open_recorder(topics.SEGMENTATION in answers)
        for topic, (kind, subscribed) in answers.items():
            self._missing[topic] = set()
            # Raw, so that messages are recorded exactly as received.
            self.create_subscription(kind, subscribed, partial(self._receive, topic), ANSWER_QOS, raw=True)

    def _open_recorder(self, with_segmentation: bool) -> BagWriter:
        original = self.settings.original
        recorder = BagWriter(self.settings.output, compress=True, custom=ORIGINAL_STAMPS if original else None)
        if not original:
            recorder.add_topic(topics.SOURCE_TIME, topics.TIME_REFERENCE_TYPE)
        recorder.add_topic(topics.POSES, topics.POSES_TYPE)
        if topics.TRUTH_POSES in self._truth:
            recorder.add_topic(topics.TRUTH_POSES, topics.POSES_TYPE)
        if with_segmentation:
            recorder.add_topic(topics.SEGMENTATION, topics.IMAGE_TYPE)
        return recorder

    def _wait_for_tracker(self) -> None:
        assert self._image is not None
        end = time.monotonic() + self.settings.wait_s
        wanted = [self.settings.poses_topic]
        if self.settings.record_segmentation:
            wanted.append(self.settings.segmentation_topic)
        while self._image.get_subscription_count() < 1 or any(self.count_publishers(topic) < 1 for topic in wanted):
            if time.monotonic() > end:
                image = self._image.topic_name.removesuffix(topics.COMPRESSED_SUFFIX)
                raise BagError(
                    f"No tracker appeared within {self.settings.wait_s:g} s: {self._image.topic_name} has no subscriber or"
                    f" {wanted[0]} has no publisher; start tracker_node with '{remap_at_start('image', image)}' in the same"
                    " ROS_DOMAIN_ID."
                )
            self._spin(0.02)
        # The tracker may not have discovered these subscriptions yet, and makes pictures only for subscribers.
        self._spin_until(time.monotonic() + _SETTLE_S)

    def _publish_all(self, bag: BagReader, topic: str, total: int | None, start_s: float | None, end_s: float | None) -> None:
        """Replay the bag, or a part of it, once."""
        self._last_ns = None
        in_a_row = skipped = count = 0
        with tqdm(total=total, desc="replay", unit="frame", disable=not self.settings.progress, leave=False) as bar:
            for index, frame in enumerate(bag.frames(topic, start_s, end_s)):
                if total is not None and index >= total:
                    break
                self._wait_until_due(frame)
                if self.settings.rate > 0:
                    self._publish(frame)
                else:
                    in_a_row = 0 if self._ask(frame) else in_a_row + 1
                    if in_a_row:
                        skipped += 1
                        if in_a_row == PATIENCE or skipped == total:
                            raise self._no_answers(in_a_row, index)
                        self.get_logger().warning(
                            f"Frame {index} was sent {self.settings.attempts} times without an answer; it is skipped."
                        )
                count += 1
                bar.update()
            if self.settings.rate > 0:
                self._spin_until(time.monotonic() + self.settings.timeout_s, lambda: not self._unanswered)
                self._unanswered.clear()
        if not count:
            raise BagError(
                f"The bag {bag.path} ({bag.duration_s:.1f} s) has no image on {topic} in the selected part; change start or"
                " end."
            )
        if skipped == count:
            raise self._no_answers(in_a_row, count - 1)

    def _wait_until_due(self, frame: BagFrame) -> None:
        """Wait until a frame is due at the rate, or while paused; a stamp earlier than the previous one is due at once."""
        before_ns = frame.stamp_ns if self._last_ns is None else self._last_ns
        step_s = max(frame.stamp_ns - before_ns, 0) / NS
        self._due = (
            self._due + step_s / self.settings.rate
            if self.settings.rate > 0 and self._last_ns is not None
            else time.monotonic()
        )
        self._last_ns = frame.stamp_ns
        self._spin(0.0)  # receive pause requests even when behind schedule
        while True:
            while self._paused:
                pause_began = time.monotonic()
                self._spin(_PAUSE_POLL_S)
                self._due += time.monotonic() - pause_began
            remaining = self._due - time.monotonic()
            if remaining <= 0:
                break
            passed_ns = frame.stamp_ns - round(remaining * self.settings.rate * NS)
            self._publish_clock(max(passed_ns, min(before_ns, frame.stamp_ns)))
            self._spin(remaining if self._clock_time is None else min(remaining, _CLOCK_PERIOD_S))
        self._publish_clock(frame.stamp_ns)

    def _publish_clock(self, ns: int) -> None:
        if self._clock_time is not None:
            self._clock_time.publish(Clock(clock=_time(ns)))

    def _ask(self, frame: BagFrame) -> bool:
        """Publish a frame until it is answered or ``attempts`` is reached; returns whether it was answered."""
        self._asked.clear()
        for stamps in self._missing.values():
            stamps.clear()
        for attempt in range(self.settings.attempts):
            self.resent += attempt > 0
            self._publish(frame)
            if self._spin_until(time.monotonic() + self.settings.timeout_s, lambda: not any(self._missing.values())):
                return True
        return False

    def _no_answers(self, count: int, last: int) -> BagError:
        frames = f"frame {last}" if count == 1 else f"the frames {last - count + 1} to {last}"
        return BagError(
            f"The tracker did not answer {frames} of {self.settings.bag}, each sent {self.settings.attempts} times with"
            f" {self.settings.timeout_s:g} s to answer; check the tracker's output, or raise timeout_s."
        )

    def _spin_until(self, end: float, done: Any = lambda: False) -> bool:
        """Receive answers until ``done()`` or the monotonic time ``end``; returns whether it was done."""
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
        """Publish a frame with its metadata, stamped with the present time or its original stamp."""
        assert self._image is not None
        truth = frame.truth_poses.data if frame.truth_poses is not None else None
        array = deserialize_message(truth, InstrumentPoseArray) if truth is not None and not self.settings.original else None
        stamp = frame.image.stamp_ns if self.settings.original else time.time_ns()
        self._unanswered.add(stamp)
        if self.settings.rate <= 0:
            self._asked.add(stamp)
            for stamps in self._missing.values():
                stamps.add(stamp)
        if self._camera_info is not None and frame.camera_info is not None:
            self._camera_info.publish(restamp(frame.camera_info.data, stamp))
        self._image.publish(restamp(frame.image.data, stamp))
        self.published += 1
        header = Header(stamp=_time(stamp), frame_id=topics.CAMERA_FRAME)
        if self._source_time is not None:
            reference = TimeReference(header=header, time_ref=_time(frame.stamp_ns), source=Path(self.settings.bag).name)
            self._source_time.publish(reference)
            self._record(topics.SOURCE_TIME, serialize_message(reference), stamp)
        if array is not None:
            array.header.stamp = header.stamp
            for pose in array.poses:
                pose.header.stamp = header.stamp
            truth = serialize_message(array)
        if truth is not None:
            self._truth[topics.TRUTH_POSES].publish(truth)
            self._record(topics.TRUTH_POSES, truth, stamp)
        if frame.truth_segmentation is not None:
            self._truth[topics.TRUTH_SEGMENTATION].publish(restamp(frame.truth_segmentation.data, stamp))

    def _receive(self, topic: str, data: bytes) -> None:
        stamp = header_stamp_ns(data)
        self._record(topic, data, stamp if self.settings.original else time.time_ns())
        if topic == topics.POSES and stamp in self._unanswered:
            self._unanswered = {other for other in self._unanswered if other > stamp}  # older ones were dropped
            self.answered += 1
        if stamp in self._asked:  # an answer to any attempt counts
            self._missing[topic].clear()

    def _record(self, topic: str, data: bytes, time_ns: int) -> None:
        if self._recorder is not None:
            self._recorder.write_raw(topic, data, time_ns)


def _time(ns: int) -> Any:
    return Time(sec=ns // NS, nanosec=ns % NS)


def _work(arguments: Sequence[str] | None) -> None:
    node = ReplayNode(arguments)
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
        0, also after a signal; 2 after a user error (with one sentence on stderr).
    """
    return run(NAME, partial(_work, args), args)
