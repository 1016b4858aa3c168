"""Torch on the CPU, and torch on a device of its own (CUDA), where the image stays until the results are small."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from csl_tracker.engines.base import (
    EngineOutput,
    NetworkArrays,
    NormalizedNetwork,
    PixelMap,
    locate_points,
    mirror_order,
    output_names,
)
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.engines.folding import fold_batch_norms
from csl_tracker.networks import NetworkOutput
from csl_tracker.pixels import Size
from csl_tracker.weights import Model


def _module(model: Model, fold: bool = True) -> NormalizedNetwork:
    network = fold_batch_norms(model.network) if fold else copy.deepcopy(model.network)
    module = NormalizedNetwork(network, model.description.preprocessing).eval()
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class TorchCpuEngine(CpuEngine):
    """Eager float32 torch, ``channels_last``: it is always there.

    Args:
        model: What to run.
        mirror: Average with the mirrored image.
        fold: Fold the batch norms. Without it this is the network as it was trained: the reference for all other engines.
    """

    name = "torch"

    def __init__(self, model: Model, mirror: bool = False, fold: bool = True) -> None:
        super().__init__(model, mirror)
        self.module = _module(model, fold)
        self.names = output_names(model.description.network)

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """See :meth:`csl_tracker.engines.cpu.CpuEngine.infer`."""
        with torch.inference_mode():
            found = self.module(torch.from_numpy(image[None]))
        return NetworkArrays(**{name: tensor[0].numpy() for name, tensor in zip(self.names, found, strict=True)})


class TorchDeviceEngine:
    """Torch on an accelerator: one upload of the uint8 image, everything else there, one download of the small results.

    Attributes:
        name: ``torch``.
        device: Such as ``cuda:0``; ``cpu`` works too and is how this path is tested without an accelerator.
    """

    name = "torch"
    reason = ""

    def __init__(self, model: Model, device: str, half: bool = True, mirror: bool = False) -> None:
        self.device = device
        self.mirror_order = mirror_order(model) if mirror else None
        self.preprocessing = model.description.preprocessing
        self.dtype = torch.float16 if half else torch.float32
        self.module = _module(model).to(device)
        # The normalisation scales 0..255 and is kept in float32; the network behind it runs in half precision.
        self.module.network.to(self.dtype)
        self.upload: Tensor | None = None

    def _to_device(self, image: npt.NDArray[np.uint8]) -> Tensor:
        if not self.device.startswith("cuda"):
            return torch.from_numpy(np.ascontiguousarray(image))
        if self.upload is None or self.upload.shape != image.shape:
            self.upload = torch.empty(image.shape, dtype=torch.uint8, pin_memory=True)
        self.upload.numpy()[...] = image
        return self.upload.to(self.device, non_blocking=True)

    @torch.inference_mode()
    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`Engine.run`."""
        source = (image.shape[0], image.shape[1])
        working = self.preprocessing.working_size(source)
        x = self._to_device(image).permute(2, 0, 1)[None].float()
        if source != working:
            x = functional.interpolate(x, working, mode="bilinear", align_corners=False, antialias=True)
        x = (x * self.module.scale + self.module.shift).to(self.dtype, memory_format=torch.channels_last)
        output: NetworkOutput = self.module.network(x if self.mirror_order is None else torch.cat((x, x.flip(-1))))
        if self.mirror_order is not None:
            output = _mean_with_mirror(output, self.mirror_order)
        parts: dict[str, Tensor] = {}
        if output.heatmaps is not None:
            parts["heatmaps"] = output.heatmaps[0].float()
        if output.points is not None:
            parts["points"] = output.points[0].float()
        if output.scores is not None:
            scores = output.scores.float()
            parts["foreground"] = 1.0 - torch.softmax(scores, dim=1)[0, 0]
            if segmentation:
                scores = functional.interpolate(scores, source, mode="bilinear", align_corners=False)
                parts["label_map"] = scores.argmax(dim=1)[0].to(torch.uint8)
        found = _download(parts)
        points = locate_points(found["points"], working) if "points" in found else None
        return EngineOutput(
            found.get("heatmaps"), found.get("foreground"), found.get("label_map"), PixelMap(source, working), points
        )

    def warm_up(self, size: Size) -> None:
        """See :meth:`Engine.warm_up`."""
        self.run(np.zeros((*size, 3), np.uint8), segmentation=True)


def _mean_with_mirror(output: NetworkOutput, order: list[int]) -> NetworkOutput:
    """The mean of an image's outputs and its mirrored image's, from a batch of both."""
    assert output.heatmaps is not None
    assert output.scores is not None
    heatmaps = 0.5 * (output.heatmaps[:1] + output.heatmaps[1:, order].flip(-1))
    return NetworkOutput(heatmaps, 0.5 * (output.scores[:1] + output.scores[1:].flip(-1)))


def _download(parts: dict[str, Tensor]) -> dict[str, npt.NDArray[Any]]:
    """Bring tensors of float32 and uint8 to the CPU at once: every wait for the device costs more than the bytes do."""
    flat = [tensor.contiguous().flatten().view(torch.uint8) for tensor in parts.values()]
    data, start = torch.cat(flat).cpu().numpy(), 0
    found: dict[str, npt.NDArray[Any]] = {}
    for (name, tensor), piece in zip(parts.items(), flat, strict=True):
        dtype = np.uint8 if tensor.dtype == torch.uint8 else np.float32
        found[name] = data[start : start + piece.numel()].view(dtype).reshape(tensor.shape)
        start += piece.numel()
    return found
