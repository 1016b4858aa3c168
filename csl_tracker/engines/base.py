"""The interface of all engines, and the pre- and post-processing of those that run on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from csl_tracker.errors import EngineError
from csl_tracker.networks import STRIDE, Network, NetworkOutput
from csl_tracker.pixels import Resize, Size, resize_image
from csl_tracker.weights import Model, Preprocessing

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EngineOutput:
    """What a network said about one image.

    Attributes:
        heatmaps: float32 (landmarks, h, w); None where the network regresses points.
        foreground: float32 (h, w), probability of any class but the background; None where the network does not segment.
        label_map: uint8 (H, W) at the source size; None when it was not asked for, or where the network does not segment.
        to_source: Map from heatmap px to px of the source image.
        points: float32 (slots, landmarks, 3), regressed x and y in heatmap px and the probability of being in view; None
            where the landmarks come from heatmaps.
    """

    heatmaps: Float32Array | None
    foreground: Float32Array | None
    label_map: npt.NDArray[np.uint8] | None
    to_source: PixelMap
    points: Float32Array | None = None


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


class Engine(Protocol):
    """Runs one model on one device."""

    name: str
    device: str

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """Run on one uint8 (H, W, 3) RGB image of any size."""

    def warm_up(self, size: Size) -> None:
        """Do what is only done for the first image of a size."""


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

    def names(self, example: Tensor) -> tuple[str, ...]:
        """The names of what :meth:`forward` gives, found out on an example."""
        with torch.inference_mode():
            output: NetworkOutput = self.network(example.permute(0, 3, 1, 2).to(self.scale.dtype))
        return tuple(name for name, tensor in output._asdict().items() if tensor is not None)


@dataclass(frozen=True)
class NetworkArrays:
    """A network's outputs for one image; see :class:`csl_tracker.networks.NetworkOutput`.

    Attributes:
        heatmaps: float32 (landmarks, h, w).
        scores: float32 (classes, h, w).
        points: float32 (slots, landmarks, 3).
    """

    heatmaps: Float32Array | None = None
    scores: Float32Array | None = None
    points: Float32Array | None = None


class CpuEngine:
    """Pre- and post-processing with OpenCV around ``infer``, which the concrete engines bring.

    Args:
        model: What to run.
        mirror: Average heatmaps and scores with those of the mirrored image, at twice the time.

    Attributes:
        name: Engine name.
        device: ``cpu``.
    """

    name = "cpu"
    device = "cpu"

    def __init__(self, model: Model, mirror: bool = False) -> None:
        self.preprocessing = model.description.preprocessing
        self.mirror_order = mirror_order(model) if mirror else None

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """Run the network on uint8 (h, w, 3) at the working size."""
        raise NotImplementedError

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`Engine.run`."""
        source = (image.shape[0], image.shape[1])
        working = self.preprocessing.working_size(source)
        small = resize_image(image, working)
        found = self.infer(small)
        if self.mirror_order is not None:
            found = _mean_with_mirror(found, self.infer(np.ascontiguousarray(small[:, ::-1])), self.mirror_order)
        foreground, label_map = None, None
        if found.scores is not None:
            background = np.exp(found.scores[0] - np.logaddexp.reduce(found.scores, axis=0))
            foreground = (1.0 - background).astype(np.float32)
            label_map = upsample_labels(found.scores, source) if segmentation else None
        points = None if found.points is None else locate_points(found.points, working)
        return EngineOutput(found.heatmaps, foreground, label_map, PixelMap(source, working), points)

    def warm_up(self, size: Size) -> None:
        """See :meth:`Engine.warm_up`."""
        self.run(np.zeros((*size, 3), np.uint8), segmentation=True)


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


def _mean_with_mirror(found: NetworkArrays, mirrored: NetworkArrays, order: list[int]) -> NetworkArrays:
    assert found.heatmaps is not None
    assert found.scores is not None
    assert mirrored.heatmaps is not None
    assert mirrored.scores is not None
    # The working width is even: the mirrored image's output px lie where the image's own do.
    heatmaps = 0.5 * (found.heatmaps + mirrored.heatmaps[order, :, ::-1])
    return NetworkArrays(heatmaps, 0.5 * (found.scores + mirrored.scores[:, :, ::-1]))


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


def upsample_labels(scores: Float32Array, size: Size) -> npt.NDArray[np.uint8]:
    """Up-sample scores bilinearly to (height, width), then take the highest class, as the paper does.

    Args:
        scores: float32 (classes, h, w), covering the same field of view as the target.
        size: Target size.

    Returns:
        uint8 (height, width).
    """
    # Only differences to the background matter, and one plane less is resized.
    best = np.zeros(size, np.float32)
    labels = np.zeros(size, np.uint8)
    for label in range(1, scores.shape[0]):
        plane = cv2.resize(scores[label] - scores[0], (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        above = plane > best
        labels[above] = label
        np.maximum(best, plane, out=best)
    return labels
