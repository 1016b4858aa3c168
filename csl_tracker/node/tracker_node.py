"""``tracker_node``: images in, poses and a segmentation out.

    ros2 run csl_tracker tracker_node --ros-args -r image:=/camera/image_raw -p weights:=model.safetensors

A managed node: configuring loads the weights and warms up, activating subscribes and publishes, deactivating ends the worker,
cleaning up frees network and GPU. With the parameter ``autostart`` it does the first two by itself.

Subscribes ``image`` (newest frame only) and ``camera_info``. Publishes, with the image's own header:

- ``~/poses`` (InstrumentPoseArray), once for each image that was looked at, also when it is empty;
- ``~/pose`` (InstrumentPose), once for each instrument;
- ``~/segmentation`` (mono8 label map at the source size), ``~/segmentation/color`` and ``~/overlay`` (rgb8, and JPEG on their
  ``/compressed``), each made only while someone subscribes, and the camera's calibration beside them;

and ``/diagnostics`` once a second. Services: ``~/enable`` and ``~/reset``. docs/node.md tells all of it.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything that takes time, or may be missing
    import sys

    from csl_tracker.node.start import start

    sys.exit(start("tracker_node"))

import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from csl_tracker.arrival import Arrival
from csl_tracker.camera import CameraModel
from csl_tracker.drawing import colorize, draw_overlay
from csl_tracker.engines import create_engine
from csl_tracker.engines.device_loss import release_cached_memory
from csl_tracker.engines.fallback import FallbackEngine
from csl_tracker.errors import ConfigError, CslTrackerError, ImageError
from csl_tracker.messages import topics
from csl_tracker.messages.images import UnusableImageError, decode_compressed, fill_image, to_rgb
from csl_tracker.messages.poses import NS, make_pose_array, stamp_ns
from csl_tracker.node import inputs, qos
from csl_tracker.node.activation import Activation
from csl_tracker.node.camera_info_outputs import camera_info_publishers
from csl_tracker.node.cv_bridge import find_cv_bridge
from csl_tracker.node.diagnostics import (
    FrameStatistics,
    FrameSums,
    Situation,
    WeightsFile,
    figures,
    judge,
    memory_mb,
    temperature_c,
)
from csl_tracker.node.distributions import PublisherEventCallbacks, SubscriptionEventCallbacks
from csl_tracker.node.given import as_double, take_given
from csl_tracker.node.hints import set_at_start
from csl_tracker.node.lifecycle import SturdyLifecycleNode
from csl_tracker.node.optional_outputs import OptionalPublisher, optional_publishers
from csl_tracker.node.parameters import PARAMETERS, Change, Parameter, Settings, check, refusal
from csl_tracker.node.picture_outputs import PicturePublisher, picture_publisher
from csl_tracker.node.ros_types import ROS_TYPES
from csl_tracker.node.running import leave_stuck_threads, run, spin
from csl_tracker.node.timing import heartbeat_s, lease_s
from csl_tracker.node.worker import NewestItemWorker
from csl_tracker.rectification import rectify_result
from csl_tracker.results import TrackingResult
from csl_tracker.tracker import Tracker
from csl_tracker.watch import ERROR, OK
from csl_tracker.weights import find_weights, load_weights
from csl_tracker_msgs.msg import InstrumentPose, InstrumentPoseArray

Rgb = npt.NDArray[np.uint8]
ImageMessage = Any
"""A ``sensor_msgs`` Image or CompressedImage."""

_NAMES_COME_S = 0.5
"""A node is named this long after its publisher at the latest, on a machine that is not overloaded."""

_HEAD_START_S = 0.001
"""For the worker's thread, until its image is with OpenCV and the network, which leave the interpreter to others."""

WARNING_PERIOD_S = 5.0
"""A reason for unusable frames is named at most this often."""

DIAGNOSTICS_PERIOD_S = 1.0

STOP_TIMEOUT_S = 5.0
"""How long the frame at work may take to finish when the process ends; deactivating does not wait for it."""

IDLE_STOP_S = 0.1
"""How long deactivating waits for the worker: an idle one ends at once, and one at work is left to itself."""

