"""``tracker_node``: tracks instruments in images and publishes poses and a segmentation.

    ros2 run csl_tracker tracker_node --ros-args -r image:=/camera/image_raw -p weights:=model.safetensors

A managed node: configuring loads the weights and warms up, activating subscribes and publishes, deactivating stops the worker,
cleaning up frees network and GPU. With the parameter ``autostart`` it configures and activates by itself.

Subscribes to ``image`` (newest frame only) and ``camera_info``. Publishes, with the image's header:

- ``~/poses`` (InstrumentPoseArray), once per processed image, even if empty;
- ``~/pose`` (InstrumentPose), once per instrument;
- ``~/segmentation`` (mono8 label map at the source size), ``~/segmentation/color`` and ``~/overlay`` (rgb8, and JPEG on
  ``/compressed``), each only for subscribers, with the camera's calibration next to them;

and ``/diagnostics`` once a second. Services: ``~/enable`` and ``~/reset``. See docs/node.md.

This module handles ROS; :mod:`csl_tracker.node.session` processes the frames.
"""

from __future__ import annotations

if __name__ == "__main__":  # before slow or missing imports
    import sys

    from csl_tracker.node.start import start

    sys.exit(start("tracker_node"))

import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from csl_tracker.camera import CameraModel
from csl_tracker.errors import ConfigError
from csl_tracker.messages import topics
from csl_tracker.messages.images import decode_compressed, to_rgb
from csl_tracker.messages.poses import stamp_ns
from csl_tracker.node import inputs, qos
from csl_tracker.node.cv_bridge import find_cv_bridge
from csl_tracker.node.distributions import SubscriptionEventCallbacks
from csl_tracker.node.managed_node import ManagedNode
from csl_tracker.node.running import leave_stuck_threads, run, spin
from csl_tracker.node.session import TrackingSession, verdict
from csl_tracker.node.session_ports import InputFrame
from csl_tracker.node.tracker_outputs import TrackerOutputs
from csl_tracker.node.tracker_parameters import PARAMETERS, Settings

INPUT_PATIENCE_S = 3.0
"""Time for discovery before a missing topic is reported."""


