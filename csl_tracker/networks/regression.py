"""L and SL: direct regression of coordinates without and with segmentation (Laina et al. 2017, section 2.2)."""

from __future__ import annotations

from torch import Tensor, nn

from csl_tracker.errors import ConfigError
from csl_tracker.networks.base import Network, NetworkConfig, NetworkOutput, crop_to_output, pad_to
from csl_tracker.networks.decoders import SeparableDecoder, UpProjectionDecoder, build_decoder
from csl_tracker.networks.encoders import ENCODERS, Bottleneck


class RegressionHead(nn.Module):
    """A strided residual block, global average pooling and a fully connected layer.

    For ResNet-50 at 480x480, the block's output is 8x8x2048 and the pooling 8x8, as in the paper; at other sizes the pooling
    stays global. The paper tracks one instrument that is always in view. Here, there are ``slots`` instruments, and each
    landmark has a third output, the visibility logit.
    """

    def __init__(self, channels: int, slots: int, landmarks: int) -> None:
        super().__init__()
        width = channels // 4
        self.block = Bottleneck(channels, width, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(4 * width, slots * landmarks * 3)
        self.shape = (slots, landmarks, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Map the encoder's last map (N, channels, h, w) to (N, slots, landmarks, 3)."""
        return self.linear(self.pool(self.block(features)).flatten(1)).unflatten(1, self.shape)  # type: ignore[no-any-return]


class RegressionNetwork(Network):
    """L, SL and SL with skips, with a fixed input size. The paper's skips come with CSL; SL has none."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ENCODERS[config.encoder]()
        self.normalization = self.encoder.normalization
        self.regression = RegressionHead(self.encoder.channels[-1], config.slots, config.num_landmarks)
        self.decoder: UpProjectionDecoder | SeparableDecoder | None = None
        self.score_head: nn.Conv2d | None = None
        if config.segments:
            skips = config.strategy == "sl_skip"
            self.decoder = build_decoder(
                config.decoder, self.encoder.channels, skips, config.decoder_width, config.bottleneck_relu
            )
            kernel = 3 if config.decoder == "up_projection" else 1
            self.score_head = nn.Conv2d(self.decoder.out_channels, config.num_classes, kernel, padding=kernel // 2)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map normalised RGB of shape (N, 3, *input_size) to points, and for SL to scores at half the size.

        Raises:
            ConfigError: The image has another size.
        """
        if tuple(image.shape[-2:]) != self.config.input_size:
            raise ConfigError(
                f"The strategy {self.config.strategy!r} takes {self.config.valid_input}, and was given"
                f" {image.shape[-2]}x{image.shape[-1]}; resize the image, or train it for that size."
            )
        assert self.encoder is not None
        features = self.encoder(pad_to(image, 32))
        points = self.regression(features[-1])
        if self.decoder is None or self.score_head is None:
            return NetworkOutput(None, None, points)
        return NetworkOutput(None, crop_to_output(self.score_head(self.decoder(features)), image), points)
