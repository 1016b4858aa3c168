"""A classical baseline: colour and gradient features of each pixel, classified by a random forest.

Represents the trackers that the paper compares with (its Fig. 4), without learned features. The features of an output pixel
are colour channels, a structure tensor, gradients and differences of Gaussians at four scales, and some of these on four rings
around it. A forest of regression trees maps them to class probabilities and heatmap values. A second forest also uses the
output of the first one around the pixel (auto-context, Tu and Bai 2010), for example to reject highlights far from any shaft.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from csl_tracker.arrays import IntArray
from csl_tracker.errors import ConfigError, WeightsError
from csl_tracker.networks.base import STRIDE, Network, NetworkConfig, NetworkOutput
from csl_tracker.networks.encoders import Normalization

Float32Array = npt.NDArray[np.float32]

SCALES = (0.0, 1.5, 3.0, 6.0)
"""Standard deviations of the smoothing, output px; 0 for none."""

RINGS = ((2, 0), (5, 1), (12, 2), (24, 3))
"""Context rings: radius in output px, and index of the scale (about a fifth of the radius)."""

CONTEXT_RADII = (4, 8, 16, 28)
"""Radii of the rings for sampling the previous stage's maps, output px."""

STAGES = 2
"""Number of consecutive forests."""

SPOKES = 8
"""Points per ring, evenly spaced; every other ring is rotated by half a step."""

LEAF = -1
"""Feature index of a leaf."""

_COLORS = 6
_TENSOR_SIGMA = 1.0
_DARK = 0.02
_FLAT = 1e-5
_LEAST_PROBABILITY = 1e-4

_SMOOTHING_SIGMA = 2.0
"""Smoothing of the output maps, output px; removes the speckle of independent pixel predictions."""

_LOCAL_FEATURES = len(SCALES) * (_COLORS + 6)
NUM_FEATURES = _LOCAL_FEATURES + len(RINGS) * SPOKES * 7
"""Number of features of the first stage."""


def num_context_features(outputs: int) -> int:
    """Number of features of a later stage; ``outputs`` is the number of classes plus landmarks."""
    return _LOCAL_FEATURES + outputs * (1 + len(CONTEXT_RADII) * SPOKES)


def ring_offsets(radius: int, turned: bool) -> list[tuple[int, int]]:
    """The points of a ring as integer offsets (dx, dy), output px."""
    angles = [2 * math.pi * (k + 0.5 * turned) / SPOKES for k in range(SPOKES)]
    return [(round(radius * math.cos(angle)), round(radius * math.sin(angle))) for angle in angles]


def pixel_features(image: npt.NDArray[Any]) -> Float32Array:
    """Features of each output pixel.

    At each of the four ``SCALES``: CIE L, a, b, saturation and two log-chromaticities; strength of the structure tensor, and
    its coherence times cosine and sine of twice the orientation; two derivatives of the lightness and its difference of
    Gaussians to the next scale. On each of the ``RINGS``: L minus that of the centre, a, b, saturation and the three structure
    tensor features. The receptive field is about 50 output px; borders are mirrored.

    Args:
        image: (H, W, 3) RGB on the scale 0..255, any dtype and any size.

    Returns:
        float32 (features, ceil(H / 2), ceil(W / 2)); output pixel (u, v) covers input pixels 2u, 2u + 1 and 2v, 2v + 1.
    """
    rgb = np.asarray(image, np.float32) / np.float32(255.0)
    rgb = cv2.copyMakeBorder(rgb, 0, rgb.shape[0] % STRIDE, 0, rgb.shape[1] % STRIDE, cv2.BORDER_REPLICATE)
    size = (rgb.shape[1] // STRIDE, rgb.shape[0] // STRIDE)
    # INTER_AREA halving is the mean of 2x2 px.
    colors = _colors(np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.float32))
    tensor = cv2.resize(_tensor(rgb), size, interpolation=cv2.INTER_AREA)
    smooth = [_blur(colors, sigma) for sigma in (*SCALES, 2 * SCALES[-1])]
    found: list[Float32Array] = []
    at_scale = []
    for scale, sigma in enumerate(SCALES):
        energy = _orientation(_blur(tensor, max(sigma, _TENSOR_SIGMA)))
        lightness = np.ascontiguousarray(smooth[scale][..., 0])
        found += [*_planes(smooth[scale]), *_planes(energy), *_derivatives(lightness), lightness - smooth[scale + 1][..., 0]]
        at_scale.append(np.dstack((smooth[scale][..., :4], energy)))
    for turned, (radius, scale) in enumerate(RINGS):
        channels = at_scale[scale]
        for moved in _around(channels, radius, bool(turned % 2)):
            found += [moved[..., 0] - channels[..., 0], *_planes(moved)[1:]]
    return np.stack(found).astype(np.float32, copy=False)


