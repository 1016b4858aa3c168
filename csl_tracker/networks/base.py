"""Common parts of all networks: configuration, outputs and input sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from csl_tracker.errors import ConfigError
from csl_tracker.network_names import (
    ASSOCIATING,
    DECODERS,
    MAX_NODES,
    MAX_SLOTS,
    MAX_TREES,
    MAX_WIDTH,
    REGRESSING,
    STRATEGIES,
    WITHOUT_DECODER,
    upgraded,
)
from csl_tracker.networks.encoders import ENCODERS, Encoder, Normalization
from csl_tracker.pixels import Size

STRIDE = 2
"""Input px per output px."""

_MOST: Mapping[str, int] = {
    "num_landmarks": 255,
    "num_classes": 255,
    "slots": MAX_SLOTS,
    "width": MAX_WIDTH,
    "trees": MAX_TREES,
    "nodes": MAX_NODES,
}
"""Upper limits of a configuration."""


def valid_parts(strategy: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Valid encoders and decoders of a strategy; a forest has neither, a U-Net its own unless it is given an encoder."""
    encoders = {"forest": ("none",), "unet": ("none", *ENCODERS)}.get(strategy, tuple(ENCODERS))
    return encoders, ("none",) if strategy in WITHOUT_DECODER else DECODERS


class NetworkOutput(NamedTuple):
    """Outputs of a network; None for outputs that its strategy does not have.

    Attributes:
        heatmaps: (N, landmarks, ceil(H / 2), ceil(W / 2)).
        scores: (N, classes, ceil(H / 2), ceil(W / 2)), segmentation scores before the softmax.
        points: (N, slots, landmarks, 3): x and y relative to the input size (-0.5..0.5 from edge to edge, as if the input were
            one pixel, see :mod:`csl_tracker.pixels`), and the visibility logit.
        offsets: (N, 2, ceil(H / 2), ceil(W / 2)): x and y from each pixel to the anchor of its instrument, in units of
            ``OFFSET_UNIT_PX`` of these maps.
    """

    heatmaps: Tensor | None
    scores: Tensor | None
    points: Tensor | None = None
    offsets: Tensor | None = None


OFFSET_UNIT_PX = 32.0
"""Unit of :attr:`NetworkOutput.offsets`, map px."""


