"""Fuses bias, shortcut and activation into cuDNN convolutions, which reduces kernel launches."""

from __future__ import annotations

import copy
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from csl_tracker.networks import Network
from csl_tracker.networks.decoders import UpProjection
from csl_tracker.networks.encoders import Bottleneck, ResNet50


class FusedOperations(Protocol):
    """Convolutions with bias and ReLU."""

    def relu(self, convolution: nn.Conv2d, x: Tensor) -> Tensor:
        """``relu(convolution(x))``."""

    def add_relu(self, convolution: nn.Conv2d, x: Tensor, summand: Tensor) -> Tensor:
        """``relu(convolution(x) + summand)``."""


class CudnnOperations:
    """cuDNN implementation."""

    def relu(self, convolution: nn.Conv2d, x: Tensor) -> Tensor:
        """See :meth:`FusedOperations.relu`."""
        return torch.cudnn_convolution_relu(
            x,
            convolution.weight,
            convolution.bias,
            convolution.stride,
            _padding(convolution),
            convolution.dilation,
            convolution.groups,
        )

    def add_relu(self, convolution: nn.Conv2d, x: Tensor, summand: Tensor) -> Tensor:
        """See :meth:`FusedOperations.add_relu`."""
        return torch.cudnn_convolution_add_relu(
            x,
            convolution.weight,
            summand.contiguous(memory_format=torch.channels_last),
            1.0,
            convolution.bias,
            convolution.stride,
            _padding(convolution),
            convolution.dilation,
            convolution.groups,
        )


def fuse_activations(network: Network, operations: FusedOperations) -> tuple[Network, int]:
    """Copy a network and fuse the convolutions in its ResNet blocks and up-projections.

    cuDNN does not support ReLU6, the activation of the EfficientNet-Lite encoders.

    Args:
        network: In evaluation mode, with folded batch norms.
        operations: Implementation of the fused convolutions.

    Returns:
        The copy, and its number of fused convolutions.
    """
    fused = copy.deepcopy(network)
    count = 0
    for parent in list(fused.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Bottleneck) and _folded(child.bn1, child.bn2, child.bn3):
                setattr(parent, name, _FusedBottleneck(child, operations))
                count += 3
            elif isinstance(child, UpProjection) and _folded(child.up_norm, child.norm):
                setattr(parent, name, _FusedUpProjection(child, operations))
                count += 1
            elif isinstance(child, ResNet50) and _folded(child.bn1):
                child.conv1 = _FusedConvolution(child.conv1, operations)  # type: ignore[assignment]
                child.relu = nn.Identity()  # type: ignore[assignment]
                count += 1
    return fused, count


def _padding(convolution: nn.Conv2d) -> tuple[int, ...]:
    assert not isinstance(convolution.padding, str)
    return convolution.padding


def _folded(*norms: nn.Module) -> bool:
    return all(isinstance(norm, nn.Identity) for norm in norms)


class _FusedConvolution(nn.Module):
    """A convolution with ReLU."""

    def __init__(self, convolution: nn.Conv2d, operations: FusedOperations) -> None:
        super().__init__()
        self.convolution, self.operations = convolution, operations

    def forward(self, x: Tensor) -> Tensor:
        """Apply convolution and ReLU."""
        return self.operations.relu(self.convolution, x)


class _FusedBottleneck(nn.Module):
    """:class:`csl_tracker.networks.encoders.Bottleneck` with folded norms."""

    def __init__(self, block: Bottleneck, operations: FusedOperations) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = block.conv1, block.conv2, block.conv3
        self.downsample, self.operations = block.downsample, operations

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) like the block."""
        identity = x if self.downsample is None else self.downsample(x)
        y = self.operations.relu(self.conv1, x)
        y = self.operations.relu(self.conv2, y)
        return self.operations.add_relu(self.conv3, y, identity)


class _FusedUpProjection(nn.Module):
    """:class:`csl_tracker.networks.decoders.UpProjection` with folded norms."""

    def __init__(self, block: UpProjection, operations: FusedOperations) -> None:
        super().__init__()
        self.up, self.conv, self.operations = block.up, block.conv, operations

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out, 2H, 2W)."""
        branch, shortcut = self.up(x).chunk(2, dim=1)
        branch = functional.relu(branch).contiguous(memory_format=torch.channels_last)
        return self.operations.add_relu(self.conv, branch, shortcut)
