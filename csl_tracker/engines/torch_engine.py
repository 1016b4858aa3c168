"""Torch on the CPU, and torch on a device of its own (CUDA), where the image stays until the results are small."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from csl_tracker.engines.base import (
    EngineOutput,
    LabelMapMaker,
    NetworkArrays,
    NormalizedNetwork,
    PixelMap,
    RunsAtOnce,
    locate_points,
    mirror_order,
    output_names,
)
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.engines.folding import fold_batch_norms
from csl_tracker.networks import NetworkOutput
from csl_tracker.pixels import Size, halvings, resize_matrices
from csl_tracker.weights import Model

logger = logging.getLogger(__name__)

_MOST_GRAPHS = 4
"""Captured paths that are kept: one with and one without a label map for two image sizes."""
_RUNS_BEFORE_CAPTURE = 3


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


class TorchDeviceEngine(RunsAtOnce):
    """Torch on an accelerator: one upload of the uint8 image, everything else there, one download of the small results.

    On CUDA all that happens between upload and download is captured as one graph for each image size, so that a frame costs
    one launch and no allocation.

    Args:
        model: What to run.
        device: Such as ``cuda:0``; ``cpu`` works too and is how this path is tested without an accelerator.
        precision: ``float16``, ``bfloat16`` or ``float32``, of the network; the normalisation before it is float32.
        mirror: Average with the mirrored image.

    Attributes:
        name: ``torch``.
        device: Where it runs.
        reason: Why this engine runs.
    """

    name = "torch"

    def __init__(self, model: Model, device: str, precision: str = "float16", mirror: bool = False) -> None:
        self.device = device
        self.reason = f"half precision on the device {device}" if precision != "float32" else ""
        self.mirror_order = mirror_order(model) if mirror else None
        self.preprocessing = model.description.preprocessing
        self.dtype = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}[precision]
        self.module = _module(model).to(device)
        # The normalisation scales 0..255 and is kept in float32; the network behind it runs in half precision.
        self.module.network.to(self.dtype)
        self._graphs: dict[tuple[Size, bool], _Graph | None] = {}
        self._matrices: dict[Size, tuple[Tensor, Tensor]] = {}

    @torch.inference_mode()
    def begin(self, image: npt.NDArray[np.uint8], segmentation: bool) -> tuple[EngineOutput, LabelMapMaker | None]:
        """See :meth:`csl_tracker.engines.base.Engine.begin`; the label map comes with the same download."""
        source = (image.shape[0], image.shape[1])
        graph = self._graph(source, segmentation) if self.device.startswith("cuda") else None
        if graph is not None:
            found = graph.run(image)
        else:
            parts = self._path(torch.from_numpy(np.ascontiguousarray(image)).to(self.device), segmentation)
            found = _split(_join(parts).cpu().numpy(), _layout(parts))
        working = self.preprocessing.working_size(source)
        points = locate_points(found["points"], working) if "points" in found else None
        output = EngineOutput(found.get("heatmaps"), found.get("foreground"), None, PixelMap(source, working), points)
        return output, partial(found.__getitem__, "label_map") if "label_map" in found else None

    def _path(self, image: Tensor, segmentation: bool) -> dict[str, Tensor]:
        """From a uint8 (H, W, 3) image on the device to what is downloaded; nothing in it waits for the device."""
        source = (int(image.shape[0]), int(image.shape[1]))
        working = self.preprocessing.working_size(source)
        x = self._resized(image.permute(2, 0, 1)[None].float(), source, working)
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
        return parts

    def _resized(self, x: Tensor, source: Size, working: Size) -> Tensor:
        """:func:`csl_tracker.pixels.resize_image` on the device, rounded as uint8 is: landmarks feel it."""
        steps = halvings(source, working)
        for _ in steps:
            x = functional.avg_pool2d(x, 2).add_(0.5).floor_()
        size = steps[-1] if steps else source
        if size == working:
            return x
        if size not in self._matrices:
            if len(self._matrices) >= _MOST_GRAPHS:
                self._matrices.pop(next(iter(self._matrices)))
            rows, columns = (torch.from_numpy(matrix).to(self.device) for matrix in resize_matrices(size, working))
            self._matrices[size] = rows, columns.T.contiguous()
        rows, columns = self._matrices[size]
        return (rows @ x @ columns).round_()

    def _graph(self, source: Size, segmentation: bool) -> _Graph | None:
        """The captured path for an image size; None where it cannot be captured."""
        key = (source, segmentation)
        if key not in self._graphs:
            if len(self._graphs) >= _MOST_GRAPHS:  # each holds memory of the device
                self._graphs.pop(next(iter(self._graphs)))
            try:
                self._graphs[key] = _Graph(lambda image: self._path(image, segmentation), source, self.device)
            except RuntimeError as error:  # a device that is lost or full fails without a graph, too, and that is raised
                logger.warning("The network is launched piece by piece, since it cannot be captured as a CUDA graph: %s", error)
                self._graphs[key] = None
        return self._graphs[key]

    def warm_up(self, size: Size) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.warm_up`."""
        for segmentation in (False, True):
            self.run(np.zeros((*size, 3), np.uint8), segmentation)


