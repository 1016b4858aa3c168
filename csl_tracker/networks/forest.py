"""A classical baseline: colour and gradient features around every pixel, and a random forest that reads them.

The method of the trackers that the paper is compared with (its Fig. 4): no features are learned. Every output pixel is
described by colour channels, a structure tensor, gradients and differences of Gaussians at four scales, and by some of these
on four rings around it; a forest of regression trees maps this to class probabilities and heatmap values. A second forest sees
what the first one said around the pixel (auto-context, Tu and Bai 2010): a highlight far from any shaft is no clasper.
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
"""Standard deviations of the smoothing, output px; 0 is none."""

RINGS = ((2, 0), (5, 1), (12, 2), (24, 3))
"""Rings of context: radius in output px, and index of the scale that is read there (about a fifth of the radius)."""

CONTEXT_RADII = (4, 8, 16, 28)
"""Rings, output px, on which a stage reads the maps of the stage before it."""

STAGES = 2
"""Forests, one behind the other."""

SPOKES = 8
"""Points of a ring, evenly spaced; every other ring is turned by half a spoke."""

LEAF = -1
"""In place of a feature's number: the node is a leaf."""

_COLORS = 6
_TENSOR_SIGMA = 1.0
_DARK = 0.02
_FLAT = 1e-5
_LEAST_PROBABILITY = 1e-4

_SMOOTHING_SIGMA = 2.0
"""Of a forest's maps, output px: it judges pixels one by one, and what neighbours say takes the speckle off."""

_LOCAL_FEATURES = len(SCALES) * (_COLORS + 6)
NUM_FEATURES = _LOCAL_FEATURES + len(RINGS) * SPOKES * 7
"""Features of a pixel for the first stage."""


def num_context_features(outputs: int) -> int:
    """Features of a pixel for a later stage; ``outputs`` are classes and landmarks."""
    return _LOCAL_FEATURES + outputs * (1 + len(CONTEXT_RADII) * SPOKES)


def ring_offsets(radius: int, turned: bool) -> list[tuple[int, int]]:
    """The points of one ring, as whole output px (dx, dy)."""
    angles = [2 * math.pi * (k + 0.5 * turned) / SPOKES for k in range(SPOKES)]
    return [(round(radius * math.cos(angle)), round(radius * math.sin(angle))) for angle in angles]