def context_features(features: Float32Array, maps: Float32Array) -> Float32Array:
    """Features of a later stage: local features, and the previous stage's output around the pixel.

    Args:
        features: float32 (features, h, w) of :func:`pixel_features`; only the local ones are used.
        maps: float32 (outputs, h, w), output of the previous stage; also sampled on ``CONTEXT_RADII`` with smoothing by a fifth
            of the radius.

    Returns:
        float32 (``num_context_features(outputs)``, h, w).
    """
    previous = np.ascontiguousarray(maps.transpose(1, 2, 0))
    found = [*features[:_LOCAL_FEATURES], *maps]
    for turned, radius in enumerate(CONTEXT_RADII):
        for moved in _around(_blur(previous, radius / 5), radius, bool(turned % 2)):
            found += _planes(moved)
    return np.stack(found).astype(np.float32, copy=False)


def _around(channels: Float32Array, radius: int, turned: bool) -> Iterator[Float32Array]:
    """The channels (h, w, C) shifted to each point of a ring; borders are replicated."""
    height, width = channels.shape[:2]
    wide = cv2.copyMakeBorder(channels, radius, radius, radius, radius, cv2.BORDER_REPLICATE)
    for dx, dy in ring_offsets(radius, turned):
        yield np.asarray(wide[radius + dy : radius + dy + height, radius + dx : radius + dx + width], np.float32)


def _planes(channels: npt.NDArray[Any]) -> list[Float32Array]:
    return [channels[..., k] for k in range(channels.shape[-1])]


def _blur(channels: npt.NDArray[Any], sigma: float) -> Float32Array:
    return np.asarray(cv2.GaussianBlur(channels, (0, 0), sigma) if sigma > 0 else channels, np.float32)


def _derivatives(channels: Float32Array) -> list[Float32Array]:
    """Sobel derivatives along x and y, per px."""
    return [np.asarray(cv2.Sobel(channels, cv2.CV_32F, k, 1 - k, ksize=3, scale=1 / 8), np.float32) for k in (1, 0)]


def _colors(rgb: Float32Array) -> Float32Array:
    """L, a, b, saturation, log(R / G) and log(G / B) of RGB on 0..1."""
    highest, lowest = rgb.max(axis=2), rgb.min(axis=2)
    logs = np.log(rgb + np.float32(_DARK))
    return np.dstack(
        (
            cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab),
            (highest - lowest) / (highest + np.float32(_DARK)),
            logs[..., 0] - logs[..., 1],
            logs[..., 1] - logs[..., 2],
        )
    )


def _tensor(rgb: Float32Array) -> Float32Array:
    """Structure tensor xx, yy, xy, summed over the colours (Di Zenzo 1986)."""
    dx, dy = _derivatives(rgb)
    return np.dstack([(a * b).sum(axis=2) for a, b in ((dx, dx), (dy, dy), (dx, dy))])


