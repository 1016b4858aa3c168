"""Does it move the keypoints? An engine against float32 torch on the same frames."""

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
"""An image, uint8 (H, W, 3) RGB, and its true label map, uint8 (H, W), where there is one."""

LARGEST_MEDIAN_PX = 0.1
"""Median shift, px of the source image, above which an engine runs only where the user has asked for its precision."""

_PEAKS = 2


class Runs(Protocol):
    """What is compared: an engine, or the part of one that runs whole images."""

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`csl_tracker.engines.base.Engine.run`."""


@dataclass(frozen=True)
class Comparison:
    """What an engine changes.

    Attributes:
        frames: Frames that both have seen.
        keypoints: Landmarks that float32 torch finds with the model's working threshold.
        lost: Of these, landmarks for which the other has no peak at all.
        median_shift_px: Median distance to the other's nearest peak of the same landmark, px of the source image; None without
            any landmarks.
        largest_shift_px: Largest such distance.
        dice_between: DICE of the two tool masks, mean over the frames on which either has any; None where the network does not
            segment.
        dice_change: DICE against the truth, less float32 torch's; mean over the frames. None without truth.
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
        """Whether the shift is such that only an explicit choice of the user may allow it."""
        return self.lost > 0 or (self.median_shift_px is not None and self.median_shift_px > LARGEST_MEDIAN_PX)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def compare(engine: Runs, reference: Runs, model: Model, frames: Iterable[Frame]) -> Comparison:
    """Show both engines the same frames.

    Args:
        engine: The one to judge.
        reference: Float32 torch.
        model: What both run.
        frames: Images with or without truth; only one is kept in memory.
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
    """Points of every landmark, each (n, 2), px of the source image, with the model's working threshold or the given one."""
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
