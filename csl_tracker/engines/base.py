"""The engine interface, and the module that engines compile: a network with its normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from csl_tracker.arrays import IndexArray
from csl_tracker.errors import EngineError
from csl_tracker.grouping import LineSupport
from csl_tracker.heatmaps import Peak
from csl_tracker.networks import STRIDE, Network, NetworkConfig
from csl_tracker.networks.base import OFFSET_UNIT_PX
from csl_tracker.pixels import Resize, Size
from csl_tracker.weights import Model, Preprocessing

Float32Array = npt.NDArray[np.float32]

LARGEST_LOGIT = 80.0
"""Clamp below the overflow of exp in float32; the probability is 1 well before."""


@dataclass(frozen=True)
class ForegroundOfScores:
    """Foreground probability, computed on access, since grouping samples only a few points.

    Attributes:
        scores: float32 (classes, h, w), the background first.
    """

    scores: Float32Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w)."""
        return self.scores.shape[1:]

    def __getitem__(self, at: tuple[IndexArray, IndexArray]) -> Float32Array:
        """Values at (rows, columns)."""
        return probability_of_tool(self.scores[:, at[0], at[1]])

    def whole(self) -> Float32Array:
        """The full map, float32 (h, w), a new array."""
        return probability_of_tool(self.scores)


def probability_of_tool(scores: Float32Array) -> Float32Array:
    """Foreground probability: 1 minus the softmax of the background.

    Args:
        scores: float32 (classes, ...), the background first.

    Returns:
        float32 (...), a new array.
    """
    odds = np.zeros(scores.shape[1:], np.float32)
    for plane in scores[1:]:
        grown = np.subtract(plane, scores[0])
        odds += np.exp(np.minimum(grown, LARGEST_LOGIT, out=grown), out=grown)
    np.divide(odds, 1.0 + odds, out=odds)
    return odds


@dataclass(frozen=True)
class EngineOutput:
    """Output of a network for one image.

    Attributes:
        heatmaps: float32 (landmarks, h, w); None if the network regresses points or ``peaks`` is given.
        foreground: (h, w), foreground probability, or its samples for grouping; None if the network does not segment.
        label_map: uint8 (H, W) at the source size; None if not requested or the network does not segment.
        to_source: Mapping from heatmap px to source-image px.
        points: float32 (slots, landmarks, 3), regressed x and y in heatmap px and the visibility probability; None if the
            landmarks come from heatmaps.
        peaks: Peaks of each landmark, highest first, in heatmap px, if the engine finds them; otherwise None.
        offsets: float32 (2, h, w), x and y from each pixel to the anchor of its instrument, heatmap px; None if the network has
            no association.
    """

    heatmaps: Float32Array | None
    foreground: Float32Array | ForegroundOfScores | LineSupport | None
    label_map: npt.NDArray[np.uint8] | None
    to_source: PixelMap
    points: Float32Array | None = None
    peaks: list[list[Peak]] | None = None
    offsets: Float32Array | None = None


