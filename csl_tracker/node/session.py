"""The tracker node's work without ROS: load, activate, track, count and diagnose.

A node passes settings and frames to a session, and implements ``Outputs`` (publishing) and ``Surroundings`` (logging and
queries about the ROS graph). All methods are called from one thread; a worker thread tracks the frames.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from csl_tracker.arrival import Arrival
from csl_tracker.camera import CameraModel
from csl_tracker.clock import NS
from csl_tracker.drawing import colorize, draw_overlay
from csl_tracker.engines import create_engine
from csl_tracker.engines.device_loss import release_cached_memory
from csl_tracker.engines.fallback import FallbackEngine
from csl_tracker.errors import ImageError
from csl_tracker.messages.diagnostics import ERROR, OK
from csl_tracker.messages.images import UnusableImageError
from csl_tracker.node.activation import Activation
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
from csl_tracker.node.hints import set_at_start
from csl_tracker.node.session_ports import InputFrame, Outputs, Picture, Surroundings
from csl_tracker.node.timing import heartbeat_s, lease_s
from csl_tracker.node.tracker_parameters import Settings
from csl_tracker.node.worker import NewestItemWorker
from csl_tracker.rectification import rectify_result
from csl_tracker.results import TrackingResult
from csl_tracker.tracker import Tracker
from csl_tracker.weights import find_weights, load_weights

Image = npt.NDArray[np.uint8]

STOP_TIMEOUT_S = 5.0
"""How long to wait for the frame in progress when the process ends; deactivating does not wait."""

IDLE_STOP_S = 0.1
"""How long deactivating waits for the worker: an idle one ends at once, a busy one finishes its frame by itself."""

_HEAD_START_S = 0.001
"""Time for the worker thread to start on an image, until OpenCV and the network release the GIL."""


class TrackingSession:
    """Tracker, worker, settings, activation and counters of one node.

    Attributes:
        settings: Replaced as a whole when a parameter changes; the worker reads it once per frame.
        tracker: None while unconfigured.
        engine: Inference engine; None while unconfigured.
        was_active: Whether the session has ever been active.
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self.settings = settings
        self.tracker: Tracker | None = None
        self.engine: FallbackEngine | None = None
        self.was_active = False
        self._surroundings = surroundings
        self._weights: WeightsFile | None = None
        self._warmed_up = False
        self._generation = 0
        self._activation: Activation | None = None
        self._worker: NewestItemWorker[InputFrame] | None = None
        self._retired: list[NewestItemWorker[InputFrame]] = []
        """Workers of ended activations that are still tracking a frame with the present engine."""
        self._abandoned: list[NewestItemWorker[InputFrame]] = []
        """Workers whose engine has been unloaded in the meantime."""
        self._statistics = FrameStatistics(time.monotonic())
        self._camera: CameraModel | None = None
        self._camera_problem = ""
        self._enabled = True

    # --- life

    def load(self) -> None:
        """Load the weights, choose an engine and warm it up.

        Raises:
            CslTrackerError: The weights are unusable, or no engine can run them.
        """
        settings = self.settings
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
        self.tracker, self.engine, self._weights = tracker, engine, weights
        gc.collect()
        gc.freeze()  # exclude torch's objects, so that garbage collection does not delay frames

    def unload(self) -> None:
        """Free network, engine and device memory; a frame in progress keeps its engine until it is done."""
        self._abandoned, self._retired = [*self._abandoned, *self._busy_workers()], []
        self.tracker = self.engine = self._weights = None
        gc.unfreeze()
        gc.collect()  # a compiled network contains reference cycles
        release_cached_memory()

    def activate(self, outputs: Outputs) -> None:
        """Start a worker that publishes to ``outputs`` until :meth:`deactivate`. Requires :meth:`load`."""
        assert self.tracker is not None
        settings = self.settings
        self._generation += 1
        activation = self._activation = Activation(self._generation, self.tracker, time.monotonic())
        self._statistics = activation.statistics
        self._enabled = True
        self._camera, self._camera_problem = None, ""
        leased = settings.expected_rate > 0
        self._worker = NewestItemWorker(
            partial(self._track, activation, outputs),
            partial(self._report_failure, activation),
            "tracker",
            heartbeat=partial(activation.publish, outputs.assert_liveliness) if leased else None,
            heartbeat_s=heartbeat_s(settings.expected_rate) if leased else 1.0,
            idle=self.tracker.settle,
            after=self._busy_workers(),
        )
        self._worker.start()
        self.was_active = True

    def deactivate(self) -> None:
        """End the activation without waiting for the frame in progress, which is never published."""
        activation, self._activation = self._activation, None
        if activation is not None:
            activation.end()
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(IDLE_STOP_S):
            self._retired.append(worker)

    def close(self) -> bool:
        """Deactivate and wait up to :data:`STOP_TIMEOUT_S` for frames in progress.

        Returns:
            Whether all workers have ended.
        """
        self.deactivate()
        end = time.monotonic() + STOP_TIMEOUT_S
        return all(worker.stop(max(0.0, end - time.monotonic())) for worker in (*self._retired, *self._abandoned))

    def _busy_workers(self) -> list[NewestItemWorker[InputFrame]]:
        """Workers of ended activations that are still busy; releases the others."""
        self._retired, self._abandoned = (
            [worker for worker in workers if not worker.stop(0.0)] for workers in (self._retired, self._abandoned)
        )
        return list(self._retired)

    # --- input from the node

    def submit(self, frame: InputFrame) -> None:
        """Queue a frame for tracking; a newer frame replaces it. Ignored while inactive."""
        now, worker, activation = time.monotonic(), self._worker, self._activation
        if worker is None or activation is None:
            return
        self._statistics.receive(now)
        if not self._enabled or not activation.limiter.admit(now, self.settings.rate_limit):
            self._statistics.skip(now)
            return
        idle = worker.busy_s() == 0.0
        if worker.submit(frame):
            self._statistics.drop(now)
        elif idle:
            # The caller would otherwise keep the GIL for about 0.5 ms and delay the worker.
            time.sleep(_HEAD_START_S)

    def enable(self, enabled: bool) -> None:
        """Enable or disable tracking."""
        self._enabled = enabled

    def request_reset(self) -> None:
        """Reset all identities before the next frame."""
        if self._activation is not None:
            self._activation.reset_wanted.set()

    def set_camera(self, camera: CameraModel | None, problem: str = "") -> None:
        """Set the camera's calibration, or None and the reason why it cannot be used."""
        self._camera, self._camera_problem = camera, problem

    # --- a frame, in the worker thread

    def _track(self, activation: Activation, outputs: Outputs, frame: InputFrame) -> None:
        """Track one frame and publish the result unless the activation has ended."""
        tracker, settings = activation.tracker, self.settings
        image = frame.decode()
        subscribed = [kind for kind in outputs.subscribed_pictures() if settings.overlay or kind is not Picture.OVERLAY]
        if not self._prepare(activation, settings, frame.stamp_ns):
            return
        if not self._warmed_up:  # no size was configured: use that of the first image
            tracker.warm_up((image.shape[0], image.shape[1]))
            self._warmed_up = True
        stamp_s = frame.stamp_ns * 1e-9 if frame.stamp_ns else None
        result, make_label_map = tracker.localize(image, stamp_s, segmentation=bool(subscribed))
        pose_result = self._in_pose_frame(result, tracker, settings)
        label = tracker.model.label
        if not activation.publish(lambda: outputs.publish_poses(frame.header, pose_result, label)):  # before the pictures
            return
        latency_s = (self._surroundings.now_ns() - frame.stamp_ns) / NS if frame.stamp_ns else None
        activation.statistics.track(time.monotonic(), result.processing_time_s, latency_s)
        if make_label_map is not None:
            result = replace(result, label_map=make_label_map())
        for picture in subscribed:
            if result.label_map is not None or picture is Picture.OVERLAY:  # a landmark-only network has no label map
                drawn = _draw(picture, image, result, tracker)
                activation.publish(partial(outputs.publish_picture, picture, frame.header, drawn))

    def _prepare(self, activation: Activation, settings: Settings, stamp_ns: int) -> bool:
        """Apply changed limits, requested resets and jumps back in time before a frame.

        Returns:
            Whether to track the frame; False if a newer one arrived first.
        """
        tracker, newest_ns = activation.tracker, activation.order.newest_ns
        arrival = activation.order.classify(stamp_ns)
        if arrival is Arrival.LATE:
            activation.statistics.be_late(time.monotonic())
            self._surroundings.warn(
                "late",
                f"A frame arrived {(newest_ns - stamp_ns) / 1e6:.1f} ms after a newer one and was skipped, like all late"
                f" frames: find out what reorders {self._surroundings.describe_image_source()}.",
            )
            return False
        threshold = tracker.model.description.confidence_threshold if settings.threshold is None else settings.threshold
        if (tracker.max_instruments, tracker.confidence_threshold) != (settings.max_instruments, threshold):
            tracker.adjust(settings.max_instruments, settings.threshold)
        if arrival is Arrival.BACK:
            seconds = (newest_ns - stamp_ns) / NS
            self._surroundings.inform("time", f"The image stamps jumped back by {seconds:.3f} s; identities were reset.")
        if activation.reset_wanted.is_set() or arrival is Arrival.BACK:
            activation.reset_wanted.clear()
            tracker.reset()
        return True

    def _in_pose_frame(self, result: TrackingResult, tracker: Tracker, settings: Settings) -> TrackingResult:
        """Convert the result to the pixels selected by ``pose_frame``."""
        if settings.pose_frame == "raw":
            return result
        camera = self._camera
        if camera is None:
            problem = self._camera_problem or self._surroundings.explain_missing_camera_info()
            remedy = f"start this node with '{set_at_start('pose_frame', 'raw')}'"
            raise UnusableImageError("camera_info", f"{problem} Poses in rectified pixels need it; or {remedy}.")
        try:
            return rectify_result(result, camera, tracker.model.instruments.shaft_axis)
        except ImageError as error:
            raise UnusableImageError("camera_info", str(error)) from error

    def _report_failure(self, activation: Activation, frame: InputFrame, error: Exception) -> None:
        """Count an unusable frame by reason, and log a warning."""
        if not self._surroundings.is_alive() or activation.ended:
            return  # caused by the shutdown or deactivation
        reason = error.reason if isinstance(error, UnusableImageError) else type(error).__name__
        count = activation.statistics.fail(time.monotonic(), reason)
        self._surroundings.warn(f"frame: {reason}", f"Frame not used ({reason}, number {count} of this kind): {error}")

    # --- diagnostics

    def sums(self) -> FrameSums:
        """Counts and rates of the present or last activation."""
        return self._statistics.sums(time.monotonic())

    def is_active(self) -> bool:
        """Whether the session is active."""
        return self._activation is not None

    def ready(self) -> str:
        """Model, device and engine as text, for the log. Requires :meth:`load`."""
        assert self.tracker is not None
        assert self.engine is not None
        height, width = self.tracker.model.description.preprocessing.input_size
        reason = f" ({self.engine.reason})" if self.engine.reason else ""
        return (
            f"ready: model {self.tracker.model.label}, device {self.engine.device}, engine {self.engine.name}{reason},"
            f" input {width}x{height} px"
        )

    def diagnose(self, topic: str, notes: Sequence[str]) -> tuple[int, str]:
        """The worst level of an active session, and one sentence per finding.

        Args:
            topic: Topic of the images.
            notes: Further warnings, as sentences.
        """
        settings, worker = self.settings, self._worker
        own = [
            self.engine.fault if self.engine is not None else "",
            self._weights.change() if self._weights is not None else "",
        ]
        workers = [*([] if worker is None else [worker]), *self._busy_workers()]
        situation = Situation(
            topic=topic,
            stale_after_s=settings.stale_after,
            busy_s=max((worker.busy_s() for worker in workers), default=0.0),
            lease_s=lease_s(settings.expected_rate) if settings.expected_rate > 0 else None,
            enabled=self._enabled,
            notes=[note for note in (*own, *notes) if note],
        )
        return judge(self.sums(), situation)

    def values(self) -> dict[str, str]:
        """Counters, model, device and memory as keys and values, in display order."""
        return {**figures(self.sums()), **self._equipment()}

    def summary(self) -> str:
        """Counts of all frames, in one line."""
        total = self.sums().total
        unusable = {
            name.removeprefix("unusable: "): count for name, count in sorted(total.items()) if name.startswith("unusable")
        }
        processed = total["tracked"] + total["late"] + sum(unusable.values())
        dropped = total["received"] - total["skipped"] - processed  # includes a frame still queued when the worker ended
        skipped = f", {total['skipped']} skipped" if total["skipped"] else ""
        reasons = ", ".join(f"{count} {name}" for name, count in unusable.items())
        return f"{total['received']} frames received, {processed} processed, {dropped} dropped for a newer one{skipped}" + (
            f", unusable: {reasons}" if reasons else ""
        )

    def _equipment(self) -> dict[str, str]:
        if self.tracker is None or self.engine is None:
            return {}
        model = self.tracker.model
        values = {"model": model.label, "weights sha256": model.sha256, "engine": self.engine.name}
        if self.engine.reason:
            values["engine reason"] = self.engine.reason
        device = values["device"] = self.engine.device
        memory, temperature = memory_mb(), temperature_c()
        values["memory"] = "not known" if memory is None else f"{memory:.0f} MB"
        if device.startswith("cuda") and torch.cuda.is_available():
            values["device"] = f"{device} ({torch.cuda.get_device_name(device)})"
            values["device memory"] = f"{torch.cuda.memory_reserved(device) / 1e6:.0f} MB"
        values["temperature"] = "not known" if temperature is None else f"{temperature:.0f} C"
        return values


def _draw(picture: Picture, image: Image, result: TrackingResult, tracker: Tracker) -> Image:
    if result.label_map is not None and picture is Picture.SEGMENTATION:
        return result.label_map
    if result.label_map is not None and picture is Picture.SEGMENTATION_COLOR:
        return colorize(result.label_map, tracker.model.instruments)
    return draw_overlay(image, result, tracker.model.instruments)


def verdict(session: TrackingSession, state: str, fault: str, topic: str, notes: Sequence[str]) -> tuple[int, str]:
    """Level and message of the diagnostics in any lifecycle state."""
    if state == "active":
        return session.diagnose(topic, notes)
    return (ERROR, fault) if fault else (OK, f"The node is {state}.")
