"""CSL with and without skips: segmentation scores are inputs of the heatmaps (Laina et al. 2017, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from csl_tracker.networks.base import Network, NetworkConfig, NetworkOutput, crop_to_output, pad_to
from csl_tracker.networks.decoders import SeparableConv, SeparableDecoder, UpProjectionDecoder, build_decoder
from csl_tracker.networks.encoders import ENCODERS


class CslNetwork(Network):
    """Concurrent segmentation and localisation.

    Accepts any input size: the image is padded to multiples of 32 on the right and bottom, and the outputs are cropped, so that
    output pixel (u, v) always covers input pixels 2u, 2u + 1 and 2v, 2v + 1.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ENCODERS[config.encoder]()
        self.normalization = self.encoder.normalization
        skips = config.strategy != "csl_no_skip"
        self.decoder: UpProjectionDecoder | SeparableDecoder = build_decoder(
            config.decoder, self.encoder.channels, skips, config.decoder_width, config.bottleneck_relu
        )
        width = self.decoder.out_channels
        self.heatmap_head: nn.Module
        if config.decoder == "up_projection":
            self.score_head = nn.Conv2d(width, config.num_classes, 3, padding=1)
            self.heatmap_head = nn.Conv2d(width + config.num_classes, config.num_landmarks, 3, padding=1)
        else:
            self.score_head = nn.Conv2d(width, config.num_classes, 1)
            self.heatmap_head = nn.Sequential(
                SeparableConv(width + config.num_classes, width, 5), nn.Conv2d(width, config.num_landmarks, 1)
            )
        start_near_zero(self.heatmap_head)
        self.offset_head = nn.Conv2d(width, 2, 1) if config.association else None

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map normalised RGB of shape (N, 3, H, W), any H and W >= 1, to heatmaps and scores at half the size."""
        assert self.encoder is not None
        features = self.decoder(self.encoder(pad_to(image, 32)))
        scores = self.score_head(features)
        heatmaps = self.heatmap_head(torch.cat((features, scores), dim=1))
        offsets = None if self.offset_head is None else crop_to_output(self.offset_head(features), image)
        return NetworkOutput(crop_to_output(heatmaps, image), crop_to_output(scores, image), None, offsets)


def start_near_zero(head: nn.Module) -> None:
    """Initialise a heatmap head near zero, since heatmaps are mostly zero; saves hundreds of training steps."""
    last = list(head.modules())[-1]
    if isinstance(last, nn.Conv2d) and last.bias is not None and not last.weight.is_meta:  # imports torch's compiler
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