class TrackerNode(ManagedNode):
    """The ROS interface of a :class:`csl_tracker.node.session.TrackingSession`; implements its ``Surroundings``."""

    def __init__(self, arguments: Sequence[str] | None = None, **node_arguments: Any) -> None:
        """Declare the parameters and create the services.

        Args:
            arguments: Command line; None for this process's own.
            node_arguments: See ``rclpy.node.Node``.

        Raises:
            ParameterException: Wrong type, or out of range.
            ConfigError: Unknown name, or not one of the allowed choices.
        """
        super().__init__(topics.TRACKER_NODE, PARAMETERS, arguments, **node_arguments)
        self.session = TrackingSession(Settings.of(self.values()), self)
        self.outputs: TrackerOutputs | None = None
        self._cv_bridge: Any | None = None
        self._subscriptions_of_active: list[Subscription] = []
        self._topic = ""
        self._image_qos = qos.image_qos("best_effort", 1)
        self._camera_info: CameraInfo | None = None
        self._calibration_seen = ""
        self._input_problem = ""
        """Last logged problem of the image topic."""
        self._active_since_s = 0.0
        self.create_service(SetBool, "~/enable", self._enable)
        self.create_service(Trigger, "~/reset", self._reset)
        self.complete("tracking")

    # --- transitions

    def configure(self) -> None:
        """Load the weights, choose and warm up the engine, and create the publishers."""
        session = self.session
        session.load()
        self._cv_bridge = find_cv_bridge() if session.settings.image_transport == "raw" else None
        assert session.tracker is not None
        instruments = session.tracker.model.instruments
        self.outputs = TrackerOutputs(self, instruments, session.settings.expected_rate, lambda: self._camera_info)

    def clean_up(self) -> None:
        """Free network, engine and publishers."""
        outputs, self.outputs = self.outputs, None
        if outputs is not None:
            outputs.destroy()
        self._cv_bridge = None
        self.session.unload()

    def activate(self) -> None:
        """Start the worker, subscribe, and log the configuration."""
        assert self.outputs is not None
        settings = self.session.settings
        self._input_problem, self._active_since_s = "", time.monotonic()
        self._calibration_seen, self._camera_info = "", None
        self.session.activate(self.outputs)
        compressed = settings.image_transport == "compressed"
        # As in image_transport: the remapped image topic with the transport's suffix.
        self._topic = self.resolve_topic_name("image") + (topics.COMPRESSED_SUFFIX if compressed else "")
        self._image_qos = qos.image_qos(settings.image_reliability, settings.image_depth)
        self._subscriptions_of_active = [
            self.create_subscription(CameraInfo, self._camera_info_topic(), self._receive_camera_info, qos.CAMERA_INFO_QOS),
            self.create_subscription(
                CompressedImage if compressed else Image,
                self._topic,
                self._receive_image,
                self._image_qos,
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._explain_mismatch),
            ),
        ]
        converted = ", converted by cv_bridge" if self._cv_bridge is not None else ""
        self.get_logger().info(f"{self.session.ready()}, images from {self._topic}{converted}")

    def deactivate(self) -> None:
        """Stop tracking without waiting for the frame in progress, which is never published."""
        subscriptions, self._subscriptions_of_active = self._subscriptions_of_active, []
        for subscription in subscriptions:
            self.destroy_subscription(subscription)
        self.session.deactivate()

    def close(self) -> None:
        """Stop tracking and print a summary. Valid at any time, even after ROS has shut down."""
        self.deactivate()
        if not self.session.close():
            leave_stuck_threads()
        if self.session.was_active:  # on stderr: /rosout is unavailable after a signal
            print(f"{topics.TRACKER_NODE}: {self.session.summary()}", file=sys.stderr)

    # --- parameters and services

    def parameters_changed(self) -> None:
        """Pass the new settings to the session."""
        self.session.settings = Settings.of(self.values())

    def _enable(self, request: Any, response: Any) -> Any:
        state = self.state_name()
        response.success = state == "active"
        if not response.success:
            response.message = f"The node is {state}; activate it first."
            return response
        self.session.enable(bool(request.data))
        response.message = "Images are tracked." if request.data else "Images are ignored until ~/enable is called with true."
        return response

    def _reset(self, request: Any, response: Any) -> Any:
        state = self.state_name()
        response.success = state == "active"
        if response.success:
            self.session.request_reset()
            response.message = "Identities are reset at the next image."
        else:
            response.message = f"The node is {state} and has no identities."
        return response

    # --- messages

    def _receive_image(self, message: Any) -> None:
        if isinstance(message, CompressedImage):
            decode = partial(decode_compressed, message.data, message.format)
        else:
            decode = partial(to_rgb, message, self._cv_bridge)
        self.session.submit(InputFrame(stamp_ns(message.header.stamp), message.header, decode))

    def _receive_camera_info(self, message: Any) -> None:
        self._camera_info = message
        calibration = (message.width, message.height, *message.k, *message.d, message.distortion_model, *message.r, *message.p)
        if repr(calibration) == self._calibration_seen:  # as text, where NaN equals itself
            return
        self._calibration_seen = repr(calibration)
        try:
            self.session.set_camera(CameraModel.from_info(message))
        except ConfigError as error:
            self.session.set_camera(None, str(error))

    def _camera_info_topic(self) -> str:
        """``camera_info`` if remapped, else the one next to the images."""
        resolved = str(self.resolve_topic_name("camera_info"))
        if resolved != f"{self.get_namespace().rstrip('/')}/camera_info":
            return resolved
        return str(self.resolve_topic_name("image")).rpartition("/")[0] + "/camera_info"

    def _explain_mismatch(self, event: Any) -> None:
        self.explain_soon(self._topic, lambda: qos.explain_camera(self, self._topic, self._image_qos))

    # --- the session's Surroundings

    def warn(self, key: str, text: str) -> None:
        """Log a warning, at a limited rate."""
        self.log_now_and_then(key, text)

    def inform(self, key: str, text: str) -> None:
        """Log an info message, at a limited rate."""
        self.log_now_and_then(key, text, info=True)

    def now_ns(self) -> int:
        """Time on the node's clock, ns."""
        return int(self.get_clock().now().nanoseconds)

    def is_alive(self) -> bool:
        """Whether ROS is running."""
        return bool(self.context.ok())

    def describe_image_source(self) -> str:
        """The image topic and its publishers, as text."""
        return f"{self._topic}, or its publishers ({inputs.named_publishers(self, self._topic)})"

    def explain_missing_camera_info(self) -> str:
        """Why no calibration has arrived."""
        topic = self._camera_info_topic()
        reasons = inputs.explain_topic(self, topic, topics.CAMERA_INFO_TYPE)
        return " ".join([f"No camera_info received on {topic}.", *reasons])

    # --- diagnostics

    def hardware_id(self) -> str:
        """The image topic."""
        return self._topic

    def diagnose(self) -> tuple[int, str, dict[str, str]]:
        """Level, message and values of the diagnostics."""
        state = self.state_name()
        notes = [] if state != "active" else [*qos.explain_camera(self, self._topic, self._image_qos), *self._explain_silence()]
        return (*verdict(self.session, state, self.fault, self._topic, notes), {"state": state, **self.session.values()})

    def _explain_silence(self) -> list[str]:
        """Why no images arrive; logged when the reason changes."""
        now, settings, silence_s = time.monotonic(), self.session.settings, self.session.sums().silence_s
        if silence_s is None:
            silence_s = now - self._active_since_s
        if silence_s < max(settings.stale_after, INPUT_PATIENCE_S):
            self._input_problem = ""
            return []
        found = inputs.explain_images(self, self.resolve_topic_name("image"), settings.image_transport == "compressed")
        problem = " ".join(found)
        if problem and problem != self._input_problem:
            self.get_logger().warning(problem)
        self._input_problem = problem
        return found


def _work(arguments: Sequence[str] | None) -> None:
    node = TrackerNode(arguments)
    try:
        if node.session.settings.autostart:
            node.start()
        spin(node)
    finally:
        node.close()
        node.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a signal arrives.

    Returns:
        0, or 2 after a user error (with one sentence on stderr).
    """
    return run(topics.TRACKER_NODE, partial(_work, args), args)
