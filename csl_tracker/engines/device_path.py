"""The device-side processing of an image of one size, between upload and download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from csl_tracker.engines.base import NormalizedNetwork
from csl_tracker.engines.device_peaks import PeakFinder
from csl_tracker.engines.precision import DTYPES, multiplication
from csl_tracker.networks import NetworkOutput
from csl_tracker.pixels import Size, halvings, resize_matrices
from csl_tracker.weights import Preprocessing

Infer = Callable[[Tensor], NetworkOutput]
"""A network: maps normalised (N, 3, h, w) in its dtype to its outputs."""


@dataclass(frozen=True)
class DeviceNetwork:
    """A network on a device.

    Attributes:
        module: The network with its normalisation, in evaluation mode, on the device.
        infer: The module's network, or a fused form of it.
        precision: ``float32``, ``tf32``, ``float16`` or ``bfloat16``.
        mirror_order: Landmark order in a mirrored image, for averaging; None without averaging.
    """

    module: NormalizedNetwork
    infer: Infer
    precision: str
    mirror_order: list[int] | None = None

    def __call__(self, image: Tensor) -> NetworkOutput:
        """Map a resized image, float32 (1, 3, h, w) of 0..255, to the outputs for one image."""
        # The normalisation of 0..255 stays in float32; the network may run in half precision.
        x = image * self.module.scale + self.module.shift
        x = x.to(DTYPES[self.precision], memory_format=torch.channels_last)
        with multiplication(self.precision):
            if self.mirror_order is None:
                return self.infer(x)
            return _mean_with_mirror(self.infer(torch.cat((x, x.flip(-1)))), self.mirror_order)


class DevicePath:
    """Processing from a uint8 image on the device to the tensors to download, without synchronisation.

    A path owns all tensors that it reads, so a captured graph is valid as long as the path exists.

    Args:
        network: The network.
        preprocessing: Image preprocessing.
        source: (height, width) of the image.
        segmentation: Compute the label map.
        finder: Finds the peaks; None returns full heatmaps and foreground.
        device: Device of the image.
    """

    def __init__(
        self,
        network: DeviceNetwork,
        preprocessing: Preprocessing,
        source: Size,
        segmentation: bool,
        finder: PeakFinder | None,
        device: str,
    ) -> None:
        self.network, self.finder = network, finder
        self.source, self.segmentation = source, segmentation
        self.working = preprocessing.working_size(source)
        self.steps = halvings(source, self.working)
        last = self.steps[-1] if self.steps else source
        self.matrices: tuple[Tensor, Tensor] | None = None
        if last != self.working:
            rows, columns = resize_matrices(last, self.working)
            columns = np.ascontiguousarray(columns.T)
            self.matrices = torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Map uint8 (H, W, 3) to the named parts of the result."""
        return self.read(self.network(self.resize(image)))

    def resize(self, image: Tensor) -> Tensor:
        """:func:`csl_tracker.pixels.resize_image` on the device, with uint8 rounding, which affects landmarks.

        Returns:
            float32 (1, 3, h, w), 0..255.
        """
        x = image.permute(2, 0, 1)[None].float()
        for _ in self.steps:
            x = functional.avg_pool2d(x, 2).add_(0.5).floor_()
        if self.matrices is None:
            return x
        rows, columns = self.matrices
        with multiplication("float32"):
            return (rows @ x @ columns).round_()

    def read(self, output: NetworkOutput) -> dict[str, Tensor]:
        """The tensors to download (float64, float32, uint8) from a network's outputs."""
        parts: dict[str, Tensor] = {}
        if output.points is not None:
            parts["points"] = output.points[0].float()
        if output.heatmaps is not None and self.finder is not None:
            assert output.scores is not None
            parts["peaks"], parts["support"] = self.finder(output.heatmaps[0], output.scores[0])
        elif output.heatmaps is not None:
            parts["heatmaps"] = output.heatmaps[0].float()
        if output.offsets is not None:
            parts["offsets"] = output.offsets[0].float()
        if output.scores is not None:
            scores = output.scores.float()
            if self.finder is None:
                parts["foreground"] = 1.0 - torch.softmax(scores, dim=1)[0, 0]
            if self.segmentation:
                scores = functional.interpolate(scores, self.source, mode="bilinear", align_corners=False)
                parts["label_map"] = scores.argmax(dim=1)[0].to(torch.uint8)
        return parts


def _mean_with_mirror(output: NetworkOutput, order: list[int]) -> NetworkOutput:
    """Mean of the outputs of an image and its mirrored copy, from a batch of both."""
    assert output.heatmaps is not None
    assert output.scores is not None
    heatmaps = 0.5 * (output.heatmaps[:1] + output.heatmaps[1:, order].flip(-1))
    offsets = output.offsets
    if offsets is not None:
        offsets = 0.5 * (offsets[:1] + offsets[1:].flip(-1) * offsets.new_tensor((-1.0, 1.0)).view(1, 2, 1, 1))
    return NetworkOutput(heatmaps, 0.5 * (output.scores[:1] + output.scores[1:].flip(-1)), None, offsets)


_NUMPY: dict[torch.dtype, type[np.generic]] = {torch.float64: np.float64, torch.float32: np.float32, torch.uint8: np.uint8}

Layout = dict[str, tuple[tuple[int, ...], type[np.generic]]]
"""Shape and dtype of each part of a download."""


def layout(parts: dict[str, Tensor]) -> Layout:
    """Shapes and dtypes of tensors of float64, float32 and uint8."""
    return {name: (tuple(tensor.shape), _NUMPY[tensor.dtype]) for name, tensor in parts.items()}


def join(parts: dict[str, Tensor]) -> Tensor:
    """Concatenate the bytes of all tensors, widest dtype first: one transfer needs one synchronisation."""
    ordered = sorted(parts.values(), key=lambda tensor: -tensor.element_size())
    return torch.cat([tensor.contiguous().flatten().view(torch.uint8) for tensor in ordered])


def split(data: npt.NDArray[np.uint8], layout: Layout) -> dict[str, npt.NDArray[Any]]:
    """Undo :func:`join`; the arrays share the memory of ``data``."""
    found: dict[str, npt.NDArray[Any]] = {}
    start = 0
    # Widest first keeps each part aligned.
    for name, (shape, dtype) in sorted(layout.items(), key=lambda item: -np.dtype(item[1][1]).itemsize):
        end = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        found[name] = data[start:end].view(dtype).reshape(shape)
        start = end
    return found
