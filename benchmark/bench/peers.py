"""The networks that are measured beside the shipped one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import ENDOVIS
from csl_tracker.networks import Network, NetworkConfig, NetworkOutput, build_network
from csl_tracker.networks.base import STRIDE, crop_to_output, pad_to
from csl_tracker.networks.encoders import Normalization
from csl_tracker.pixels import Size
from csl_tracker.weights import Model, ModelDescription, Preprocessing, default_weights, load_weights

_IMAGENET = Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_DEEPEST = 32  # input px of one px of the deepest features


class MonaiFlexibleUNet(Network):
    """MONAI's FlexibleUNet with an EfficientNet-B2, as in its endoscopic tool segmentation bundle, with the outputs of CSL.

    The bundle has two output channels; here they are the classes and the landmarks. MONAI's maps have the size of the input;
    they are averaged over 2x2 px, so that all that comes after the network is the same for all.
    """

    def __init__(self, config: NetworkConfig) -> None:
        from monai.networks.nets import FlexibleUNet  # type: ignore[import-not-found]

        super().__init__()
        self.config = config
        self.encoder = None
        self.normalization = _IMAGENET
        self.unet = FlexibleUNet(3, config.num_classes + config.num_landmarks, "efficientnet-b2", pretrained=False)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map normalised RGB of shape (N, 3, H, W) to heatmaps and scores at half the size."""
        maps = functional.avg_pool2d(self.unet(pad_to(image, _DEEPEST)), STRIDE)
        scores, heatmaps = torch.split(maps, [self.config.num_classes, self.config.num_landmarks], dim=1)  # type: ignore[no-untyped-call]
        return NetworkOutput(crop_to_output(heatmaps, image), crop_to_output(scores, image))


@dataclass(frozen=True)
class Peer:
    """A network to measure.

    Attributes:
        name: In tables.
        build: Makes it, with random weights.
        size: (height, width) of its input, px.
        own_size: That is the size its authors use it at.
        of_the_package: A weights file can hold it.
    """

    name: str
    build: Callable[[], Network]
    size: Size
    own_size: bool = True
    of_the_package: bool = True


def _monai() -> Network:
    return MonaiFlexibleUNet(MONAI_CONFIG)


# What stands in a weights file for a network that the package does not know.
MONAI_CONFIG = NetworkConfig("unet", "none", "none", width=1)
RESNET_CONFIG = NetworkConfig("csl", "resnet50", "up_projection")
UNET_CONFIG = NetworkConfig("unet", "none", "none", width=64)


def peers(ours: Model) -> list[Peer]:
    """The peers, MONAI's at its own size and at that of our model."""
    pre = ours.description.preprocessing
    return [
        Peer("MONAI FlexibleUNet, EfficientNet-B2", _monai, (480, 736), of_the_package=False),
        Peer("MONAI FlexibleUNet, EfficientNet-B2, at our size", _monai, pre.input_size, False, False),
        Peer("CSL, ResNet-50 (Laina et al. 2017)", lambda: build_network(RESNET_CONFIG), (480, 480)),
        Peer("U-Net, 64 channels", lambda: build_network(UNET_CONFIG), (480, 480)),
    ]


def random_model(peer: Peer) -> Model:
    """A peer's network with random weights, stretched images of its size, and our landmarks."""
    torch.manual_seed(0)
    network = peer.build().eval()
    pre = Preprocessing(network.normalization.mean, network.normalization.std, peer.size, "stretch")
    description = ModelDescription(peer.name, network.config, ENDOVIS, HeatmapSpec(3.5, 1.0), pre)
    return Model(network, description, hashlib.sha256(f"{peer.name} {peer.size}".encode()).hexdigest())


def our_model(weights: str = "") -> Model:
    """The shipped model, or the one of a file."""
    return load_weights(weights or default_weights())


def gflop(network: Network, size: Size) -> float:
    """Multiplications and additions of one image of (height, width), in 1e9."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, *size))
    return float(counter.get_total_flops()) / 1e9


@contextmanager
def monai_known() -> Iterator[None]:
    """Let trainings and weights files of the package build MONAI's network where they say :data:`MONAI_CONFIG`."""

    def build(config: NetworkConfig) -> Network:
        stands_for_it = (config.strategy, config.width) == (MONAI_CONFIG.strategy, MONAI_CONFIG.width)
        return MonaiFlexibleUNet(config) if stands_for_it else build_network(config)

    with ExitStack() as stack:
        for place in ("csl_tracker.weights", "csl_tracker.training.run", "csl_tracker.networks"):
            stack.enter_context(mock.patch(f"{place}.build_network", build))
        yield
