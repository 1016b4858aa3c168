"""Strategies: how localisation and segmentation share a network (Laina et al. 2017, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from csl_tracker.errors import ConfigError
from csl_tracker.networks.decoders import SeparableConv, SeparableDecoder, UpProjectionDecoder
from csl_tracker.networks.encoders import ENCODERS, Encoder

STRATEGIES = ("csl", "csl_no_skip")
DECODERS = ("up_projection", "separable")
STRIDE = 2
"""Input px per output px."""


class NetworkOutput(NamedTuple):
    """What a network says.

    Attributes:
        heatmaps: (N, landmarks, ceil(H / 2), ceil(W / 2)).
        scores: (N, classes, ceil(H / 2), ceil(W / 2)), segmentation scores before the softmax.
    """

    heatmaps: Tensor
    scores: Tensor


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that is needed to build a network again.

    Attributes:
        strategy: ``csl`` or ``csl_no_skip``.
        encoder: ``resnet50``, ``efficientnet_lite0`` or ``efficientnet_lite2``.
        decoder: ``up_projection`` (the paper's) or ``separable``.
        num_landmarks: Heatmap channels.
        num_classes: Segmentation channels, the background's included.
    """

    strategy: str = "csl"
    encoder: str = "efficientnet_lite0"
    decoder: str = "separable"
    num_landmarks: int = 5
    num_classes: int = 3

    def __post_init__(self) -> None:
        """Reject unknown names and impossible sizes.

        Raises:
            ConfigError: A name is unknown or a count is too small.
        """
        for key, known in (("strategy", STRATEGIES), ("encoder", tuple(ENCODERS)), ("decoder", DECODERS)):
            if getattr(self, key) not in known:
                raise ConfigError(f"The network's {key} {getattr(self, key)!r} is unknown; choose one of {', '.join(known)}.")
        if self.num_landmarks < 1 or self.num_classes < 2:
            raise ConfigError(
                "A CSL network needs a landmark and two classes,"
                f" not {self.num_landmarks} landmarks and {self.num_classes} classes."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetworkConfig:
        """Rebuild from :meth:`to_dict`'s output.

        Raises:
            ConfigError: A key is unknown or a value impossible.
        """
        unknown = set(data) - set(cls.__dataclass_fields__)
        if unknown:
            raise ConfigError(
                f"The network has no setting {sorted(unknown)[0]!r}; known are {', '.join(cls.__dataclass_fields__)}."
            )
        return cls(**data)


class CslNetwork(nn.Module):
    """Concurrent segmentation and localisation: the segmentation scores feed the heatmap head.

    Any input size is taken: the image is padded to multiples of 32 on the right and bottom, and the outputs are cropped, so
    that output pixel (u, v) always covers input pixels 2u, 2u + 1 and 2v, 2v + 1.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Encoder = ENCODERS[config.encoder]()
        skips = config.strategy != "csl_no_skip"
        self.decoder: UpProjectionDecoder | SeparableDecoder
        self.heatmap_head: nn.Module
        if config.decoder == "up_projection":
            self.decoder = UpProjectionDecoder(self.encoder.channels, skips)
            width = self.decoder.out_channels
            self.score_head = nn.Conv2d(width, config.num_classes, 3, padding=1)
            self.heatmap_head = nn.Conv2d(width + config.num_classes, config.num_landmarks, 3, padding=1)
        else:
            self.decoder = SeparableDecoder(self.encoder.channels, skips)
            width = self.decoder.out_channels
            self.score_head = nn.Conv2d(width, config.num_classes, 1)
            self.heatmap_head = nn.Sequential(
                SeparableConv(width + config.num_classes, width, 5), nn.Conv2d(width, config.num_landmarks, 1)
            )
        # Almost all of a heatmap is zero: a head that begins near zero spares the first hundreds of steps.
        last = list(self.heatmap_head.modules())[-1]
        if isinstance(last, nn.Conv2d) and last.bias is not None:
            nn.init.normal_(last.weight, std=1e-3)
            nn.init.zeros_(last.bias)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map normalised RGB of shape (N, 3, H, W), any H and W >= 1, to heatmaps and scores at half the size."""
        height, width = image.shape[-2:]
        below, right = -height % 32, -width % 32
        if below or right:
            image = functional.pad(image, (0, right, 0, below))
        features = self.decoder(self.encoder(image))
        scores = self.score_head(features)
        heatmaps = self.heatmap_head(torch.cat((features, scores), dim=1))
        if below or right:
            rows, columns = -(-height // STRIDE), -(-width // STRIDE)
            heatmaps, scores = heatmaps[..., :rows, :columns], scores[..., :rows, :columns]
        return NetworkOutput(heatmaps, scores)


def build_network(config: NetworkConfig) -> CslNetwork:
    """Build a network with random initialisation."""
    return CslNetwork(config)