@dataclass(frozen=True)
class NetworkConfig:
    """Everything needed to build a network.

    Attributes:
        strategy: A key of ``STRATEGIES``.
        encoder: ``resnet50``, ``efficientnet_lite0``, ``efficientnet_lite2``, or ``none`` for forest and the U-Net's own.
        decoder: ``up_projection`` (as in the paper), ``separable``, or ``none`` for unet and forest; l ignores it.
        num_landmarks: Heatmap channels.
        num_classes: Segmentation channels, including the background.
        input_size: (height, width), px: the fixed input size of l, sl and sl_skip; None for the others.
        slots: Number of instruments regressed by l, sl and sl_skip.
        width: Channels of the U-Net's first level; 64 in Ronneberger et al. 2015.
        decoder_width: Channel multiplier of the separable decoder.
        bottleneck_relu: ReLU after the bottleneck of the up-projection decoder, as in weights of the first release.
        trees: Trees per stage of a forest.
        nodes: Maximum nodes per tree of a forest.
        association: Predict to which instrument each pixel and landmark belongs; csl and csl_no_skip only.
    """

    strategy: str = "csl"
    encoder: str = "efficientnet_lite0"
    decoder: str = "separable"
    num_landmarks: int = 5
    num_classes: int = 3
    input_size: Size | None = None
    slots: int = 2
    width: int = 64
    decoder_width: float = 1.0
    bottleneck_relu: bool = False
    trees: int = 0
    nodes: int = 0
    association: bool = False

    def __post_init__(self) -> None:
        """Reject unknown names and impossible sizes.

        Raises:
            ConfigError: A name is unknown, a count is too small, or the strategy lacks what it needs.
        """
        self._check_names()
        self._check_counts()
        if self.association is not False and (self.association is not True or self.strategy not in ASSOCIATING):
            raise ConfigError(
                f"The network's association is {self.association!r:.40} with the strategy {self.strategy!r}; it is true or"
                f" false, and true for {' and '.join(ASSOCIATING)} only."
            )
        if self.strategy in REGRESSING and (self.input_size is None or min(self.input_size) < 32):
            raise ConfigError(
                f"The strategy {self.strategy!r} regresses coordinates, which hold for one input size alone;"
                f" its input_size is {self.input_size}, give (height, width) of at least 32 px."
            )
        if not isinstance(self.decoder_width, int | float) or not 0.1 <= self.decoder_width <= 10:
            raise ConfigError(f"The network's decoder_width is {self.decoder_width}; give a share between 0.1 and 10.")
        if self.decoder_width != 1 and self.decoder != "separable":
            raise ConfigError(
                f"The network's decoder_width is {self.decoder_width}, but only the separable decoder has a width to choose,"
                f" not {self.decoder!r}; leave decoder_width out."
            )

    def _check_names(self) -> None:
        encoders, decoders = valid_parts(self.strategy)
        for key, known in (("strategy", tuple(STRATEGIES)), ("encoder", encoders), ("decoder", decoders)):
            if getattr(self, key) not in known:
                raise ConfigError(f"The network's {key} {getattr(self, key)!r} is unknown; choose one of {', '.join(known)}.")

    def _check_counts(self) -> None:
        for key, most in _MOST.items():
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value > most:
                raise ConfigError(f"The network's {key} is {value!r:.40}; give a whole number of at most {most}.")
        if self.num_landmarks < 1 or self.num_classes < 2:
            raise ConfigError(
                "A CSL network needs a landmark and two classes,"
                f" not {self.num_landmarks} landmarks and {self.num_classes} classes."
            )
        for key in ("slots", "width"):
            if getattr(self, key) < 1:
                raise ConfigError(f"The network's {key} is {getattr(self, key)}; give at least 1.")

    @property
    def localises_by_heatmaps(self) -> bool:
        """Whether landmarks come from heatmaps rather than regression."""
        return self.strategy not in REGRESSING

    @property
    def segments(self) -> bool:
        """Whether the network outputs segmentation scores."""
        return self.strategy != "l"

    @property
    def valid_input(self) -> str:
        """The valid input sizes, in words."""
        if self.strategy in REGRESSING and self.input_size is not None:
            return f"{self.input_size[0]}x{self.input_size[1]} (height x width) and no other"
        return "any height and width from 1 px on; multiples of 32 need no padding inside"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; ``association`` only if it is on, so that earlier versions read the other networks."""
        return {key: value for key, value in asdict(self).items() if key != "association" or value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NetworkConfig:
        """Rebuild from :meth:`to_dict`'s output.

        Raises:
            ConfigError: A key is unknown or a value is invalid.
        """
        unknown = set(data) - set(cls.__dataclass_fields__)
        if unknown:
            raise ConfigError(
                f"The network has no setting {sorted(unknown)[0]!r}; known are {', '.join(cls.__dataclass_fields__)}."
            )
        data = upgraded(data)
        size = data.get("input_size")
        return cls(**{**data, "input_size": None if size is None else (int(size[0]), int(size[1]))})


class Network(nn.Module):
    """Base of all networks.

    Attributes:
        config: Its configuration.
        normalization: Pixel normalisation of the input.
        encoder: The encoder with published weights, or None.
    """

    config: NetworkConfig
    normalization: Normalization
    encoder: Encoder | None

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map normalised RGB of shape (N, 3, H, W) to the strategy's outputs."""
        raise NotImplementedError


def pad_to(image: Tensor, multiple: int) -> Tensor:
    """Pad (N, C, H, W) with zeros on the right and bottom to multiples."""
    below, right = -image.shape[-2] % multiple, -image.shape[-1] % multiple
    return functional.pad(image, (0, right, 0, below)) if below or right else image


def crop_to_output(maps: Tensor, image: Tensor) -> Tensor:
    """Crop the maps of a padded image: output pixel (u, v) covers input pixels 2u, 2u + 1 and 2v, 2v + 1."""
    rows, columns = -(-image.shape[-2] // STRIDE), -(-image.shape[-1] // STRIDE)
    return maps if maps.shape[-2:] == (rows, columns) else maps[..., :rows, :columns]
