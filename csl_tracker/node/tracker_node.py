"""``tracker_node``: images in, poses and a segmentation out.

    ros2 run csl_tracker tracker_node --ros-args -r image:=/camera/image_raw -p weights:=model.safetensors

Subscribes ``image`` (best effort, newest frame only). Publishes, with the image's own header:

- ``~/poses`` (InstrumentPoseArray), once for each image that was looked at, also when it is empty;
- ``~/pose`` (InstrumentPose), once for each instrument;
- ``~/segmentation`` (mono8 label map at the source size), ``~/segmentation/color`` and ``~/overlay`` (rgb8), each made only
  while someone subscribes.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from csl_tracker.bags import topics
from csl_tracker.bags.messages import make_pose_array, stamp_ns
from csl_tracker.drawing import colorize, draw_overlay
from csl_tracker.errors import ConfigError
from csl_tracker.node.image_conversion import UnusableImageError, decode_compressed, fill_image, find_cv_bridge, to_rgb
from csl_tracker.node.messages import ROS_TYPES
from csl_tracker.node.running import run
from csl_tracker.node.worker import NewestItemWorker
from csl_tracker.results import TrackingResult
from csl_tracker.tracker import Tracker
from csl_tracker.weights import default_weights
from csl_tracker_msgs.msg import InstrumentPose, InstrumentPoseArray

Rgb = npt.NDArray[np.uint8]
ImageMessage = Any
"""A ``sensor_msgs`` Image or CompressedImage."""

WARNING_PERIOD_S = 5.0
"""A reason for unusable frames is named at most this often."""

STOP_TIMEOUT_S = 5.0
"""How long the frame at work may take to finish when the node stops."""

IMAGE_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
POSE_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
PICTURE_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)

# name -> (default, description, range or None)
PARAMETERS: dict[str, tuple[Any, str, tuple[float, float] | None]] = {
    "weights": ("", "Path of a .safetensors file of csl_tracker; empty takes the one that comes with the package.", None),
    "device": ("auto", "auto, cpu, cuda or cuda:N.", None),
    "engine": ("auto", "auto, torch or openvino.", None),
    "max_instruments": (2, "Largest number of instruments in view.", (1, 8)),
    "confidence_threshold": (
        -1.0,
        "Confidence from which a landmark counts as visible, 0 to 1; -1 takes the model's own.",
        (-1.0, 1.0),
    ),
    "always_report": (
        False,
        "Report max_instruments best guesses in each frame, however unsure: for measuring, not for control.",
        None,
    ),
    "image_transport": ("raw", "raw, or compressed: JPEG or PNG on <image>/compressed.", None),
    "warm_up_width": (
        720,
        "Width of the images to be expected, px: their size is prepared before the first one comes; 0 skips it.",
        (0, 16384),
    ),
    "warm_up_height": (576, "Height of the images to be expected, px.", (0, 16384)),
}


class TrackerNode(Node):  # type: ignore[misc]  # rclpy brings no types on some distributions
    """The shell around a :class:`csl_tracker.tracker.Tracker`.

    It is used as a lifecycle node will be: :meth:`configure` loads and may fail, :meth:`activate` starts the flow of
    images, :meth:`deactivate` ends it.
    """

    def __init__(self, **node_arguments: Any) -> None:
        """Declare the parameters.

        Raises:
            ParameterException: A parameter was given with another type, or out of its range.
        """
        super().__init__(topics.TRACKER_NODE, **node_arguments)
        self._tracker: Tracker | None = None
        self._model = ""
        self._cv_bridge: Any | None = None
        self._worker: NewestItemWorker[ImageMessage] | None = None
        self._subscription: Subscription | None = None
        self._poses: Publisher | None = None
        self._pose: Publisher | None = None
        self._segmentation: Publisher | None = None
        self._segmentation_color: Publisher | None = None
        self._overlay: Publisher | None = None
        self._unusable: Counter[str] = Counter()
        self._last_warning: dict[str, float] = {}
        for name, (default, description, limits) in PARAMETERS.items():
            self.declare_parameter(name, default, _descriptor(description, default, limits))
        self._warn_of_unknown_parameters()

    def configure(self) -> None:
        """Load the weights, choose the engine, warm it up, and make the publishers.

        Raises:
            CslTrackerError: Weights, engine or device cannot be had, or a parameter is wrong.
        """
        transport = self._value("image_transport")
        if transport not in ("raw", "compressed"):
            raise ConfigError(f"image_transport is {transport!r}; choose raw or compressed.")
        threshold = float(self._value("confidence_threshold"))
        tracker = Tracker.from_weights(
            self._value("weights") or default_weights(),
            device=self._value("device"),
            engine=self._value("engine"),
            max_instruments=self._value("max_instruments"),
            confidence_threshold=None if threshold < 0 else threshold,
            always_report=self._value("always_report"),
        )
        size = (self._value("warm_up_height"), self._value("warm_up_width"))
        if min(size) > 0:
            tracker.warm_up(size)
        self._tracker = tracker
        self._model = f"{tracker.model.name}@{tracker.model.short_hash}"
        self._cv_bridge = find_cv_bridge() if transport == "raw" else None
        self._poses = self.create_publisher(InstrumentPoseArray, "~/poses", POSE_QOS)
        self._pose = self.create_publisher(InstrumentPose, "~/pose", POSE_QOS)
        self._segmentation = self.create_publisher(Image, "~/segmentation", PICTURE_QOS)
        self._segmentation_color = self.create_publisher(Image, "~/segmentation/color", PICTURE_QOS)
        self._overlay = self.create_publisher(Image, "~/overlay", PICTURE_QOS)

    def activate(self) -> None:
        """Start the worker, subscribe, and say in one line what is running."""
        assert self._tracker is not None, "configure() comes first"
        self._worker = NewestItemWorker(self._process, self._failed, "tracker")
        self._worker.start()
        compressed = self._value("image_transport") == "compressed"
        # As image_transport does it: the remapped name of the image, with the transport's suffix.
        topic = self.resolve_topic_name("image") + (topics.COMPRESSED_SUFFIX if compressed else "")
        self._subscription = self.create_subscription(
            CompressedImage if compressed else Image, topic, self._worker.submit, IMAGE_QOS
        )
        height, width = self._tracker.model.description.preprocessing.input_size
        self.get_logger().info(
            f"ready: model {self._model}, device {self._tracker.device}, engine {self._tracker.engine_name},"
            f" input {width}x{height} px, images from {topic}"
            + (", converted by cv_bridge" if self._cv_bridge is not None else "")
        )

    def deactivate(self) -> None:
        """End the flow of images, let the frame at work finish, and sum up. May be called at any time."""
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.stop(STOP_TIMEOUT_S)
        unusable = ", ".join(f"{count} {reason}" for reason, count in sorted(self._unusable.items()))
        print(
            f"{topics.TRACKER_NODE}: {worker.received} frames received, {worker.processed} processed,"
            f" {worker.dropped} dropped for a newer one" + (f", unusable: {unusable}" if unusable else ""),
            file=sys.stderr,  # after a signal /rosout is gone already
        )

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _warn_of_unknown_parameters(self) -> None:
        """Name what was misspelt: ROS ignores it, and the node would run with other weights than were meant."""
        given = getattr(self, "_parameter_overrides", {})  # rclpy has no public name for them
        unknown = sorted(name for name in given if not self.has_parameter(name) and not name.startswith("qos_overrides."))
        if unknown:
            self.get_logger().warning(
                f"Unknown parameters are ignored: {', '.join(unknown)}; known are {', '.join(PARAMETERS)}."
            )

    def _process(self, message: ImageMessage) -> None:
        """Track one frame and publish what was found; runs in the worker's thread."""
        assert self._tracker is not None
        assert self._segmentation is not None
        assert self._segmentation_color is not None
        assert self._overlay is not None
        if isinstance(message, CompressedImage):
            image = decode_compressed(message.data, message.format)
        else:
            image = to_rgb(message, self._cv_bridge)
        wanted = [p for p in (self._segmentation, self._segmentation_color, self._overlay) if p.get_subscription_count() > 0]
        stamp = stamp_ns(message.header.stamp)
        result = self._tracker.track(image, stamp * 1e-9 if stamp else None, segmentation=bool(wanted))
        self._publish_poses(message.header, result)
        for publisher in wanted:
            if result.label_map is None and publisher is not self._overlay:
                continue  # a network that only localises
            publisher.publish(fill_image(Image(header=message.header), self._picture(publisher, image, result)))

    def _publish_poses(self, header: Header, result: TrackingResult) -> None:
        assert self._poses is not None
        assert self._pose is not None
        array = make_pose_array(ROS_TYPES, header, result, self._model)
        self._poses.publish(array)
        for pose in array.poses:
            self._pose.publish(pose)

    def _picture(self, publisher: Publisher, image: Rgb, result: TrackingResult) -> Rgb:
        assert self._tracker is not None
        if result.label_map is not None and publisher is self._segmentation:
            return result.label_map
        if result.label_map is not None and publisher is self._segmentation_color:
            return colorize(result.label_map, self._tracker.model.instruments)
        return draw_overlay(image, result, self._tracker.model.instruments)

    def _failed(self, message: ImageMessage, error: Exception) -> None:
        """Count a frame by why it could not be used, and name it now and then; runs in the worker's thread."""
        if not self.context.ok():
            return  # publishing failed because the node is shutting down
        reason = error.reason if isinstance(error, UnusableImageError) else type(error).__name__
        self._unusable[reason] += 1
        now = time.monotonic()
        if now - self._last_warning.get(reason, -WARNING_PERIOD_S) < WARNING_PERIOD_S:
            return
        self._last_warning[reason] = now
        self.get_logger().warning(f"Frame not used ({reason}, number {self._unusable[reason]} of this kind): {error}")


def _descriptor(description: str, default: Any, limits: tuple[float, float] | None) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if limits is not None and isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(limits[0]), to_value=int(limits[1]), step=1)]
    elif limits is not None:
        descriptor.floating_point_range = [FloatingPointRange(from_value=limits[0], to_value=limits[1])]
    return descriptor


def _work() -> None:
    node = TrackerNode()
    try:
        node.configure()
        node.activate()
        rclpy.spin(node)
    finally:
        node.deactivate()
        node.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a signal comes.

    Returns:
        0, or 2 for a mistake of the user (one sentence on stderr).
    """
    return run(topics.TRACKER_NODE, _work, args)


if __name__ == "__main__":
    sys.exit(main())