@dataclass(frozen=True)
class PixelMap:
    """Maps output px of the network to source-image px: scale by the stride, then undo the resize."""

    source: Size
    working: Size

    def points(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map points of shape (..., 2)."""
        return Resize(self.working, self.source).points(_UNSTRIDE.points(points))

    def covariances(self, covariances: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Map covariances of shape (..., 2, 2)."""
        return Resize(self.working, self.source).covariances(_UNSTRIDE.covariances(covariances))


_UNSTRIDE = Resize((1, 1), (STRIDE, STRIDE))


LabelMapMaker = Callable[[], "npt.NDArray[np.uint8]"]
"""Computes the label map of the last image, uint8 (H, W) at the source size; call it before the next image, if at all."""


class Engine(Protocol):
    """Runs one model on one device."""

    @property
    def name(self) -> str:
        """Engine name, such as ``torch``."""

    @property
    def device(self) -> str:
        """Device, such as ``cpu`` or ``cuda:0``."""

    @property
    def reason(self) -> str:
        """Clause that says why this engine was selected; empty if the user requested it."""

    def localize(
        self, image: npt.NDArray[np.uint8], segmentation: bool, count: int = 1
    ) -> tuple[EngineOutput, LabelMapMaker | None]:
        """Run on one image, without computing the label map yet.

        Args:
            image: uint8 (H, W, 3) RGB, any size.
            segmentation: Whether the label map is requested.
            count: Peaks per landmark, for engines that find peaks on the device.

        Returns:
            The output without a label map, with heatmaps or peaks; its arrays may be buffers that the next image overwrites.
            And a function that computes the label map; None if not requested or the network does not segment.
        """

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """:meth:`localize` including the label map; returns new arrays."""

    def warm_up(self, size: Size, count: int = 1) -> None:
        """Run one-time work for images of a size and this number of peaks per landmark."""

    def settle(self) -> None:
        """Run deferred work; call it while no frame is waiting."""


class RunsAtOnce:
    """Implements :meth:`Engine.run` with :meth:`Engine.localize`."""

    def localize(
        self, image: npt.NDArray[np.uint8], segmentation: bool, count: int = 1
    ) -> tuple[EngineOutput, LabelMapMaker | None]:
        """See :meth:`Engine.localize`."""
        raise NotImplementedError

    def settle(self) -> None:
        """See :meth:`Engine.settle`; nothing is deferred."""

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`Engine.run`."""
        output, make_label_map = self.localize(image, segmentation)
        foreground = output.foreground
        return replace(
            output,
            heatmaps=None if output.heatmaps is None else np.array(output.heatmaps, np.float32, order="C"),
            foreground=foreground.whole() if isinstance(foreground, ForegroundOfScores) else foreground,
            label_map=None if make_label_map is None else make_label_map(),
            offsets=None if output.offsets is None else np.array(output.offsets, np.float32, order="C"),
        )


class NormalizedNetwork(nn.Module):
    """A network with its normalisation, as compiled by the engines: uint8 (N, H, W, 3) in, network outputs out."""

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        self.register_buffer("scale", (1.0 / std).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map uint8 (N, H, W, 3) RGB to the network's outputs, in the order heatmaps, scores, points, offsets."""
        x = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return tuple(tensor for tensor in self.network(x) if tensor is not None)


def output_names(config: NetworkConfig) -> tuple[str, ...]:
    """Output names of :class:`NormalizedNetwork` in order; fields of :class:`NetworkArrays`."""
    given = {
        "heatmaps": config.localises_by_heatmaps,
        "scores": config.segments,
        "points": not config.localises_by_heatmaps,
        "offsets": config.association,
    }
    return tuple(name for name, is_given in given.items() if is_given)


@dataclass(frozen=True)
class NetworkArrays:
    """A network's outputs for one image; see :class:`csl_tracker.networks.NetworkOutput`.

    The arrays may be buffers of the engine that the next image overwrites.

    Attributes:
        heatmaps: float32 (landmarks, h, w).
        scores: float32 (classes, h, w).
        points: float32 (slots, landmarks, 3).
        offsets: float32 (2, h, w).
    """

    heatmaps: Float32Array | None = None
    scores: Float32Array | None = None
    points: Float32Array | None = None
    offsets: Float32Array | None = None


def scaled_offsets(offsets: Float32Array | None) -> Float32Array | None:
    """Offsets of a network in heatmap px."""
    return None if offsets is None else np.asarray(np.float32(OFFSET_UNIT_PX) * offsets, np.float32)


def mirror_order(model: Model) -> list[int]:
    """Landmark order in a mirrored image, for averaging the outputs of both.

    Raises:
        EngineError: The model regresses coordinates.
    """
    config = model.description.network
    if not config.localises_by_heatmaps:
        raise EngineError(
            f"The mean with the mirrored image is one of heatmaps, and the strategy {config.strategy!r} has none;"
            " track without the mirrored image."
        )
    return model.instruments.flip_permutation()


def locate_points(points: Float32Array, working: Size) -> Float32Array:
    """Convert regressed points to output px and probabilities.

    Args:
        points: float32 (slots, landmarks, 3), see :class:`csl_tracker.networks.NetworkOutput`.
        working: (height, width) of the network's input.

    Returns:
        float32 (slots, landmarks, 3), x and y in output px and the visibility probability.
    """
    output = (working[0] // STRIDE, working[1] // STRIDE)
    seen = 1.0 / (1.0 + np.exp(-points[..., 2:].astype(np.float64)))
    return np.concatenate((Resize((1, 1), output).points(points[..., :2]), seen), axis=-1).astype(np.float32)
