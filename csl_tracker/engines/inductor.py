"""Networks compiled ahead of time by TorchInductor, stored in the cache of exported networks.

Compilation takes a minute or more. ``csl-tracker export --engine inductor`` does it on the target device; nodes only load the
result from the cache, which takes a fraction of a second.
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
    """Cache key of the compiled network for one input size, precision and device type."""
    place = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return ArtefactKey(model.sha256, f"inductor-{precision}", torch.__version__, place, size)


def write_inductor(network: DeviceNetwork, size: Size, folder: Path) -> None:
    """Compile a network on its device into a folder.

    Args:
        network: In the target precision, for single images.
        size: (height, width) of its input, px.
        folder: Folder for the file ``network.pt2``.
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
    """Load the network of :func:`write_inductor` as a replacement of the original one."""
    compiled = torch._inductor.aoti_load_package(str(folder / PACKAGE))
    names = output_names(model.description.network)

    def infer(x: Tensor) -> NetworkOutput:
        found: Mapping[str, Any] = dict(zip(names, compiled(x), strict=True))
        return NetworkOutput(found.get("heatmaps"), found.get("scores"), found.get("points"), found.get("offsets"))

    return replace(network, infer=infer)


def find_inductor(network: DeviceNetwork, model: Model, size: Size, device: str, cache: ArtefactCache) -> Artefact | None:
    """The compiled network in a cache; None if it is missing or mirror averaging is used."""
    if not model.sha256 or network.mirror_order is not None:
        return None
    return cache.find(inductor_key(model, size, device, network.precision))


class _Outputs(nn.Module):
    """A network that returns a plain tuple of its outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map normalised (1, 3, h, w) to the network's outputs."""
        return tuple(tensor for tensor in self.network(x) if tensor is not None)
