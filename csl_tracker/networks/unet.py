"""U-Net (Ronneberger et al. 2015) with the two heads of CSL, as a baseline."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from csl_tracker.networks.base import STRIDE, Network, NetworkConfig, NetworkOutput, crop_to_output, pad_to
from csl_tracker.networks.csl import start_near_zero
from csl_tracker.networks.encoders import ENCODERS, Normalization

_LEVELS = 5


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions with same padding, batch norm and ReLU."""

    def __init__(self, channels_in: int, out: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
        )


class UNet(Network):
    """U-Net: four max-pooling levels, four 2x2 transposed convolutions, concatenated skips.

    Differences from the original: padded convolutions with batch norm, since frames are small and must not be cropped; the
    heads of CSL (scores, then heatmaps from features and scores); and 2x2 average pooling before the heads, so that the outputs
    have half the input size like those of the other strategies. Accepts any input size; pads to multiples of 16.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = None
        self.normalization = Normalization((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
        widths = [config.width * 2**level for level in range(_LEVELS)]
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in itertools.pairwise([3, *widths]))
        steps = list(itertools.pairwise(reversed(widths)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in steps)
        self.merge = nn.ModuleList(DoubleConv(2 * b, b) for _, b in steps)
        self.score_head = nn.Conv2d(config.width, config.num_classes, 1)
        self.heatmap_head = nn.Conv2d(config.width + config.num_classes, config.num_landmarks, 1)
        start_near_zero(self.heatmap_head)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map normalised RGB of shape (N, 3, H, W), any H and W >= 1, to heatmaps and scores at half the size."""
        x = pad_to(image, 2 ** (_LEVELS - 1))
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = merge(torch.cat((skip, up(x)), dim=1))
        features = functional.avg_pool2d(x, STRIDE)
        scores = self.score_head(features)
        heatmaps = self.heatmap_head(torch.cat((features, scores), dim=1))
        return NetworkOutput(crop_to_output(heatmaps, image), crop_to_output(scores, image))


class EncoderUNet(Network):
    """The U-Net's expanding path on an encoder with published weights, for comparisons with equal initialisation.

    Transposed convolutions, concatenated skips and double convolutions as in :class:`UNet`, from stride 32 to stride 2, which
    is the size of the outputs: the encoder has no map at stride 1. Accepts any input size; pads to multiples of 32.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ENCODERS[config.encoder]()
        self.normalization = self.encoder.normalization
        widths = [config.width * 2**level for level in range(1, _LEVELS)]
        steps = list(itertools.pairwise([self.encoder.channels[-1], *reversed(widths)]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in steps)
        skips = reversed(self.encoder.channels[:-1])
        self.merge = nn.ModuleList(DoubleConv(skip + b, b) for skip, (_, b) in zip(skips, steps, strict=True))
        self.score_head = nn.Conv2d(widths[0], config.num_classes, 1)
        self.heatmap_head = nn.Conv2d(widths[0] + config.num_classes, config.num_landmarks, 1)
        start_near_zero(self.heatmap_head)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map normalised RGB of shape (N, 3, H, W), any H and W >= 1, to heatmaps and scores at half the size."""
        assert self.encoder is not None
        *skips, x = self.encoder(pad_to(image, 32))
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = merge(torch.cat((skip, up(x)), dim=1))
        scores = self.score_head(x)
        heatmaps = self.heatmap_head(torch.cat((x, scores), dim=1))
        return NetworkOutput(crop_to_output(heatmaps, image), crop_to_output(scores, image))
