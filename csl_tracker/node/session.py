"""What the tracker node does with frames, free of ROS: load, activate, track, count, diagnose.

A node gives a session its settings and its frames, ``Outputs`` to publish with, and ``Surroundings`` to log with and to ask
about the graph. Callers use one thread; frames are tracked in the thread of a worker.
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
"""How long the frame at work may take to finish when the process ends; deactivating does not wait for it."""

IDLE_STOP_S = 0.1
"""How long deactivating waits for the worker: an idle worker ends at once, a busy one finishes its frame by itself."""

_HEAD_START_S = 0.001
"""For the worker's thread, until OpenCV and the network have its image: they release the interpreter."""


class TrackingSession:
    """Tracker, worker, settings, activation and counters of one node.

    Attributes:
        settings: Replaced as a whole when a parameter changes; the worker reads it once a frame.
        tracker: None while unconfigured.
        engine: What runs the network; None while unconfigured.
        was_active: Whether it has ever been activated.
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
        """Workers of ended activations that have yet to finish a frame with the present engine."""
        self._abandoned: list[NewestItemWorker[InputFrame]] = []
        """Workers whose engine was unloaded meanwhile."""
        self._statistics = FrameStatistics(time.monotonic())
        self._camera: CameraModel | None = None
        self._camera_problem = ""
        self._enabled = True

    # --- life

    def load(self) -> None:
        """Load the weights, choose an engine and warm it up.

        Raises:
            CslTrackerError: The weights cannot be used, or no engine runs them.
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
        gc.freeze()  # torch's objects stay: a garbage collection that walks through them would delay a frame

    def unload(self) -> None:
        """Free network, engine and device memory; a frame that is still at work keeps its own engine until it is done."""
        self._abandoned, self._retired = [*self._abandoned, *self._busy_workers()], []
        self.tracker = self.engine = self._weights = None
        gc.unfreeze()
        gc.collect()  # a compiled network holds on to itself
        release_cached_memory()

    def activate(self, outputs: Outputs) -> None:
        """Start a worker; its results go to ``outputs`` until :meth:`deactivate`. The session is loaded."""
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
        """End the activation. The frame at work is not waited for, and never published."""
        activation, self._activation = self._activation, None
        if activation is not None:
            activation.end()
        worker, self._worker = self._worker, None
        if worker is not None and not worker.stop(IDLE_STOP_S):
            self._retired.append(worker)

    def close(self) -> bool:
        """Deactivate and wait for the frames at work, :data:`STOP_TIMEOUT_S` at most.

        Returns:
            Whether all workers have ended.
        """
        self.deactivate()
        end = time.monotonic() + STOP_TIMEOUT_S
        return all(worker.stop(max(0.0, end - time.monotonic())) for worker in (*self._retired, *self._abandoned))

    def _busy_workers(self) -> list[NewestItemWorker[InputFrame]]:
        """Workers of ended activations that have yet to finish a frame; the others, and what they hold, are released."""
        self._retired, self._abandoned = (
            [worker for worker in workers if not worker.stop(0.0)] for workers in (self._retired, self._abandoned)
        )
        return list(self._retired)

    # --- what the node passes on

    def submit(self, frame: InputFrame) -> None:
        """Hand over a frame; the newest alone is tracked. Ignored while inactive."""
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
            # The caller goes on with half a ms of Python, for which the worker would wait with the image in its hands.
            time.sleep(_HEAD_START_S)

    def enable(self, enabled: bool) -> None:
        """Track frames, or skip them until enabled again."""
        self._enabled = enabled

    def request_reset(self) -> None:
        """Forget all identities before the next frame."""
        if self._activation is not None:
            self._activation.reset_wanted.set()

    def set_camera(self, camera: CameraModel | None, problem: str = "") -> None:
        """Take the camera's calibration, or the sentence that says why it cannot be used."""
        self._camera, self._camera_problem = camera, problem

    # --- a frame, in the worker's thread

    def _track(self, activation: Activation, outputs: Outputs, frame: InputFrame) -> None:
        """Track one frame and publish what was found while its activation lasts."""
        tracker, settings = activation.tracker, self.settings
        image = frame.decode()
        subscribed = [one for one in outputs.subscribed_pictures() if settings.overlay or one is not Picture.OVERLAY]
        if not self._prepare(activation, settings, frame.stamp_ns):
            return
        if not self._warmed_up:  # the first image's size is prepared where none was given
            tracker.warm_up((image.shape[0], image.shape[1]))
            self._warmed_up = True
        stamp_s = frame.stamp_ns * 1e-9 if frame.stamp_ns else None
        result, make_label_map = tracker.localize(image, stamp_s, segmentation=bool(subscribed))
        found = self._in_pose_frame(result, tracker, settings)
        label = tracker.model.label
        if not activation.publish(lambda: outputs.publish_poses(frame.header, found, label)):  # nothing waits for a picture
            return
        latency_s = (self._surroundings.now_ns() - frame.stamp_ns) / NS if frame.stamp_ns else None
        activation.statistics.track(time.monotonic(), result.processing_time_s, latency_s)
        if make_label_map is not None:
            result = replace(result, label_map=make_label_map())
        for picture in subscribed:
            if result.label_map is not None or picture is Picture.OVERLAY:  # a network that only localises has no label map
                drawn = _draw(picture, image, result, tracker)
                activation.publish(partial(outputs.publish_picture, picture, frame.header, drawn))

    def _prepare(self, activation: Activation, settings: Settings, stamp_ns: int) -> bool:
        """Bring the tracker up to date before a frame: its limits, its identities, and time that went back.

        Returns:
            Whether the frame is to be tracked: not one that comes late, behind a newer one.
        """
        tracker, newest_ns = activation.tracker, activation.order.newest_ns
        arrival = activation.order.classify(stamp_ns)
        if arrival is Arrival.LATE:
            activation.statistics.be_late(time.monotonic())
            self._surroundings.warn(
                "late",
                f"A frame came {(newest_ns - stamp_ns) / 1e6:.1f} ms behind a newer one and is left out, as all late frames"
                f" are: look for what reorders {self._surroundings.describe_image_source()}.",
            )
            return False
        threshold = tracker.model.description.confidence_threshold if settings.threshold is None else settings.threshold
        if (tracker.max_instruments, tracker.confidence_threshold) != (settings.max_instruments, threshold):
            tracker.adjust(settings.max_instruments, settings.threshold)
        if arrival is Arrival.BACK:
            seconds = (newest_ns - stamp_ns) / NS
            self._surroundings.inform("time", f"The images' time went back by {seconds:.3f} s; identities begin anew.")
        if activation.reset_wanted.is_set() or arrival is Arrival.BACK:
            activation.reset_wanted.clear()
            tracker.reset()
        return True

    def _in_pose_frame(self, result: TrackingResult, tracker: Tracker, settings: Settings) -> TrackingResult:
        """The result in the pixels that ``pose_frame`` asks for."""
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
        """Count a frame by why it could not be used, and name the reason now and then."""
        if not self._surroundings.is_alive() or activation.ended:
            return  # what it needed is gone, or going
        reason = error.reason if isinstance(error, UnusableImageError) else type(error).__name__
        count = activation.statistics.fail(time.monotonic(), reason)
        self._surroundings.warn(f"frame: {reason}", f"Frame not used ({reason}, number {count} of this kind): {error}")

    # --- what it says of itself

    def sums(self) -> FrameSums:
        """Counts and rates of the present activation, or of the last one."""
        return self._statistics.sums(time.monotonic())

    def is_active(self) -> bool:
        """Whether frames are tracked."""
        return self._activation is not None

    def ready(self) -> str:
        """What is running, in one clause; the session is loaded."""
        assert self.tracker is not None
        assert self.engine is not None
        height, width = self.tracker.model.description.preprocessing.input_size
        reason = f" ({self.engine.reason})" if self.engine.reason else ""
        return (
            f"ready: model {self.tracker.model.label}, device {self.engine.device}, engine {self.engine.name}{reason},"
            f" input {width}x{height} px"
        )

    def diagnose(self, topic: str, notes: Sequence[str]) -> tuple[int, str]:
        """The level of the worst finding of an active session, and a sentence for each.

        Args:
            topic: Where the images come from.
            notes: Sentences of what else is not as it should be.
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
            busy_s=max((one.busy_s() for one in workers), default=0.0),
            lease_s=lease_s(settings.expected_rate) if settings.expected_rate > 0 else None,
            enabled=self._enabled,
            notes=[note for note in (*own, *notes) if note],
        )
        return judge(self.sums(), situation)

    def values(self) -> dict[str, str]:
        """Counters, model, device and memory as key and value, in the order to show them."""
        return {**figures(self.sums()), **self._equipment()}

    def summary(self) -> str:
        """What became of all frames, in one line."""
        total = self.sums().total
        unusable = {
            name.removeprefix("unusable: "): count for name, count in sorted(total.items()) if name.startswith("unusable")
        }
        processed = total["tracked"] + total["late"] + sum(unusable.values())
        dropped = total["received"] - total["skipped"] - processed  # counts the frame that waited when the worker ended, too
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
    """Level and message of the diagnostics in any state of the node."""
    if state == "active":
        return session.diagnose(topic, notes)
    return (ERROR, fault) if fault else (OK, f"The node is {state}.")
