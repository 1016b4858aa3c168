"""Tracking results of a frame, the source of messages and pose files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csl_tracker.pixels import Size


@dataclass(frozen=True)
class LandmarkEstimate:
    """One landmark of one instrument, in source-image px.

    Attributes:
        name: Landmark name.
        x: Column, px; integer coordinates are pixel centres; NaN if nothing was detected.
        y: Row, px, likewise.
        covariance: float64 (2, 2), px^2, of (x, y); NaN if nothing was detected.
        confidence: 0..1.
        visible: The confidence reaches the working threshold; below it, x and y hold the best guess.
    """

    name: str
    x: float
    y: float
    covariance: npt.NDArray[np.float64]
    confidence: float
    visible: bool


@dataclass(frozen=True)
class InstrumentEstimate:
    """One instrument in one frame.

    Attributes:
        track_id: Identity over time, from 1; constant while the instrument is tracked.
        slot: ``left``, ``right`` or a configured name.
        landmarks: All landmarks of the model, in its order.
        confidence: 0..1, mean over the visible landmarks (0 without any).
        shaft_angle: rad, from the image x axis to the shaft direction towards the tip, positive clockwise in the image (y
            points down); NaN if unknown.
        roi: (x, y, width, height) in px, bounding box of the visible landmarks clipped to the image; zeros without any.
        age_s: Seconds since the last measured pose of this track; 0 if measured in this frame.
        predicted: The pose was predicted, not measured in this frame.
    """

    track_id: int
    slot: str
    landmarks: tuple[LandmarkEstimate, ...]
    confidence: float
    shaft_angle: float
    roi: tuple[int, int, int, int]
    age_s: float = 0.0
    predicted: bool = False


@dataclass(frozen=True)
class TrackingResult:
    """Tracking result of one frame.

    Attributes:
        instruments: Detected instruments; empty if the frame was processed and none was detected.
        label_map: uint8 (H, W) at the source size; None if not requested.
        size: (height, width) of the source image, px.
        processing_time_s: From the image in memory to this result, s.
    """

    instruments: tuple[InstrumentEstimate, ...]
    label_map: npt.NDArray[np.uint8] | None
    size: Size
    processing_time_s: float
