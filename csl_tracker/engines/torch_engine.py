"""Torch on the CPU: always available, and the reference for all other engines."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch

from csl_tracker.engines.base import NetworkArrays, NormalizedNetwork, output_names
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.engines.folding import fold_batch_norms
from csl_tracker.weights import Model


def prepared_module(model: Model, fold: bool = True) -> NormalizedNetwork:
    """A copy of a model's network with its normalisation, in evaluation mode, ``channels_last``, on the CPU.

    Args:
        model: The model.
        fold: Fold the batch norms.
    """
    network = fold_batch_norms(model.network) if fold else copy.deepcopy(model.network)
    module = NormalizedNetwork(network, model.description.preprocessing).eval()
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class TorchCpuEngine(CpuEngine):
    """Eager float32 torch, ``channels_last``.

    Args:
        model: The model.
        mirror: Average with the mirrored image.
        fold: Fold the batch norms. False runs the original network: the reference for all other engines.
    """

    name = "torch"

    def __init__(self, model: Model, mirror: bool = False, fold: bool = True) -> None:
        super().__init__(model, mirror)
        self.module = prepared_module(model, fold)
        self.names = output_names(model.description.network)

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """See :meth:`csl_tracker.engines.cpu.CpuEngine.infer`."""
        with torch.inference_mode():
            found = self.module(torch.from_numpy(image[None]))
        return NetworkArrays(**{name: tensor[0].numpy() for name, tensor in zip(self.names, found, strict=True)})