INPUT_PATIENCE_S = 3.0
"""Discovery may take so long: before that no topic is said to be missing."""

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class TrackerNode(SturdyLifecycleNode):
    """The shell around a :class:`csl_tracker.tracker.Tracker`.

    Callbacks of ROS run in the executor's thread and frames in the worker's. The worker reads :attr:`_settings`, which is
    replaced as a whole; all else that the two share belongs to the :class:`Activation`.
    """

    def __init__(self, arguments: Sequence[str] | None = None, **node_arguments: Any) -> None:
        """Declare the parameters.

        Args:
            arguments: Command line of the process; None takes the process's own.
            node_arguments: See ``rclpy.node.Node``.

        Raises:
            ParameterException: A parameter was given with another type, or out of its range.
            ConfigError: A parameter is none of its choices, or unknown.
        """
        super().__init__(topics.TRACKER_NODE, **node_arguments)
        self._tracker: Tracker | None = None
        self._engine: FallbackEngine | None = None
        self._weights: WeightsFile | None = None
        self._model = ""
        self._fault: str = ""
        """Why the last configuration or activation failed."""
        self._cv_bridge: Any | None = None
        self._activation: Activation | None = None
        self._generation = 0
        self._worker: NewestItemWorker[ImageMessage] | None = None
        self._retired: list[NewestItemWorker[ImageMessage]] = []
        """Workers of ended activations that have yet to finish a frame with the present engine."""
        self._abandoned: list[NewestItemWorker[ImageMessage]] = []
        """Those whose engine was cleaned up meanwhile."""
        self._warmed_up = False
        self._subscriptions_of_active: list[Subscription] = []
        self._publishers_of_configured: list[Publisher] = []
        self._optional: tuple[OptionalPublisher, ...] = ()
        self._poses: Publisher | None = None
        self._pose: Publisher | None = None
        self._segmentation: Publisher | None = None
        self._segmentation_color: PicturePublisher | None = None
        self._overlay: PicturePublisher | None = None
        self._topic = ""
        self._image_qos = qos.image_qos("best_effort", 1)
        self._poses_qos = qos.POSE_QOS
        self._statistics = FrameStatistics(time.monotonic())
        self._camera: CameraModel | None = None
        self._camera_problem = ""
        self._camera_seen: Any | None = None
        self._camera_info: CameraInfo | None = None
        self._starting = False
        self._was_active = False
        self._enabled = True
        self._input_problem = ""
        """What was last logged of the topic of the images."""
        self._active_since_s = 0.0
        self._last_warning: dict[str, float] = {}
        take_given(self, {name: parameter.default for name, parameter in PARAMETERS.items()}, arguments)
        for name, parameter in PARAMETERS.items():
            self.declare_parameter(name, parameter.default, _descriptor(parameter))
        self._settings = Settings.of({name: self.get_parameter(name).value for name in PARAMETERS})
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/enable", self._enable)
        self.create_service(Trigger, "~/reset", self._reset)
        self.guard_services()
        # A clock that a bag's or a simulation's time does not stop.
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # --- transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the weights, choose the engine, warm it up, and make the publishers.

        Returns:
            SUCCESS leads to inactive; FAILURE, after one sentence in the log, leads to unconfigured.
        """
        return self._attempt(self._configure, self._clean_up)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker, subscribe, and say in one line what is running.

        Returns:
            SUCCESS leads to active, FAILURE to inactive.
        """
        return self._attempt(self._activate, self._deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the flow of images; a frame at work is not waited for, and never published. Leads to inactive."""
        self._deactivate()
        return _SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free network, engine and publishers; leads to unconfigured."""
        self._clean_up()
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Do all of it, from any state; leads to finalized."""
        self._deactivate()
        self._clean_up()
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Tidy up after a transition that went wrong in a way nobody thought of; leads to unconfigured."""
        self._deactivate()
        self._clean_up()
        return _SUCCESS

    def start(self) -> None:
        """Configure and activate, as ``autostart`` has it.

        Raises:
            ConfigError: One of the two has failed, and why.
        """
        self._starting = True
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() != _SUCCESS:
                raise ConfigError(self._fault or "The node could not be started; the log above tells why.")
        self._starting = False

    def destroy_node(self) -> None:
        """Leave the graph at once: rclpy keeps the state machine, and with it the DDS participant, until garbage collection."""
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def close(self) -> None:
        """End the flow of images and sum up. May be called at any time, also when ROS is shut down already."""
        self._deactivate()
        end = time.monotonic() + STOP_TIMEOUT_S
        workers = (*self._retired, *self._abandoned)
        if not all(worker.stop(max(0.0, end - time.monotonic())) for worker in workers):
            leave_stuck_threads()
        if not self._was_active:
            return
        total = self._statistics.sums(time.monotonic()).total
        unusable = ", ".join(
            f"{count} {name.removeprefix('unusable: ')}" for name, count in sorted(total.items()) if name.startswith("unusable")
        )
        skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
        processed = (
            total["tracked"] + total["late"] + sum(count for name, count in total.items() if name.startswith("unusable"))
        )
        dropped = total["received"] - total["skipped"] - processed  # the one that waited when the worker ended, too
        print(
            f"{topics.TRACKER_NODE}: {total['received']} frames received, {processed} processed,"
            f" {dropped} dropped for a newer one{skipped}" + (f", unusable: {unusable}" if unusable else ""),
            file=sys.stderr,  # after a signal /rosout is gone already
        )

    def _attempt(self, work: Any, undo: Any) -> TransitionCallbackReturn:
        """Do the work of a transition; undo it and say why when it cannot be done."""
        try:
            work()
        except CslTrackerError as error:
            self._fault = str(error)
        except Exception as error:  # rclpy swallows it, so that nobody would ever know
            self._fault = f"{type(error).__name__}: {error}"
        else:
            self._fault = ""
            return _SUCCESS
        if not self._starting:  # else it is said by who called start()
            self.get_logger().error(self._fault)
        undo()
        return _FAILURE

    def _configure(self) -> None:
        settings = self._settings
        path = str(find_weights(settings.weights))
        weights = WeightsFile.of(path)
        model = load_weights(path)
        engine = FallbackEngine.of(
            lambda: create_engine(model, settings.device, settings.engine, precision=settings.precision),
            lambda: create_engine(model, "cpu", "auto"),
            settings.device,
        )
        tracker = Tracker(model, engine, settings.max_instruments, settings.threshold, settings.always_report)
        size = (settings.warm_up_height, settings.warm_up_width)
        self._warmed_up = min(size) > 0
        if self._warmed_up:
            tracker.warm_up(size)
        self._cv_bridge = find_cv_bridge() if settings.image_transport == "raw" else None
        self._tracker, self._engine, self._weights = tracker, engine, weights
        self._model = model.label
        self._poses_qos = qos.poses_qos(settings.expected_rate)
        self._poses = self._publisher(InstrumentPoseArray, "~/poses", self._poses_qos)
        self._pose = self._publisher(InstrumentPose, "~/pose", qos.POSE_QOS)
        self._segmentation = self._publisher(Image, "~/segmentation", qos.PICTURE_QOS)
        picture = partial(self._publisher, profile=qos.PICTURE_QOS)
        self._segmentation_color = picture_publisher(picture, "~/segmentation/color")
        self._overlay = picture_publisher(picture, "~/overlay")
        self._optional = optional_publishers(self, model.instruments)
        self._optional += camera_info_publishers(self, lambda: self._camera_info)
        self._publishers_of_configured += [optional.publisher for optional in self._optional]
        gc.collect()
        gc.freeze()  # torch's objects stay: looking through them again and again would hold a frame up

    def _publisher(self, kind: Any, name: str, profile: QoSProfile) -> Publisher:
        topic = self.resolve_topic_name(name)

        def unfit(event: Any) -> None:
            self._explain_soon(topic, lambda: qos.explain_listener(self, topic, profile))

        publisher = self.create_publisher(kind, name, profile, event_callbacks=PublisherEventCallbacks(incompatible_qos=unfit))
        self._publishers_of_configured.append(publisher)
        return publisher

    def _clean_up(self) -> None:
        publishers, self._publishers_of_configured = self._publishers_of_configured, []
        for publisher in publishers:
            self.destroy_publisher(publisher)
        self._poses = self._pose = self._segmentation = self._segmentation_color = self._overlay = None
        self._optional = ()
        self._abandoned, self._retired = [*self._abandoned, *self._at_work()], []
        self._tracker = self._engine = self._weights = self._cv_bridge = None
        self._model = ""
        gc.unfreeze()
        gc.collect()  # a compiled network holds on to itself
        release_cached_memory()

    def _activate(self) -> None:
        assert self._tracker is not None
        assert self._engine is not None
        settings = self._settings
        self._generation += 1
        activation = self._activation = Activation(self._generation, self._tracker, time.monotonic())
        self._statistics = activation.statistics
        self._enabled = True
        self._input_problem, self._active_since_s = "", time.monotonic()
        self._camera, self._camera_problem, self._camera_seen = None, "", None
        self._camera_info = None
        leased = settings.expected_rate > 0
        beat = partial(activation.publish, self._poses.assert_liveliness) if leased and self._poses is not None else None
        self._worker = NewestItemWorker(
            partial(self._process, activation),
            partial(self._failed, activation),
            "tracker",
            heartbeat=beat,
            heartbeat_s=heartbeat_s(settings.expected_rate) if leased else 1.0,
            idle=self._tracker.settle,
            after=self._at_work(),
        )
        self._worker.start()
        self._was_active = True
        compressed = settings.image_transport == "compressed"
        # As image_transport does it: the remapped name of the image, with the transport's suffix.
        self._topic = self.resolve_topic_name("image") + (topics.COMPRESSED_SUFFIX if compressed else "")
        self._image_qos = qos.image_qos(settings.image_reliability, settings.image_depth)
        self._subscriptions_of_active = [
            self.create_subscription(CameraInfo, self._camera_info_topic(), self._take_camera_info, qos.CAMERA_INFO_QOS),
            self.create_subscription(
                CompressedImage if compressed else Image,
                self._topic,
                self._take_image,
                self._image_qos,
                event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._camera_does_not_fit),
            ),
        ]
        height, width = self._tracker.model.description.preprocessing.input_size
        self.get_logger().info(
            f"ready: model {self._model}, device {self._engine.device}, engine {self._engine.name}"
            + (f" ({self._engine.reason})" if self._engine.reason else "")
            + ","
            f" input {width}x{height} px, images from {self._topic}"
            + (", converted by cv_bridge" if self._cv_bridge is not None else "")
        )

    def _deactivate(self) -> None:
        subscriptions, self._subscriptions_of_active = self._subscriptions_of_active, []
        for subscription in subscriptions:
            self.destroy_subscription(subscription)
        activation, self._activation = self._activation, None
        if activation is not None:
            activation.end()
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(IDLE_STOP_S):
            self._retired.append(worker)

    def _at_work(self) -> list[NewestItemWorker[ImageMessage]]:
        """Workers of ended activations that have yet to finish a frame; the others, and what they hold, are let go."""
        self._retired, self._abandoned = (
            [worker for worker in workers if not worker.stop(0.0)] for workers in (self._retired, self._abandoned)
        )
        return list(self._retired)

    def _camera_info_topic(self) -> str:
        """``camera_info`` where it was remapped, else the sibling of the images."""
        resolved = str(self.resolve_topic_name("camera_info"))
        if resolved != f"{self.get_namespace().rstrip('/')}/camera_info":
            return resolved
        return str(self.resolve_topic_name("image")).rpartition("/")[0] + "/camera_info"

    # --- parameters and services

    def set_parameters_atomically(self, parameter_list: list[RosParameter]) -> SetParametersResult:
        """Set parameters, or refuse what cannot be changed now; rclpy's own refusals do not say what to do."""
        parameter_list = [
            as_double(one, PARAMETERS[one.name].default if one.name in PARAMETERS else None) for one in parameter_list
        ]
        for parameter in parameter_list:
            if parameter.name not in PARAMETERS:
                continue
            reason = refusal(parameter.name, self.state_name(), self.get_fully_qualified_name())
            try:
                check(parameter.name, parameter.value)
            except ConfigError as error:
                reason = reason or str(error)
            if reason is not None:
                return SetParametersResult(successful=False, reason=reason)
        result: SetParametersResult = super().set_parameters_atomically(parameter_list)
        if result.successful:
            self._settings = Settings.of({name: self.get_parameter(name).value for name in PARAMETERS})
        return result

    def _enable(self, request: Any, response: Any) -> Any:
        state = self.state_name()
        if state != "active":
            response.success, response.message = False, f"The node is {state}; activate it first."
            return response
        self._enabled = bool(request.data)
        response.success = True
        response.message = "Images are tracked." if self._enabled else "Images are ignored until ~/enable is called with true."
        return response

    def _reset(self, request: Any, response: Any) -> Any:
        state = self.state_name()
        response.success = state == "active"
        if response.success and self._activation is not None:
            self._activation.reset_wanted.set()
            response.message = "Identities are forgotten from the next image on."
        else:
            response.message = f"The node is {state} and has no identities."
        return response

    # --- images

    def _take_image(self, message: ImageMessage) -> None:
        now, worker, activation = time.monotonic(), self._worker, self._activation
        if worker is None or activation is None:
            return
        self._statistics.receive(now)
        if not self._enabled or not activation.limiter.admit(now, self._settings.rate_limit):
            self._statistics.skip(now)
            return
        idle = worker.busy_s() == 0.0
        if worker.submit(message):
            self._statistics.drop(now)
        elif idle:
            # What the executor does next is half a ms of Python, for which the worker would wait with the image in its hands.
            time.sleep(_HEAD_START_S)

    def _take_camera_info(self, message: Any) -> None:
        self._camera_info = message
        calibration = (message.width, message.height, *message.k, *message.d, message.distortion_model, *message.r, *message.p)
        if repr(calibration) == repr(self._camera_seen):  # NaN is equal to itself here
            return
        self._camera_seen = calibration
        try:
            self._camera = CameraModel.from_info(message)
            self._camera_problem = ""
        except ConfigError as error:
            self._camera, self._camera_problem = None, str(error)

    def _camera_does_not_fit(self, event: Any) -> None:
        self._explain_soon(self._topic, lambda: qos.explain_camera(self, self._topic, self._image_qos))

    def _explain_soon(self, topic: str, explain: Callable[[], list[str]]) -> None:
        """Log why two ends do not meet, a moment later: the name of the other end's node comes after the end itself."""

        def say() -> None:
            timer.cancel()
            self.destroy_timer(timer)
            self._log_once_in_a_while(topic, " ".join(explain()))

        timer = self.create_timer(_NAMES_COME_S, say, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _process(self, activation: Activation, message: ImageMessage) -> None:
        """Track one frame and publish what was found, while its activation lasts; runs in the worker's thread."""
        tracker, settings = activation.tracker, self._settings
        assert self._segmentation is not None
        assert self._segmentation_color is not None
        assert self._overlay is not None
        if isinstance(message, CompressedImage):
            image = decode_compressed(message.data, message.format)
        else:
            image = to_rgb(message, self._cv_bridge)
        pictures = [self._segmentation, self._segmentation_color, *([self._overlay] if settings.overlay else [])]
        wanted = [publisher for publisher in pictures if publisher.get_subscription_count() > 0]
        stamp = stamp_ns(message.header.stamp)
        if not self._prepare(activation, settings, stamp):
            return
        if not self._warmed_up:  # the first image's size is prepared, where none was given
            tracker.warm_up((image.shape[0], image.shape[1]))
            self._warmed_up = True
        result, make_label_map = tracker.begin(image, stamp * 1e-9 if stamp else None, segmentation=bool(wanted))
        found = self._in_pose_frame(result, tracker, settings)
        if not activation.publish(lambda: self._publish_poses(message.header, found)):  # nothing waits for a picture
            return
        latency = (self.get_clock().now().nanoseconds - stamp) / NS if stamp else None
        activation.statistics.track(time.monotonic(), result.processing_time_s, latency)
        if make_label_map is not None:
            result = replace(result, label_map=make_label_map())
        for publisher in wanted:
            if result.label_map is None and publisher is not self._overlay:
                continue  # a network that only localises
            picture = fill_image(Image(header=message.header), self._picture(publisher, image, result))
            activation.publish(partial(publisher.publish, picture))

    def _prepare(self, activation: Activation, settings: Settings, stamp: int) -> bool:
        """Bring the tracker up to date before a frame: its limits, its identities, and time that went back.

        Returns:
            Whether the frame is to be tracked: not one that comes late, behind a newer one.
        """
        tracker, newest = activation.tracker, activation.order.newest_ns
        arrival = activation.order.take(stamp)
        if arrival is Arrival.LATE:
            activation.statistics.be_late(time.monotonic())
            self._log_once_in_a_while(
                "late",
                f"A frame came {(newest - stamp) / 1e6:.1f} ms behind a newer one and is left out, as all that come late are:"
                f" see to what reorders {self._topic}, or to its publishers ({inputs.named_publishers(self, self._topic)}).",
            )
            return False
        threshold = tracker.model.description.confidence_threshold if settings.threshold is None else settings.threshold
        if (tracker.max_instruments, tracker.confidence_threshold) != (settings.max_instruments, threshold):
            tracker.adjust(settings.max_instruments, settings.threshold)
        if arrival is Arrival.BACK:
            seconds = (newest - stamp) / NS
            self._log_once_in_a_while(
                "time", f"The images' time went back by {seconds:.3f} s; identities begin anew.", info=True
            )
        if activation.reset_wanted.is_set() or arrival is Arrival.BACK:
            activation.reset_wanted.clear()
            tracker.reset()
        return True

    def _in_pose_frame(self, result: TrackingResult, tracker: Tracker, settings: Settings) -> TrackingResult:
        if settings.pose_frame == "raw":
            return result
        camera = self._camera
        if camera is None:
            topic = self._camera_info_topic()
            there = inputs.explain_topic(self, topic, topics.CAMERA_INFO_TYPE)
            problem = self._camera_problem or " ".join([f"No camera_info has come on {topic}.", *there])
            remedy = f"start this node with '{set_at_start('pose_frame', 'raw')}'"
            raise UnusableImageError("camera_info", f"{problem} Poses in rectified pixels need it; or {remedy}.")
        try:
            return rectify_result(result, camera, tracker.model.instruments.shaft_axis)
        except ImageError as error:
            raise UnusableImageError("camera_info", str(error)) from error

    def _publish_poses(self, header: Header, result: TrackingResult) -> None:
        assert self._poses is not None
        assert self._pose is not None
        array = make_pose_array(ROS_TYPES, header, result, self._model)
        self._poses.publish(array)
        if self._pose.get_subscription_count() > 0:
            for pose in array.poses:
                self._pose.publish(pose)
        for optional in self._optional:
            optional.publish(array)

    def _picture(self, publisher: Publisher | PicturePublisher, image: Rgb, result: TrackingResult) -> Rgb:
        assert self._tracker is not None
        if result.label_map is not None and publisher is self._segmentation:
            return result.label_map
        if result.label_map is not None and publisher is self._segmentation_color:
            return colorize(result.label_map, self._tracker.model.instruments)
        return draw_overlay(image, result, self._tracker.model.instruments)

    def _failed(self, activation: Activation, message: ImageMessage, error: Exception) -> None:
        """Count a frame by why it could not be used, and name it now and then; runs in the worker's thread."""
        if not self.context.ok() or activation.ended:
            return  # what it needed is gone, or going
        reason = error.reason if isinstance(error, UnusableImageError) else type(error).__name__
        count = activation.statistics.fail(time.monotonic(), reason)
        self._log_once_in_a_while(f"frame: {reason}", f"Frame not used ({reason}, number {count} of this kind): {error}")

    def _log_once_in_a_while(self, key: str, text: str, info: bool = False) -> None:
        now = time.monotonic()
        if not text or now - self._last_warning.get(key, -WARNING_PERIOD_S) < WARNING_PERIOD_S:
            return
        self._last_warning[key] = now
        if info:
            self.get_logger().info(text)
        else:
            self.get_logger().warning(text)

    # --- diagnostics

    def _publish_diagnostics(self) -> None:
        level, message, values = self._diagnose()
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f"{self.get_fully_qualified_name()}: tracking",
            message=message,
            hardware_id=self._topic,
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _diagnose(self) -> tuple[int, str, dict[str, str]]:
        state, sums = self.state_name(), self._statistics.sums(time.monotonic())
        values = {"state": state, **figures(sums), **self._equipment()}
        if state != "active":
            return (ERROR, self._fault, values) if self._fault else (OK, f"The node is {state}.", values)
        settings, worker = self._settings, self._worker
        notes = [
            self._engine.fault if self._engine is not None else "",
            self._weights.change() if self._weights is not None else "",
            *qos.explain_camera(self, self._topic, self._image_qos),
            *self._explain_input(sums),
        ]
        situation = Situation(
            topic=self._topic,
            stale_after_s=settings.stale_after,
            busy_s=max((one.busy_s() for one in (*([] if worker is None else [worker]), *self._at_work())), default=0.0),
            lease_s=lease_s(settings.expected_rate) if settings.expected_rate > 0 else None,
            enabled=self._enabled,
            notes=[note for note in notes if note],
        )
        return (*judge(sums, situation), values)

    def _explain_input(self, sums: FrameSums) -> list[str]:
        """Why no images come, on the topic's side; what is new is logged, too."""
        now, settings = time.monotonic(), self._settings
        silence_s = now - self._active_since_s if sums.silence_s is None else sums.silence_s
        if silence_s < max(settings.stale_after, INPUT_PATIENCE_S):
            self._input_problem = ""
            return []
        found = inputs.explain_images(self, self.resolve_topic_name("image"), settings.image_transport == "compressed")
        problem = " ".join(found)
        if problem and problem != self._input_problem:
            self.get_logger().warning(problem)
        self._input_problem = problem
        return found

    def _equipment(self) -> dict[str, str]:
        """Model, device and memory."""
        if self._tracker is None or self._engine is None:
            return {}
        values = {"model": self._model, "weights sha256": self._tracker.model.sha256, "engine": self._engine.name}
        if self._engine.reason:
            values["engine reason"] = self._engine.reason
        device = values["device"] = self._engine.device
        memory, temperature = memory_mb(), temperature_c()
        values["memory"] = "not known" if memory is None else f"{memory:.0f} MB"
        if device.startswith("cuda") and torch.cuda.is_available():
            values["device"] = f"{device} ({torch.cuda.get_device_name(device)})"
            values["device memory"] = f"{torch.cuda.memory_reserved(device) / 1e6:.0f} MB"
        values["temperature"] = "not known" if temperature is None else f"{temperature:.0f} C"
        return values


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    constraints = f"one of {parameter.range}" if parameter.choices else ""
    descriptor = ParameterDescriptor(
        description=f"{parameter.description} May be changed: {parameter.change.value}.",
        additional_constraints=constraints,
        read_only=parameter.change is Change.START,
    )
    if parameter.limits is not None and parameter.kind == "integer":
        low, high = (int(limit) for limit in parameter.limits)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    elif parameter.limits is not None:
        descriptor.floating_point_range = [FloatingPointRange(from_value=parameter.limits[0], to_value=parameter.limits[1])]
    return descriptor


def _work(arguments: Sequence[str] | None) -> None:
    node = TrackerNode(arguments)
    try:
        if node._settings.autostart:
            node.start()
        spin(node)
    finally:
        node.close()
        node.destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node until a signal comes.

    Returns:
        0, or 2 for a mistake of the user (one sentence on stderr).
    """
    return run(topics.TRACKER_NODE, partial(_work, args), args)
