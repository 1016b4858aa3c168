"""CPU optimisations of training; results change only by rounding."""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Configure glibc to keep freed memory instead of returning it to the system.

    Each training step frees and allocates the same gigabyte; by default, glibc maps large buffers anew, and the kernel zeroes
    them page by page.

    Returns:
        Whether the setting was applied; only glibc is supported.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))


def ease_convolutions(network: nn.Module) -> None:
    """Replace slow CPU convolutions in place: 5x5 depthwise ones, and 1x1 ones on a single thread.

    Parameters and modules do not change; GPU, autocast and inference use the original code.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros" and module.dilation == (1, 1):
            if module.groups == module.in_channels == module.out_channels and module.kernel_size == (5, 5):
                if module.stride == (1, 1) and module.padding == (2, 2) and module.bias is None:
                    module._conv_forward = _depthwise_5x5  # type: ignore[method-assign,assignment]
            elif module.kernel_size == module.stride == (1, 1) and module.padding == (0, 0) and module.groups == 1:
                module._conv_forward = _pointwise  # type: ignore[method-assign,assignment]


def _trains_here(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1x1 convolution. On one thread and small batches torch bypasses oneDNN; a matrix product over the pixels is faster."""
    if _trains_here(x) and torch.get_num_threads() == 1 and x.is_contiguous(memory_format=torch.channels_last):
        return functional.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    return functional.conv2d(x, weight, bias)


def _depthwise_5x5(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 5x5 depthwise convolution with stride 1 and same padding."""
    if _trains_here(x):
        return _Depthwise5x5.apply(x, weight)  # type: ignore[no-any-return,no-untyped-call]
    return functional.conv2d(x, weight, bias, padding=2, groups=weight.shape[0])


class _Depthwise5x5(torch.autograd.Function):
    """A 5x5 depthwise convolution with a custom backward pass.

    oneDNN's fast weight gradient for depthwise convolutions supports only 3x3 kernels; its general code is about thirty times
    slower. The 5x5 gradient is assembled from four overlapping 3x3 gradients.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve (N, C, H, W) with (C, 1, 5, 5)."""
        ctx.save_for_backward(x, weight)
        return functional.conv2d(x, weight, padding=2, groups=weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of the input and of the weights."""
        x, weight = ctx.saved_tensors
        (grad,) = grads
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _backward(grad, x, weight, 2, (True, False, False))[0]
        if ctx.needs_input_grad[1]:
            # Join all images with rows of zeros between them, so that shifted windows are slices without copies.
            below = _one_image(functional.pad(grad, (0, 0, 0, 4)))[:, :, :-4]
            grad_weight = torch.empty_like(weight)
            for left in (0, 2):
                columns = _one_image(functional.pad(x, (2 - left, left, 2, 2)))
                for top in (0, 2):
                    window = columns[:, :, top : top + below.shape[-2] + 2]
                    part = grad_weight[..., top : top + 3, left : left + 3]
                    part.copy_(_backward(below, window, part, 0, (False, True, False))[1])
        return grad_x, grad_weight


def _one_image(images: Tensor) -> Tensor:
    """(N, C, H, W) to (1, C, N * H, W), without a copy for ``channels_last``."""
    return images.permute(0, 2, 3, 1).flatten(0, 1).permute(2, 0, 1)[None]


def _backward(grad: Tensor, x: Tensor, weight: Tensor, padding: int, wanted: tuple[bool, bool, bool]) -> list[Tensor]:
    found = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], [padding, padding], [1, 1], False, [0, 0], weight.shape[0], wanted
    )
    return list(found)
