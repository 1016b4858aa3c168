"""The interface of all engines, and what they compile: a network with its normalisation."""

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
from csl_tracker.pixels import Resize, Size
from csl_tracker.weights import Model, Preprocessing

Float32Array = npt.NDArray[np.float32]

LARGEST_LOGIT = 80.0
"""Above it the exponential of a float32 is infinite, and the probability is 1 long before."""


@dataclass(frozen=True)
class ForegroundOfScores:
    """Probability of any class but the background, computed where it is asked for: grouping looks at a few points of it.

    Attributes:
        scores: float32 (classes, h, w), the background first.
    """

    scores: Float32Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w)."""
        return self.scores.shape[1:]

    def __getitem__(self, at: tuple[IndexArray, IndexArray]) -> Float32Array:
        """The values at rows and columns, of their shape."""
        return probability_of_tool(self.scores[:, at[0], at[1]])

    def whole(self) -> Float32Array:
        """All of it, float32 (h, w), new."""
        return probability_of_tool(self.scores)


def probability_of_tool(scores: Float32Array) -> Float32Array:
    """Probability of any class but the background: one less the first of the softmax.

    Args:
        scores: float32 (classes, ...), the background first.

    Returns:
        float32 (...), new.
    """
    odds = np.zeros(scores.shape[1:], np.float32)
    for plane in scores[1:]:
        grown = np.subtract(plane, scores[0])
        odds += np.exp(np.minimum(grown, LARGEST_LOGIT, out=grown), out=grown)
    np.divide(odds, 1.0 + odds, out=odds)
    return odds


@dataclass(frozen=True)
class EngineOutput:
    """What a network said about one image.

    Attributes:
        heatmaps: float32 (landmarks, h, w); None where the network regresses points, or where ``peaks`` is given.
        foreground: (h, w), probability of any class but the background, or what grouping needs of it; None where the network
            does not segment.
        label_map: uint8 (H, W) at the source size; None when it was not asked for, or where the network does not segment.
        to_source: Map from heatmap px to px of the source image.
        points: float32 (slots, landmarks, 3), regressed x and y in heatmap px and the probability of being in view; None
            where the landmarks come from heatmaps.
        peaks: For each landmark its peaks, highest first, in heatmap px, from an engine that finds them itself; None
            otherwise.
    """

    heatmaps: Float32Array | None
    foreground: Float32Array | ForegroundOfScores | LineSupport | None
    label_map: npt.NDArray[np.uint8] | None
    to_source: PixelMap
    points: Float32Array | None = None
    peaks: list[list[Peak]] | None = None


@dataclass(frozen=True)
class PixelMap:
    """From px of the network's output to px of the source image: up by the stride, then back through the resize."""

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
"""Makes the label map of the last image, uint8 (H, W) at the source size; to be called before the next one, if at all."""


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
        """Why this engine runs and no other, a clause; empty where it was asked for by its name."""

    def localize(
        self, image: npt.NDArray[np.uint8], segmentation: bool, count: int = 1
    ) -> tuple[EngineOutput, LabelMapMaker | None]:
        """Run on one uint8 (H, W, 3) RGB image of any size; what the poses need comes first.

        Args:
            image: The image.
            segmentation: Whether the label map is wanted.
            count: Peaks of each landmark that are wanted, for engines that find them where the network runs.

        Returns:
            The output without a label map, with heatmaps or, in their place, peaks; its arrays may be the engine's own memory,
            which its next image overwrites. And what makes the label map, None when it is not wanted, or the network does not
            segment.
        """

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """:meth:`localize`, and the label map at once; arrays of their own."""

    def warm_up(self, size: Size, count: int = 1) -> None:
        """Do what is only done for the first image of a size, for this number of peaks a landmark."""

    def settle(self) -> None:
        """Do what was put off so that no frame waits for it; to be called while no frame waits."""


class RunsAtOnce:
    """:meth:`Engine.run` for engines that bring :meth:`Engine.localize`."""

    def localize(
        self, image: npt.NDArray[np.uint8], segmentation: bool, count: int = 1
    ) -> tuple[EngineOutput, LabelMapMaker | None]:
        """See :meth:`Engine.localize`."""
        raise NotImplementedError

    def settle(self) -> None:
        """See :meth:`Engine.settle`; nothing is put off."""

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`Engine.run`."""
        output, make_label_map = self.localize(image, segmentation)
        foreground = output.foreground
        return replace(
            output,
            heatmaps=None if output.heatmaps is None else np.array(output.heatmaps, np.float32, order="C"),
            foreground=foreground.whole() if isinstance(foreground, ForegroundOfScores) else foreground,
            label_map=None if make_label_map is None else make_label_map(),
        )


class NormalizedNetwork(nn.Module):
    """A network with its normalisation: uint8 (N, H, W, 3) in, the network's outputs out. What the engines compile."""

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        self.register_buffer("scale", (1.0 / std).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map uint8 (N, H, W, 3) RGB to those of heatmaps, scores and points that the network gives, in this order."""
        x = image.permute(0, 3, 1, 2).to(self.scale.dtype) * self.scale + self.shift
        return tuple(tensor for tensor in self.network(x) if tensor is not None)


def output_names(config: NetworkConfig) -> tuple[str, ...]:
    """The names of what :class:`NormalizedNetwork` gives, fields of :class:`NetworkArrays`, in its order."""
    given = {"heatmaps": config.localises_by_heatmaps, "scores": config.segments, "points": not config.localises_by_heatmaps}
    return tuple(name for name, is_given in given.items() if is_given)


@dataclass(frozen=True)
class NetworkArrays:
    """A network's outputs for one image; see :class:`csl_tracker.networks.NetworkOutput`.

    The arrays may be an engine's own memory, which its next image overwrites.

    Attributes:
        heatmaps: float32 (landmarks, h, w).
        scores: float32 (classes, h, w).
        points: float32 (slots, landmarks, 3).
    """

    heatmaps: Float32Array | None = None
    scores: Float32Array | None = None
    points: Float32Array | None = None


def mirror_order(model: Model) -> list[int]:
    """Landmark order in a mirrored image, for a model whose outputs can be averaged with those of the mirrored image.

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
    """A network's points as px of its output and probabilities.

    Args:
        points: float32 (slots, landmarks, 3), see :class:`csl_tracker.networks.NetworkOutput`.
        working: (height, width) of the network's input.

    Returns:
        float32 (slots, landmarks, 3), x and y in px of the output and the probability of being in view.
    """
    output = (working[0] // STRIDE, working[1] // STRIDE)
    seen = 1.0 / (1.0 + np.exp(-points[..., 2:].astype(np.float64)))
    return np.concatenate((Resize((1, 1), output).points(points[..., :2]), seen), axis=-1).astype(np.float32)
