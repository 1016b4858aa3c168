"""Networks rewritten for inference, what they say unchanged but for rounding."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from csl_tracker.networks import Network
from csl_tracker.networks.decoders import UpProjection

_PROBE_PX = 64
"""Side of the image that shows which batch norm follows which convolution; l and sl take their own size."""

_Convolution = nn.Conv2d | nn.ConvTranspose2d
_M = TypeVar("_M", bound=nn.Module)


def fold_batch_norms(network: Network) -> Network:
    """A copy whose batch norms are part of the convolutions before them.

    In evaluation a batch norm is ``(x - mean) / sqrt(var + eps) * weight + bias`` for each channel: a scale of the
    convolution's filters and a bias. Which norm follows which convolution is seen by running the network once, so that every
    architecture is served; a norm that follows none stays.

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
    """A copy whose up-projections are 3x3 convolutions at the input's size, followed by a pixel shuffle.

    The transposed 5x5 convolution of stride 2 is four convolutions, one for each output pixel of an input pixel, of 3x3, 3x2,
    2x3 and 2x2 taps (Laina et al. 2016, Fig. 3, has them one by one). Padded with zeros to 3x3 they run as one. That is more to
    multiply and less to move; ONNX Runtime gains by it, OpenVINO and torch do not.
    """
    changed = copy.deepcopy(network)
    for block in changed.modules():
        if isinstance(block, UpProjection):
            # What nn.Module knows as a transposed convolution becomes two modules that give the same.
            block.up = _subpixel(block.up)  # type: ignore[assignment]
    return changed


def _convolutions_and_norms(network: nn.Module, image: Tensor) -> list[tuple[_Convolution, nn.BatchNorm2d]]:
    """Each batch norm whose input is what a convolution has put out, with that convolution."""
    made: dict[int, tuple[Tensor, _Convolution]] = {}  # holding the tensor keeps its id from being used again
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
    """A convolution to four times the channels, and these as the four pixels of an output of twice the size."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out, 2H, 2W)."""
        return functional.pixel_shuffle(self.convolution(x), 2)


def _subpixel(up: nn.ConvTranspose2d) -> _Shuffled:
    """Output pixel 2m + a of a transposed convolution with padding 2 sees input pixel m + d through tap a + 2 - 2d."""
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
