"""Networks that TorchInductor has fused and compiled ahead of time, kept beside the other exported networks.

Compiling takes a minute or more, so that no node does it: ``csl-tracker export --engine inductor`` does, on the device that the
network is for, and engines load what lies in the cache. Loading takes a fraction of a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from csl_tracker.engines.artefacts import Artefact, ArtefactCache, ArtefactKey
from csl_tracker.engines.base import output_names
from csl_tracker.engines.device_path import DeviceNetwork
from csl_tracker.engines.precision import DTYPES, multiplication
from csl_tracker.networks import Network, NetworkOutput
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

PACKAGE = "network.pt2"


def inductor_key(model: Model, size: Size, device: str, precision: str) -> ArtefactKey:
    """What the cache calls the compiled network of one input size, precision and kind of device."""
    place = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return ArtefactKey(model.sha256, f"inductor-{precision}", torch.__version__, place, size)


def write_inductor(network: DeviceNetwork, size: Size, folder: Path) -> None:
    """Compile a network on its device into a folder.

    Args:
        network: In the precision to compile for, for single images.
        size: (height, width) of its input, px.
        folder: Gets the file ``network.pt2``.
    """
    module = _Outputs(network.module.network).eval()
    parameter = next(module.parameters())
    example = torch.zeros((1, 3, *size), dtype=DTYPES[network.precision], device=parameter.device)
    example = example.to(memory_format=torch.channels_last)
    with torch.no_grad(), warnings.catch_warnings(), multiplication(network.precision):
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (example,))
        torch._inductor.aoti_compile_and_package(exported, package_path=str(folder / PACKAGE))


def load_inductor(network: DeviceNetwork, model: Model, folder: Path) -> DeviceNetwork:
    """The network of :func:`write_inductor`, in the place of the one that it was made from."""
    compiled = torch._inductor.aoti_load_package(str(folder / PACKAGE))
    names = output_names(model.description.network)

    def infer(x: Tensor) -> NetworkOutput:
        found: Mapping[str, Any] = dict(zip(names, compiled(x), strict=True))
        return NetworkOutput(found.get("heatmaps"), found.get("scores"), found.get("points"))

    return replace(network, infer=infer)


def find_inductor(network: DeviceNetwork, model: Model, size: Size, device: str, cache: ArtefactCache) -> Artefact | None:
    """The compiled network in a cache; None where there is none for exactly this, or where the image is mirrored, too."""
    if not model.sha256 or network.mirror_order is not None:
        return None
    return cache.find(inductor_key(model, size, device, network.precision))


class _Outputs(nn.Module):
    """A network whose outputs are a plain tuple of those that it has."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map normalised (1, 3, h, w) to the network's outputs."""
        return tuple(tensor for tensor in self.network(x) if tensor is not None)