def _orientation(tensor: Float32Array) -> Float32Array:
    """Square root of the trace, and coherence times cosine and sine of twice the angle."""
    xx, yy, xy = _planes(tensor)
    trace = xx + yy
    return np.dstack((np.sqrt(np.maximum(trace, 0)), (xx - yy) / (trace + _FLAT), 2 * xy / (trace + _FLAT)))


@dataclass(frozen=True)
class ForestNodes:
    """The trees of a forest as arrays with first axes (trees, nodes); node 0 is the root.

    Attributes:
        feature: int64, feature index; ``LEAF`` for leaves and unused nodes.
        threshold: float32; values up to the threshold go left.
        left: int64, index of the left child; 0 for a leaf. Children have larger indices than their parent.
        right: int64, index of the right child.
        value: float32 (trees, nodes, outputs).
    """

    feature: IntArray
    threshold: Float32Array
    left: IntArray
    right: IntArray
    value: Float32Array

    def check(self, features: int) -> None:
        """Check that feature indices are valid and that each traversal terminates.

        Raises:
            WeightsError: A feature index is invalid, or a child does not have a larger index than its parent.
        """
        inner = self.feature != LEAF
        own = np.broadcast_to(np.arange(self.feature.shape[1]), self.feature.shape)
        wrong = inner & ((self.feature < 0) | (self.feature >= features))
        for child in (self.left, self.right):
            wrong |= inner & ((child <= own) | (child >= self.feature.shape[1]))
        if wrong.any():
            tree, node = (int(axis[0]) for axis in np.nonzero(wrong))
            raise WeightsError(
                f"Node {node} of tree {tree} of the forest leads nowhere: the weights are damaged; train it again."
            )

    def leaves(self, features: Float32Array) -> IntArray:
        """The leaf of each pixel in each tree.

        Args:
            features: float32 (pixels, features).

        Returns:
            int64 (trees, pixels), node indices.
        """
        trees, room = self.feature.shape
        count, width = features.shape
        flat = np.ascontiguousarray(features).ravel()
        feature, threshold = self.feature.ravel(), self.threshold.ravel()
        children = np.stack((self.right.ravel(), self.left.ravel()), axis=1).ravel()
        base = np.repeat(np.arange(trees) * room, count)
        start = np.tile(np.arange(count) * width, trees)
        node = base.copy()
        walking = np.flatnonzero(feature[node] != LEAF)
        while len(walking):
            here = node[walking]
            goes_left = flat[start[walking] + feature[here]] <= threshold[here]
            here = base[walking] + children[2 * here + goes_left]
            node[walking] = here
            walking = walking[feature[here] != LEAF]
        return np.asarray((node - base).reshape(trees, count), np.int64)

    def predict(self, features: Float32Array) -> Float32Array:
        """Mean of the trees' values: float32 (pixels, features) to float32 (pixels, outputs)."""
        leaves = self.leaves(features)
        total = np.zeros((len(features), self.value.shape[2]), np.float64)
        for value, leaf in zip(self.value, leaves, strict=True):
            total += value[leaf]
        return (total / len(self.value)).astype(np.float32)


def stack_trees(trees: Sequence[ForestNodes], room: int = 0) -> ForestNodes:
    """Concatenate forests; pads the trees with unreachable nodes to the largest size, at least ``room``."""
    room = max(room, *(tree.feature.shape[1] for tree in trees))

    def stacked(name: str) -> npt.NDArray[Any]:
        fill = LEAF if name == "feature" else 0
        arrays = [getattr(tree, name) for tree in trees]
        widths = [((0, 0), (0, room - array.shape[1]), *((0, 0),) * (array.ndim - 2)) for array in arrays]
        return np.concatenate([np.pad(a, width, constant_values=fill) for a, width in zip(arrays, widths, strict=True)])

    return ForestNodes(*(stacked(name) for name in ForestNodes.__dataclass_fields__))