def pixel_features(image: npt.NDArray[Any]) -> Float32Array:
    """Describe every output pixel by its surroundings.

    At each of the four ``SCALES``: CIE L, a, b, saturation and two log-chromaticities; the structure tensor's strength and its
    orientation times coherence as cosine and sine of the doubled angle; the lightness's two derivatives and its difference of
    Gaussians to the next scale. On each of the ``RINGS``: L less that of the centre, a, b, saturation and the three of the
    structure tensor. All is local: beyond about 50 output px nothing is seen, and borders are mirrored.

    Args:
        image: (H, W, 3) RGB on the scale 0..255, any dtype and any size.

    Returns:
        float32 (features, ceil(H / 2), ceil(W / 2)); output pixel (u, v) covers input pixels 2u, 2u + 1 and 2v, 2v + 1.
    """
    rgb = np.asarray(image, np.float32) / np.float32(255.0)
    rgb = cv2.copyMakeBorder(rgb, 0, rgb.shape[0] % STRIDE, 0, rgb.shape[1] % STRIDE, cv2.BORDER_REPLICATE)
    size = (rgb.shape[1] // STRIDE, rgb.shape[0] // STRIDE)
    # Halving by area is the mean of 2x2 px.
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
    """Describe every output pixel by itself and by what the stage before said around it.

    Args:
        features: float32 (features, h, w) of :func:`pixel_features`; those of the pixel itself are taken.
        maps: float32 (outputs, h, w), what the stage before said; also read on ``CONTEXT_RADII``, smoothed by a fifth of these.

    Returns:
        float32 (``num_context_features(outputs)``, h, w).
    """
    said = np.ascontiguousarray(maps.transpose(1, 2, 0))
    found = [*features[:_LOCAL_FEATURES], *maps]
    for turned, radius in enumerate(CONTEXT_RADII):
        for moved in _around(_blur(said, radius / 5), radius, bool(turned % 2)):
            found += _planes(moved)
    return np.stack(found).astype(np.float32, copy=False)


def _around(channels: Float32Array, radius: int, turned: bool) -> Iterator[Float32Array]:
    """The channels (h, w, C) as every pixel sees them at the points of a ring; borders are continued."""
    height, width = channels.shape[:2]
    wide = cv2.copyMakeBorder(channels, radius, radius, radius, radius, cv2.BORDER_REPLICATE)
    for dx, dy in ring_offsets(radius, turned):
        yield np.asarray(wide[radius + dy : radius + dy + height, radius + dx : radius + dx + width], np.float32)


def _planes(channels: npt.NDArray[Any]) -> list[Float32Array]:
    return [channels[..., k] for k in range(channels.shape[-1])]


def _blur(channels: npt.NDArray[Any], sigma: float) -> Float32Array:
    return np.asarray(cv2.GaussianBlur(channels, (0, 0), sigma) if sigma > 0 else channels, np.float32)


def _derivatives(channels: Float32Array) -> list[Float32Array]:
    """Along x and y, per px (Sobel)."""
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
    """The products of the derivatives, summed over the colours (Di Zenzo 1986): xx, yy, xy."""
    dx, dy = _derivatives(rgb)
    return np.dstack([(a * b).sum(axis=2) for a, b in ((dx, dx), (dy, dy), (dx, dy))])


def _orientation(tensor: Float32Array) -> Float32Array:
    """Root of the tensor's trace, and coherence times cosine and sine of the doubled angle."""
    xx, yy, xy = _planes(tensor)
    trace = xx + yy
    return np.dstack((np.sqrt(np.maximum(trace, 0)), (xx - yy) / (trace + _FLAT), 2 * xy / (trace + _FLAT)))


@dataclass(frozen=True)
class ForestNodes:
    """The trees of a forest as arrays; every array's first two axes are (trees, nodes), the root is node 0.

    Attributes:
        feature: int64, number of the feature that is asked, ``LEAF`` for a leaf and for unused room.
        threshold: float32; a value of at most this goes to the left.
        left: int64, the node of the left child; 0 for a leaf. A child stands behind its parent.
        right: int64, of the right child.
        value: float32 (trees, nodes, outputs).
    """

    feature: IntArray
    threshold: Float32Array
    left: IntArray
    right: IntArray
    value: Float32Array

    def check(self, features: int) -> None:
        """Make sure that every walk from a root ends at a leaf and asks for one of so many features.

        Raises:
            WeightsError: A node asks for a feature that does not exist, or its children do not stand behind it.
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
        """The leaf of every pixel in every tree.

        Args:
            features: float32 (pixels, features).

        Returns:
            int64 (trees, pixels), node numbers.
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
    """One forest of several, each tree with room for as many nodes as the largest has, or more; no walk gets there."""
    room = max(room, *(tree.feature.shape[1] for tree in trees))

    def stacked(name: str) -> npt.NDArray[Any]:
        fill = LEAF if name == "feature" else 0
        arrays = [getattr(tree, name) for tree in trees]
        widths = [((0, 0), (0, room - array.shape[1]), *((0, 0),) * (array.ndim - 2)) for array in arrays]
        return np.concatenate([np.pad(a, width, constant_values=fill) for a, width in zip(arrays, widths, strict=True)])

    return ForestNodes(*(stacked(name) for name in ForestNodes.__dataclass_fields__))


def stage_maps(nodes: ForestNodes, features: Float32Array) -> Float32Array:
    """What one stage says: float32 (features, h, w) to smoothed maps, float32 (outputs, h, w)."""
    size = features.shape[1:]
    values = nodes.predict(features.reshape(len(features), -1).T)
    smooth = _blur(values.reshape(*size, -1), _SMOOTHING_SIGMA)
    return np.ascontiguousarray(smooth.reshape(*size, -1).transpose(2, 0, 1))


def describe(image: npt.NDArray[Any], stages: Sequence[ForestNodes]) -> Float32Array:
    """The features that the stage behind the given ones reads.

    Args:
        image: (H, W, 3) RGB on the scale 0..255.
        stages: Those before; none for the first.

    Returns:
        float32 (features, ceil(H / 2), ceil(W / 2)).
    """
    own = features = pixel_features(image)
    for nodes in stages:
        features = context_features(own, stage_maps(nodes, features))
    return features


class ForestNetwork(Network):
    """Forests behind the interface of the networks. The buffers are the nodes, so that the weights are plain tensors.

    It runs on the CPU wherever its input lies, and nothing is differentiable.
    """

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
        """Take over the nodes of fitted forests; numbers of trees and nodes are those of the configuration.

        Raises:
            WeightsError: They do not make trees.
        """
        padded = [stack_trees([nodes], self.config.nodes) for nodes in stages]
        names = ForestNodes.__dataclass_fields__
        self.load_state_dict({name: torch.from_numpy(np.stack([getattr(nodes, name) for nodes in padded])) for name in names})

    def stages(self) -> list[ForestNodes]:
        """The buffers as arrays, one forest a stage.

        Raises:
            WeightsError: They do not make trees.
        """
        if self._stages is None:
            arrays = [self.get_buffer(name).cpu().numpy() for name in ForestNodes.__dataclass_fields__]
            whole = [array.astype(np.int64 if array.dtype.kind == "i" else np.float32) for array in arrays]
            stages = [ForestNodes(*(array[k] for array in whole)) for k in range(STAGES)]
            later = num_context_features(self.config.num_classes + self.config.num_landmarks)
            for k, nodes in enumerate(stages):
                nodes.check(later if k else NUM_FEATURES)
            self._stages = stages
        return self._stages

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map RGB on the scale 0..255 of shape (N, 3, H, W), any H and W >= 1, to heatmaps and scores at half the size.

        The scores are logarithms of probabilities. A landmark lies on an instrument: the heatmaps are those of the last stage
        times its probability of not being background.
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
