"""Decoders: five feature maps in, one map at half the input size out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class UpProjection(nn.Module):
    """Up-projection block (Laina et al. 2016, Fig. 2c), stride 1/2.

    Zero insertion followed by a 5x5 convolution equals a transposed convolution with stride 2. The first convolutions of both
    branches have the same input and run as one.
    """

    def __init__(self, channels_in: int, out: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(channels_in, 2 * out, 5, stride=2, padding=2, output_padding=1, bias=False)
        self.up_norm = nn.BatchNorm2d(2 * out)
        self.conv = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, out, 2H, 2W)."""
        branch, shortcut = self.up_norm(self.up(x)).chunk(2, dim=1)
        return functional.relu(self.norm(self.conv(functional.relu(branch))) + shortcut)


class UpProjectionDecoder(nn.Module):
    """The paper's decoder: a 1x1 bottleneck and four up-projections with additive skip connections.

    A 1x1 convolution projects the encoder features to the decoder width before the addition.

    Args:
        channels: Channels of the encoder maps, from stride 2 to stride 32.
        skips: False gives the paper's "CSL w/o skip".
        bottleneck_relu: Use a ReLU after the bottleneck. The authors' reference implementation (FCRN) has none; weights of the
            first release were trained with it.
    """

    def __init__(self, channels: Sequence[int], skips: bool = True, bottleneck_relu: bool = False) -> None:
        super().__init__()
        self.bottleneck_relu = bottleneck_relu
        top = channels[-1] // 2
        self.bottleneck = nn.Sequential(nn.Conv2d(channels[-1], top, 1, bias=False), nn.BatchNorm2d(top))
        widths = [top, top // 2, top // 4, top // 8, top // 16]
        self.ups = nn.ModuleList(UpProjection(a, b) for a, b in itertools.pairwise(widths))
        self.skips = nn.ModuleList()
        if skips:
            for features, width in zip(reversed(channels[:-1]), widths[1:], strict=True):
                self.skips.append(nn.Sequential(nn.Conv2d(features, width, 1, bias=False), nn.BatchNorm2d(width)))
        self.out_channels = widths[-1]

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the encoder's maps to (N, out_channels, H / 2, W / 2)."""
        x: Tensor = self.bottleneck(features[-1])
        if self.bottleneck_relu:
            x = functional.relu(x)
        for i, up in enumerate(self.ups):
            x = up(x)
            if len(self.skips):
                x = x + self.skips[i](features[-2 - i])
        return x


class SeparableConv(nn.Sequential):
    """Depthwise convolution, pointwise convolution, batch norm, ReLU."""

    def __init__(self, channels_in: int, out: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_in, kernel, padding=kernel // 2, groups=channels_in, bias=False),
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, out, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )


class SeparableUp(nn.Module):
    """A cheaper up-projection: bilinear 2x upsampling, sum with the skip connection, separable residual branch."""

    def __init__(self, channels_in: int, skip: int | None, out: int, kernel: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.Conv2d(channels_in, out, 1, bias=False), nn.BatchNorm2d(out))
        self.skip = None if skip is None else nn.Sequential(nn.Conv2d(skip, out, 1, bias=False), nn.BatchNorm2d(out))
        self.branch = SeparableConv(out, out, kernel)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) and the encoder's (N, skip, 2H, 2W) to (N, out, 2H, 2W)."""
        x = functional.interpolate(self.project(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        if self.skip is not None:
            x = x + self.skip(features)
        x = functional.relu(x)
        return torch.add(x, self.branch(x))


SEPARABLE_WIDTHS = (128, 96, 64, 48)
"""Channels of the separable decoder at strides 16, 8, 4 and 2."""


class SeparableDecoder(nn.Module):
    """A decoder for CPUs and edge devices: the structure of the paper's decoder with separable convolutions.

    Args:
        channels: Channels of the encoder maps, from stride 2 to stride 32.
        skips: Use skip connections.
        widths: Channels at strides 16, 8, 4 and 2.
    """

    def __init__(self, channels: Sequence[int], skips: bool = True, widths: Sequence[int] = SEPARABLE_WIDTHS) -> None:
        super().__init__()
        self.ups = nn.ModuleList()
        previous = channels[-1]
        for i, (width, features) in enumerate(zip(widths, reversed(channels[:-1]), strict=True)):
            self.ups.append(SeparableUp(previous, features if skips else None, width, kernel=5 if i < 3 else 3))
            previous = width
        self.out_channels = previous

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the encoder's maps to (N, out_channels, H / 2, W / 2)."""
        x = features[-1]
        for i, up in enumerate(self.ups):
            x = up(x, features[-2 - i])
        return x


def build_decoder(
    name: str, channels: Sequence[int], skips: bool, width: float = 1.0, bottleneck_relu: bool = False
) -> UpProjectionDecoder | SeparableDecoder:
    """Build a decoder by name.

    Args:
        name: ``up_projection`` or ``separable``.
        channels: Channels of the encoder maps, from stride 2 to stride 32.
        skips: Use skip connections.
        width: Channel multiplier of the separable decoder; channels are rounded to multiples of 8, at least 8.
        bottleneck_relu: See :class:`UpProjectionDecoder`.
    """
    if name == "up_projection":
        return UpProjectionDecoder(channels, skips, bottleneck_relu)
    return SeparableDecoder(channels, skips, [max(8, 8 * round(width * own / 8)) for own in SEPARABLE_WIDTHS])
