"""Compares an engine with float32 torch on the same frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.engines.base import EngineOutput
from csl_tracker.heatmaps import decode
from csl_tracker.metrics import tool_overlap
from csl_tracker.weights import Model

Frame = tuple[npt.NDArray[np.uint8], "npt.NDArray[np.uint8] | None"]
"""An image, uint8 (H, W, 3) RGB, and its true label map, uint8 (H, W), or None."""

LARGEST_MEDIAN_PX = 0.1
"""Maximum median shift, source-image px; above it, the user must request the precision explicitly."""

_PEAKS = 2


class Runs(Protocol):
    """Runs images: an engine, or a part of one."""

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`csl_tracker.engines.base.Engine.run`."""


@dataclass(frozen=True)
class Comparison:
    """Differences between an engine and float32 torch.

    Attributes:
        frames: Number of compared frames.
        keypoints: Landmarks found by float32 torch at the model's working threshold.
        lost: Those without any peak in the engine's output.
        median_shift_px: Median distance to the nearest peak of the same landmark, source-image px; None without landmarks.
        largest_shift_px: Maximum of these distances.
        dice_between: DICE of the two tool masks, mean over the frames with a mask; None if the network does not segment.
        dice_change: Change of DICE against the ground truth, mean over the frames; None without ground truth.
    """

    frames: int
    keypoints: int
    lost: int
    median_shift_px: float | None
    largest_shift_px: float | None
    dice_between: float | None
    dice_change: float | None

    @property
    def moves_keypoints(self) -> bool:
        """Whether the shift is too large to use the engine without an explicit request."""
        return self.lost > 0 or (self.median_shift_px is not None and self.median_shift_px > LARGEST_MEDIAN_PX)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def compare(engine: Runs, reference: Runs, model: Model, frames: Iterable[Frame]) -> Comparison:
    """Run both engines on the same frames.

    Args:
        engine: The engine under test.
        reference: Float32 torch.
        model: The model of both.
        frames: Images with or without ground truth; processed one at a time.
    """
    count = lost = keypoints = 0
    shifts: list[float] = []
    between: list[float] = []
    changes: list[float] = []
    for image, truth in frames:
        count += 1
        expected, found = reference.run(image, True), engine.run(image, True)
        for wanted, given in zip(_keypoints(expected, model), _keypoints(found, model, threshold=0.0), strict=True):
            keypoints += len(wanted)
            lost += len(wanted) if not len(given) else 0
            if len(given):
                shifts += np.linalg.norm(wanted[:, None] - given[None], axis=-1).min(axis=1).tolist()
        if expected.label_map is None or found.label_map is None:
            continue
        if expected.label_map.any() or found.label_map.any():
            between.append(tool_overlap(found.label_map, expected.label_map).dice)
        if truth is not None:
            changes.append(tool_overlap(found.label_map, truth).dice - tool_overlap(expected.label_map, truth).dice)
    return Comparison(
        count,
        keypoints,
        lost,
        float(np.median(shifts)) if shifts else None,
        float(np.max(shifts)) if shifts else None,
        float(np.mean(between)) if between else None,
        float(np.mean(changes)) if changes else None,
    )


def _keypoints(output: EngineOutput, model: Model, threshold: float | None = None) -> list[FloatArray]:
    """Points of each landmark, (n, 2) in source-image px, above the given threshold (default: the working threshold)."""
    least = model.description.confidence_threshold if threshold is None else threshold
    if output.points is not None:
        by_landmark = output.points.transpose(1, 0, 2)
        return [output.to_source.points(points[points[:, 2] >= least][:, :2]) for points in by_landmark]
    assert output.heatmaps is not None
    found = decode(output.heatmaps, model.description.heatmap, _PEAKS)
    return [
        output.to_source.points(np.array([(peak.x, peak.y) for peak in peaks if peak.confidence >= least]).reshape(-1, 2))
        for peaks in found
    ]
