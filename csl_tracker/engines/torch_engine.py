"""Torch on the CPU, and torch on a device of its own (CUDA), where the image stays until the results are small."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from csl_tracker.engines.base import CpuEngine, EngineOutput, Float32Array, NormalizedNetwork, PixelMap
from csl_tracker.pixels import Size
from csl_tracker.weights import Model


def _module(model: Model) -> NormalizedNetwork:
    network = NormalizedNetwork(copy.deepcopy(model.network), model.description.preprocessing).eval()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class TorchCpuEngine(CpuEngine):
    """Eager float32 torch, ``channels_last``: it is always there, and the reference for the others."""

    name = "torch"

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.module = _module(model)

    def infer(self, image: npt.NDArray[np.uint8]) -> tuple[Float32Array, Float32Array]:
        """See :meth:`CpuEngine.infer`."""
        with torch.inference_mode():
            heatmaps, scores = self.module(torch.from_numpy(image[None]))
        return np.ascontiguousarray(heatmaps[0].numpy()), np.ascontiguousarray(scores[0].numpy())


class TorchDeviceEngine:
    """Torch on an accelerator: one upload of the uint8 image, everything else there, one download of the small results.

    Attributes:
        name: ``torch``.
        device: Such as ``cuda:0``; ``cpu`` works too and is how this path is tested without an accelerator.
    """

    name = "torch"

    def __init__(self, model: Model, device: str, half: bool = True) -> None:
        self.device = device
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
        output = self.module.network(x)
        scores = output.scores.float()
        foreground = 1.0 - torch.softmax(scores, dim=1)[0, 0]
        small = torch.cat((output.heatmaps[0].float(), foreground[None])).contiguous()
        results = small.view(torch.uint8).flatten()
        if segmentation:
            scores = functional.interpolate(scores, source, mode="bilinear", align_corners=False)
            results = torch.cat((results, scores.argmax(dim=1).to(torch.uint8).flatten()))
        # One download: every wait for the device costs more than the bytes do.
        data = results.cpu().numpy()
        count = small.numel() * small.element_size()
        arrays = data[:count].view(np.float32).reshape(small.shape)
        label_map = data[count:].reshape(source) if segmentation else None
        return EngineOutput(arrays[:-1], arrays[-1], label_map, PixelMap(source, working))

    def warm_up(self, size: Size) -> None:
        """See :meth:`Engine.warm_up`."""
        self.run(np.zeros((*size, 3), np.uint8), segmentation=True)