def stage_maps(nodes: ForestNodes, features: Float32Array) -> Float32Array:
    """Output of one stage: float32 (features, h, w) to smoothed maps, float32 (outputs, h, w)."""
    size = features.shape[1:]
    values = nodes.predict(features.reshape(len(features), -1).T)
    smooth = _blur(values.reshape(*size, -1), _SMOOTHING_SIGMA)
    return np.ascontiguousarray(smooth.reshape(*size, -1).transpose(2, 0, 1))


def describe(image: npt.NDArray[Any], stages: Sequence[ForestNodes]) -> Float32Array:
    """The features of the stage after the given ones.

    Args:
        image: (H, W, 3) RGB on the scale 0..255.
        stages: The previous stages.

    Returns:
        float32 (features, ceil(H / 2), ceil(W / 2)).
    """
    own = features = pixel_features(image)
    for nodes in stages:
        features = context_features(own, stage_maps(nodes, features))
    return features


class ForestNetwork(Network):
    """Forests with the network interface; the nodes are buffers. Always runs on the CPU, and is not differentiable."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        if config.trees < 1 or config.nodes < 1:
            raise ConfigError(
                f"A forest of {config.trees} trees with {config.nodes} nodes each cannot be built;"
                " give at least one of both as the network's trees and nodes."
            )
        self.config = config
        self.encoder = None
        self.normalization = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        shape = (STAGES, config.trees, config.nodes)
        self.register_buffer("feature", torch.full(shape, LEAF, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(shape))
        self.register_buffer("left", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("right", torch.zeros(shape, dtype=torch.int32))
        self.register_buffer("value", torch.zeros(*shape, config.num_classes + config.num_landmarks))
        self._stages: list[ForestNodes] | None = None
        self.register_load_state_dict_post_hook(_check_loaded)  # type: ignore[no-untyped-call]

    def set_stages(self, stages: Sequence[ForestNodes]) -> None:
        """Load fitted forests; the numbers of trees and nodes must match the configuration.

        Raises:
            WeightsError: The nodes are not valid trees.
        """
        padded = [stack_trees([nodes], self.config.nodes) for nodes in stages]
        names = ForestNodes.__dataclass_fields__
        self.load_state_dict({name: torch.from_numpy(np.stack([getattr(nodes, name) for nodes in padded])) for name in names})

    def stages(self) -> list[ForestNodes]:
        """The buffers as arrays, one forest per stage.

        Raises:
            WeightsError: The nodes are not valid trees.
        """
        if self._stages is None:
            arrays = [self.get_buffer(name).cpu().numpy() for name in ForestNodes.__dataclass_fields__]
            converted = [array.astype(np.int64 if array.dtype.kind == "i" else np.float32) for array in arrays]
            stages = [ForestNodes(*(array[k] for array in converted)) for k in range(STAGES)]
            later = num_context_features(self.config.num_classes + self.config.num_landmarks)
            for k, nodes in enumerate(stages):
                nodes.check(later if k else NUM_FEATURES)
            self._stages = stages
        return self._stages

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map RGB on the scale 0..255 of shape (N, 3, H, W), any H and W >= 1, to heatmaps and scores at half the size.

        The scores are log probabilities. The heatmaps of the last stage are multiplied by the foreground probability, since
        landmarks are on instruments.
        """
        *before, last = self.stages()
        frames = image.detach().float().cpu().numpy().transpose(0, 2, 3, 1)
        maps = np.stack([stage_maps(last, describe(frame, before)) for frame in frames])
        classes = self.config.num_classes
        scores = np.log(np.maximum(maps[:, :classes], _LEAST_PROBABILITY))
        heatmaps = maps[:, classes:] * (1 - maps[:, :1])
        return NetworkOutput(torch.from_numpy(heatmaps).to(image), torch.from_numpy(scores).to(image))


def _check_loaded(module: torch.nn.Module, _incompatible: Any) -> None:
    assert isinstance(module, ForestNetwork)
    module._stages = None
    module.stages()
