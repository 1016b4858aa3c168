"""Transforms tracking results from the raw to the rectified image."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from csl_tracker.camera import CameraModel
from csl_tracker.errors import ImageError
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult
from csl_tracker.tracker import bounding_box, shaft_angle, shaft_direction


def rectify_result(result: TrackingResult, camera: CameraModel, axis: tuple[str, str] | None) -> TrackingResult:
    """Transform landmarks, covariances, boxes and angles to the rectified image; the label map stays raw.

    Landmarks where the lens model is not invertible (image corners) become invisible.

    Args:
        result: Tracking result in the raw image.
        camera: Calibration of the camera.
        axis: The model's shaft axis, see :func:`csl_tracker.tracker.shaft_direction`.

    Raises:
        ImageError: The image size differs from the calibrated size.
    """
    if result.size != (camera.height, camera.width):
        raise ImageError(
            f"The image is {result.size[1]}x{result.size[0]} px, but camera_info states {camera.width}x{camera.height} px;"
            " calibrate the camera at the size it publishes, or set pose_frame to raw."
        )
    instruments = tuple(_rectify(instrument, camera, axis, result) for instrument in result.instruments)
    return replace(result, instruments=instruments)


def _rectify(
    instrument: InstrumentEstimate, camera: CameraModel, axis: tuple[str, str] | None, result: TrackingResult
) -> InstrumentEstimate:
    points = np.array([(mark.x, mark.y) for mark in instrument.landmarks], np.float64).reshape(-1, 2)
    covariances = np.array([mark.covariance for mark in instrument.landmarks], np.float64).reshape(-1, 2, 2)
    rectified = camera.rectify_points(points)
    carried = camera.rectify_covariances(points, covariances)
    landmarks = tuple(
        _moved(mark, float(x), float(y), covariance)
        for mark, (x, y), covariance in zip(instrument.landmarks, rectified, carried, strict=True)
    )
    return replace(
        instrument,
        landmarks=landmarks,
        shaft_angle=shaft_angle(shaft_direction(landmarks, axis)),
        roi=bounding_box(landmarks, result.size),
    )


def _moved(mark: LandmarkEstimate, x: float, y: float, covariance: np.ndarray) -> LandmarkEstimate:  # type: ignore[type-arg]
    known = math.isfinite(x) and math.isfinite(y)
    return replace(mark, x=x, y=y, covariance=covariance, visible=mark.visible and known)
