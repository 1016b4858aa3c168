"""Rewrites networks for inference; outputs are equal up to rounding."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from csl_tracker.networks import Network
from csl_tracker.networks.decoders import UpProjection

_PROBE_PX = 64
"""Side of the probe image that finds which batch norm follows which convolution; l and sl use their fixed size."""

_Convolution = nn.Conv2d | nn.ConvTranspose2d
_M = TypeVar("_M", bound=nn.Module)


def fold_batch_norms(network: Network) -> Network:
    """Copy a network and fold its batch norms into the preceding convolutions.

    In evaluation mode, a batch norm is ``(x - mean) / sqrt(var + eps) * weight + bias`` per channel, which scales the filters
    and changes the bias. One forward pass finds which norm follows which convolution, so that any architecture works; other
    norms stay.

    Args:
        network: In evaluation mode, float32, on the CPU.
    """
    folded = copy.deepcopy(network).eval()
    if not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules()):
        return folded
    size = network.config.input_size or (_PROBE_PX, _PROBE_PX)
    with torch.no_grad():
        for convolution, norm in _convolutions_and_norms(folded, torch.zeros(1, 3, *size)):
            _fold(convolution, norm)
            _replace(folded, norm, nn.Identity())
    return folded


def as_subpixel_convolutions(network: _M) -> _M:
    """Copy a network and replace its up-projections by 3x3 convolutions with a pixel shuffle.

    A transposed 5x5 convolution with stride 2 equals four convolutions of 3x3, 3x2, 2x3 and 2x2 taps, one per output phase
    (Laina et al. 2016, Fig. 3). Zero-padded to 3x3, they run as one convolution. This needs more multiplications and less
    memory traffic: faster in ONNX Runtime, not in OpenVINO and torch.
    """
    changed = copy.deepcopy(network)
    for block in changed.modules():
        if isinstance(block, UpProjection):
            block.up = _subpixel(block.up)  # type: ignore[assignment]
    return changed


def _convolutions_and_norms(network: nn.Module, image: Tensor) -> list[tuple[_Convolution, nn.BatchNorm2d]]:
    """Each batch norm whose input is the output of a convolution, with that convolution."""
    made: dict[int, tuple[Tensor, _Convolution]] = {}  # keeps the tensors alive, so that their ids stay unique
    pairs: list[tuple[_Convolution, nn.BatchNorm2d]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(module, _Convolution):
            made[id(output)] = (output, module)
        elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][1], module))

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _fold(convolution: _Convolution, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    filters = (1, -1, 1, 1) if isinstance(convolution, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    bias = torch.zeros_like(scale) if convolution.bias is None else convolution.bias
    convolution.weight = nn.Parameter(convolution.weight * scale.view(filters))
    convolution.bias = nn.Parameter(norm.bias + (bias - norm.running_mean) * scale)


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in network.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)


class _Shuffled(nn.Module):
    """A convolution with four times the channels, followed by a 2x pixel shuffle."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out, 2H, 2W)."""
        return functional.pixel_shuffle(self.convolution(x), 2)


def _subpixel(up: nn.ConvTranspose2d) -> _Shuffled:
    """With padding 2, tap a + 2 - 2d connects input pixel m + d to output pixel 2m + a of a transposed convolution."""
    weight = up.weight.detach()
    taps = [(phase, offset, phase + 2 - 2 * offset) for phase in (0, 1) for offset in (-1, 0, 1)]
    taps = [(phase, offset, tap) for phase, offset, tap in taps if 0 <= tap < 5]
    filters = torch.zeros(up.out_channels, 2, 2, up.in_channels, 3, 3)
    for row_phase, row, row_tap in taps:
        for column_phase, column, column_tap in taps:
            filters[:, row_phase, column_phase, :, row + 1, column + 1] = weight[:, :, row_tap, column_tap].T
    convolution = nn.Conv2d(up.in_channels, 4 * up.out_channels, 3, padding=1, bias=up.bias is not None)
    convolution.weight = nn.Parameter(filters.reshape(-1, up.in_channels, 3, 3))
    if up.bias is not None:
        convolution.bias = nn.Parameter(up.bias.detach().repeat_interleave(4))
    return _Shuffled(convolution)