class _Graph:
    """A captured path from pinned memory to pinned memory.

    Args:
        path: From a uint8 (H, W, 3) image on the device to named float32 and uint8 tensors there.
        size: (height, width) of the image.
        device: A CUDA device.
    """

    def __init__(self, path: Callable[[Tensor], dict[str, Tensor]], size: Size, device: str) -> None:
        self.device = device
        with torch.cuda.device(device):
            self.pinned = torch.empty((*size, 3), dtype=torch.uint8, pin_memory=True)
            self.image = torch.zeros((*size, 3), dtype=torch.uint8, device=device)
            # Libraries choose their algorithms in the first runs, which a capture must not contain.
            side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(_RUNS_BEFORE_CAPTURE):
                    _join(path(self.image))
            torch.cuda.current_stream(device).wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                parts = path(self.image)
                self.joined = _join(parts)
            self.layout = _layout(parts)
            self.found = torch.empty(self.joined.shape, dtype=torch.uint8, pin_memory=True)

    def run(self, image: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """Replay it for an image of its size."""
        np.copyto(self.pinned.numpy(), image)
        with torch.cuda.device(self.device):
            self.image.copy_(self.pinned, non_blocking=True)
            self.graph.replay()
            self.found.copy_(self.joined, non_blocking=True)
            torch.cuda.current_stream(self.device).synchronize()
        return _split(self.found.numpy().copy(), self.layout)


def _mean_with_mirror(output: NetworkOutput, order: list[int]) -> NetworkOutput:
    """The mean of an image's outputs and its mirrored image's, from a batch of both."""
    assert output.heatmaps is not None
    assert output.scores is not None
    heatmaps = 0.5 * (output.heatmaps[:1] + output.heatmaps[1:, order].flip(-1))
    return NetworkOutput(heatmaps, 0.5 * (output.scores[:1] + output.scores[1:].flip(-1)))


_Layout = dict[str, tuple[tuple[int, ...], type[np.generic]]]


def _layout(parts: dict[str, Tensor]) -> _Layout:
    """Shapes and dtypes of tensors of float32 and uint8."""
    return {name: (tuple(t.shape), np.uint8 if t.dtype == torch.uint8 else np.float32) for name, t in parts.items()}


def _join(parts: dict[str, Tensor]) -> Tensor:
    """The bytes of all tensors one behind the other: every wait for the device costs more than the bytes do."""
    return torch.cat([tensor.contiguous().flatten().view(torch.uint8) for tensor in parts.values()])


def _split(data: npt.NDArray[np.uint8], layout: _Layout) -> dict[str, npt.NDArray[Any]]:
    """Undo :func:`_join`; the arrays share the memory of ``data``."""
    found: dict[str, npt.NDArray[Any]] = {}
    start = 0
    for name, (shape, dtype) in layout.items():
        end = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        found[name] = data[start:end].view(dtype).reshape(shape)
        start = end
    return found
