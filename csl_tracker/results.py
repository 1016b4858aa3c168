"""What the tracker says about a frame. The messages and the files of poses are made from these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csl_tracker.pixels import Size


@dataclass(frozen=True)
class LandmarkEstimate:
    """One landmark of one instrument, in px of the source image.

    Attributes:
        name: Landmark name.
        x: Column, px; integer coordinates are pixel centres; NaN without any guess.
        y: Row, px.
        covariance: float64 (2, 2), px^2, of (x, y); NaN without any guess.
        confidence: 0..1.
        visible: Confident enough at the working threshold. The guess is given all the same.
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
        track_id: Identity over time, from 1; kept while the instrument is followed.
        slot: ``left``, ``right`` or a configured name.
        landmarks: All landmarks of the model, in its order.
        confidence: 0..1, mean over the visible landmarks (0 when none is).
        shaft_angle: rad, from the image's x axis to the shaft's direction towards the tip, positive clockwise as seen (y
            points down); NaN when unknown.
        roi: (x, y, width, height) in px, the box around the visible landmarks clipped to the image; zeros without any.
        age_s: Seconds since the last measured pose of this track; 0 when measured in this frame.
        predicted: The pose was not measured in this frame but carried forward.
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
    """Everything that was found in one frame.

    Attributes:
        instruments: The instruments found; empty means: looked, and saw none.
        label_map: uint8 (H, W) at the source size; None when it was not asked for.
        size: (height, width) of the source image, px.
        processing_time_s: From the image in memory to this result, s.
    """

    instruments: tuple[InstrumentEstimate, ...]
    label_map: npt.NDArray[np.uint8] | None
    size: Size
    processing_time_s: float
