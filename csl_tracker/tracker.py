"""The tracker: image in, instruments and label map out.

Usage without ROS:

>>> tracker = Tracker.from_weights(default_weights())
>>> result = tracker.track(image)                 # uint8 (H, W, 3), RGB
>>> result.instruments[0].landmarks[0].x
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csl_tracker.association import CANDIDATES, Associator
from csl_tracker.engines import Engine, create_engine
from csl_tracker.engines.base import EngineOutput, LabelMapMaker, PixelMap
from csl_tracker.errors import ConfigError, EngineError, ImageError
from csl_tracker.grouping import Group, Grouper
from csl_tracker.heatmaps import decode
from csl_tracker.identity import Identity, TrackAssigner
from csl_tracker.pixels import Size
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult
from csl_tracker.weights import Model, load_weights


class Tracker:
    """Tracks the instruments of one camera.

    Attributes:
        model: Network and description.
        engine: Inference engine.
        max_instruments: Maximum number of instruments in view.
        confidence_threshold: Minimum confidence of a visible landmark.
        always_report: Report ``max_instruments`` best guesses regardless of confidence.
    """

    def __init__(
        self,
        model: Model,
        engine: Engine,
        max_instruments: int = 2,
        confidence_threshold: float | None = None,
        always_report: bool = False,
    ) -> None:
        self.model = model
        self.engine = engine
        self.always_report = always_report
        self.adjust(max_instruments, confidence_threshold)
        self.assigner = TrackAssigner()
        self.frames = 0

    @classmethod
    def from_weights(
        cls,
        path: Path | str,
        device: str = "auto",
        engine: str = "auto",
        max_instruments: int = 2,
        confidence_threshold: float | None = None,
        always_report: bool = False,
        mirror: bool = False,
        precision: str = "auto",
    ) -> Tracker:
        """Load weights and choose the engine.

        Args:
            path: A ``.safetensors`` file of this package.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            engine: ``auto``, ``torch``, ``onnx``, ``openvino`` or ``tensorrt``.
            max_instruments: Maximum number of instruments in view, 1 to 8.
            confidence_threshold: 0..1; None for the model's default.
            always_report: Report ``max_instruments`` best guesses regardless of confidence; for evaluation, not for control.
            mirror: Average the network's outputs with those of the mirrored image; doubles the run time.
            precision: ``auto``, ``float32``, ``tf32``, ``float16`` or ``bfloat16``; see
                :func:`csl_tracker.engines.create_engine`.

        Raises:
            WeightsError: The file cannot be used.
            EngineError: The device or engine is not available.
            ConfigError: A number is out of range.
        """
        model = load_weights(path)
        made = create_engine(model, device, engine, mirror, precision)
        return cls(model, made, max_instruments, confidence_threshold, always_report)

    @property
    def engine_name(self) -> str:
        """Name of the selected engine."""
        return self.engine.name

    @property
    def device(self) -> str:
        """Selected device."""
        return self.engine.device

    def warm_up(self, size: Size) -> None:
        """Run one-time work for images of (height, width), such as compilation."""
        self.engine.warm_up(size, self._peaks)

    @property
    def _peaks(self) -> int:
        """Peaks of each landmark to look for: with an association, more than there are instruments."""
        return self.max_instruments if self.associator is None else max(CANDIDATES, self.max_instruments)

    def settle(self) -> None:
        """Run deferred work; call it while no frame is waiting."""
        self.engine.settle()

    def adjust(self, max_instruments: int, confidence_threshold: float | None) -> None:
        """Change the limits from the next frame on; identities are kept.

        Args:
            max_instruments: Maximum number of instruments in view, 1 to 8.
            confidence_threshold: 0..1; None for the model's default.

        Raises:
            ConfigError: A number is out of range; nothing is changed.
        """
        threshold = self.model.description.confidence_threshold if confidence_threshold is None else confidence_threshold
        if not 1 <= max_instruments <= 8:
            raise ConfigError(f"max_instruments is {max_instruments}; give a number from 1 to 8.")
        if not 0.0 <= threshold <= 1.0:
            raise ConfigError(f"confidence_threshold is {threshold}; give a number from 0 to 1.")
        self.max_instruments = max_instruments
        self.confidence_threshold = threshold
        self.grouper = Grouper(self.model.instruments, max_instruments, threshold)
        self.associator: Associator | None = None
        if self.model.description.network.association and not self.always_report:
            self.associator = Associator(self.model.instruments, max_instruments, threshold)

    def reset(self) -> None:
        """Reset the identities."""
        self.assigner.reset()
        self.frames = 0

    def track(self, image: npt.NDArray[np.uint8], stamp_s: float | None = None, segmentation: bool = True) -> TrackingResult:
        """Track the instruments in one frame.

        Args:
            image: uint8 (H, W, 3), RGB.
            stamp_s: Time of the frame, s; a jump back by more than 35 ms resets the identities. None assumes a frame
                interval of 40 ms.
            segmentation: Compute the label map at the source size.

        Raises:
            ImageError: The image has another shape or dtype, or is empty.
            EngineError: The network computed values that are not finite.
        """
        start = time.perf_counter()
        result, make_label_map = self.localize(image, stamp_s, segmentation)
        if make_label_map is None:
            return result
        return replace(result, label_map=make_label_map(), processing_time_s=time.perf_counter() - start)

    def localize(
        self, image: npt.NDArray[np.uint8], stamp_s: float | None = None, segmentation: bool = True
    ) -> tuple[TrackingResult, LabelMapMaker | None]:
        """:meth:`track` with lower latency: returns the instruments before the label map is computed.

        Returns:
            The result without a label map, and a function that computes it (call it before the next frame, if at all); None
            if not requested or the network does not segment.

        Raises:
            ImageError: The image has another shape or dtype, or is empty.
            EngineError: The network computed values that are not finite.
        """
        start = time.perf_counter()
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ImageError(
                f"An image of dtype {image.dtype} and shape {image.shape} cannot be tracked; give uint8 (H, W, 3) in RGB."
            )
        stamp = self.frames * 0.04 if stamp_s is None else stamp_s
        self.frames += 1
        output, make_label_map = self.engine.localize(image, segmentation, self._peaks)
        groups = self._groups(output)
        landmarks = self._landmarks(groups, output.to_source)
        size = (image.shape[0], image.shape[1])
        directions = [shaft_direction(found, self.model.instruments.shaft_axis) for found in landmarks]
        identities = self.assigner.update([_seen_points(found) for found in landmarks], directions, size, stamp)
        instruments = tuple(
            _instrument(found, direction, identity, size)
            for found, direction, identity in zip(landmarks, directions, identities, strict=True)
        )
        return TrackingResult(instruments, None, size, time.perf_counter() - start), make_label_map

    def _groups(self, output: EngineOutput) -> list[Group]:
        """Group the network output; raises EngineError if it is not finite, which must not look like an empty frame."""
        outputs = output.heatmaps if output.points is None else output.points
        if outputs is not None and outputs.size and not math.isfinite(outputs.max()):
            raise EngineError(
                f"The network {self.model.label} computed values that are not finite (engine {self.engine.name}, device"
                f" {self.engine.device}); use the precision float32, or other weights."
            )
        if output.points is not None:
            return self.grouper.group_regressed(output.points, self.always_report)
        assert output.foreground is not None
        peaks = output.peaks
        if peaks is None:
            assert output.heatmaps is not None
            peaks = decode(output.heatmaps, self.model.description.heatmap, self._peaks)
        if self.associator is not None:
            assert output.offsets is not None
            return self.associator.group(peaks, output.offsets).groups
        return self.grouper.group(peaks, output.foreground, self.always_report)

    def _landmarks(self, groups: Sequence[Group], to_source: PixelMap) -> list[tuple[LandmarkEstimate, ...]]:
        peaks = [peak for group in groups for peak in group if peak is not None]
        points = iter(to_source.points([(peak.x, peak.y) for peak in peaks]).tolist() if peaks else ())
        covariances = iter(to_source.covariances([peak.covariance for peak in peaks]) if peaks else ())
        return [self._instrument_landmarks(group, points, covariances) for group in groups]

    def _instrument_landmarks(
        self, group: Group, points: Iterator[tuple[float, float]], covariances: Iterator[npt.NDArray[np.float64]]
    ) -> tuple[LandmarkEstimate, ...]:
        """The landmarks of one instrument; consumes the next source coordinates of its peaks."""
        seen = sum(peak is not None and peak.confidence >= self.confidence_threshold for peak in group)
        # With always_report, a guess below the reporting limit must not count as visible.
        is_instrument = seen >= self.grouper.min_landmarks
        estimates = []
        for name, peak in zip(self.model.instruments.landmarks, group, strict=True):
            if peak is None:
                estimates.append(LandmarkEstimate(name, math.nan, math.nan, np.full((2, 2), math.nan), 0.0, False))
                continue
            (x, y), covariance = next(points), next(covariances)
            visible = is_instrument and peak.confidence >= self.confidence_threshold
            estimates.append(LandmarkEstimate(name, x, y, covariance, peak.confidence, visible))
        return tuple(estimates)


def shaft_direction(landmarks: Sequence[LandmarkEstimate], axis: tuple[str, str] | None) -> npt.NDArray[np.float64]:
    """Direction of the shaft towards the tip, from the visible landmarks.

    Args:
        landmarks: All landmarks, in the model's order.
        axis: Names of the two landmarks on the axis; if one is not visible, the first and the last visible landmark are
            used. None for a model without an axis.

    Returns:
        float64 (2,), a unit vector; NaN if unknown.
    """
    seen = {item.name: item for item in landmarks if item.visible}
    if axis is None or len(seen) < 2:
        return np.full(2, math.nan)
    if not (axis[0] in seen and axis[1] in seen):
        names = list(seen)
        axis = (names[0], names[-1])
    vector = np.array([seen[axis[1]].x - seen[axis[0]].x, seen[axis[1]].y - seen[axis[0]].y])
    length = math.hypot(vector[0], vector[1])
    return vector / length if length > 0 else np.full(2, math.nan)


def bounding_box(landmarks: Sequence[LandmarkEstimate], size: Size) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the box around the visible landmarks, px, clipped to the image; zeros without any."""
    seen = [(item.x, item.y) for item in landmarks if item.visible and math.isfinite(item.x) and math.isfinite(item.y)]
    if not seen:
        return (0, 0, 0, 0)
    spans = []
    for values, length in zip(zip(*seen, strict=True), (size[1], size[0]), strict=True):
        first, last = (min(max(value, 0), length - 1) for value in (math.floor(min(values)), math.ceil(max(values))))
        spans.append((first, last - first + 1))
    (x, width), (y, height) = spans
    return (x, y, width, height)


def shaft_angle(direction: npt.NDArray[np.float64]) -> float:
    """Angle from the image x axis, rad, positive clockwise in the image; NaN for an unknown direction."""
    return float(math.atan2(direction[1], direction[0])) if np.isfinite(direction).all() else math.nan


def _seen_points(landmarks: Sequence[LandmarkEstimate]) -> npt.NDArray[np.float64]:
    return np.array([(item.x, item.y) if item.visible else (math.nan, math.nan) for item in landmarks])


def _instrument(
    landmarks: tuple[LandmarkEstimate, ...], direction: npt.NDArray[np.float64], identity: Identity, size: Size
) -> InstrumentEstimate:
    seen = [item.confidence for item in landmarks if item.visible]
    return InstrumentEstimate(
        track_id=identity.track_id,
        slot=identity.slot,
        landmarks=landmarks,
        confidence=math.fsum(seen) / len(seen) if seen else 0.0,
        shaft_angle=shaft_angle(direction),
        roi=bounding_box(landmarks, size),
    )
