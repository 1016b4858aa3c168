"""OpenVINO on the CPU, the fastest CPU engine."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from csl_tracker.engines.artefacts import ArtefactCache
from csl_tracker.engines.base import NetworkArrays
from csl_tracker.engines.exported import NETWORK, TRACED, ExportedEngine, example, normalized, quiet_tracing
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

# If this package is importable, OpenVINO's converter reports each use to Google Analytics and stores an ID in the home folder.
# Blocking the import makes OpenVINO use its stub.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402

_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoEngine(ExportedEngine):
    """Runs the network as OpenVINO IR.

    Args:
        model: The model.
        mirror: Average with the mirrored image.
        cache: Cache of exported networks; None for the user's cache.
        precision: ``float32``, or ``bfloat16``, which moves landmarks.
        place: OpenVINO device name; only ``CPU`` is tested.
    """

    name = "openvino"
    package = "openvino"
    suffixes = (".xml", ".bin")

    def __init__(
        self,
        model: Model,
        mirror: bool = False,
        cache: ArtefactCache | None = None,
        precision: str = "float32",
        place: str = "CPU",
    ) -> None:
        super().__init__(model, mirror, cache)
        self.core = openvino.Core()
        self.place = place
        self.options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _PRECISIONS[precision]}

    @classmethod
    def write(cls, model: Model, size: Size, folder: Path) -> None:
        """See :meth:`ExportedEngine.write`."""
        # Store float32 weights; the precision is selected at compilation.
        openvino.save_model(_convert(model, size), folder / f"{NETWORK}.xml", compress_to_fp16=False)

    def load(self, size: Size, folder: Path) -> Any:
        """See :meth:`ExportedEngine.load`."""
        return self._compile(self.core.read_model(folder / f"{NETWORK}.xml"))

    def use_file(self, size: Size, path: Path) -> None:
        """Use a network file (IR, ONNX) for an input size, such as a quantised network.

        Args:
            size: (height, width) of its input, which is uint8 (1, h, w, 3) RGB.
            path: The file; its outputs must match those of the model in order.
        """
        self._keep(size, self._compile(self.core.read_model(path)))

    def convert(self, size: Size | None) -> Any:
        """See :meth:`ExportedEngine.convert`."""
        return _convert(self.model, size)

    def build(self, converted: Any, size: Size | None) -> Any:
        """See :meth:`ExportedEngine.build`."""
        if size is None:
            return self._compile(converted)
        network = converted.clone()
        network.reshape([1, *size, 3])
        return self._compile(network)

    def _compile(self, network: Any) -> Any:
        return self.core.compile_model(network, self.place, self.options).create_infer_request()

    def make_buffer(self, size: Size) -> npt.NDArray[np.uint8]:
        """See :meth:`csl_tracker.engines.cpu.CpuEngine.make_buffer`; returns the input tensor of a static network."""
        request = self.ready(size)
        if request is self._any:
            return super().make_buffer(size)
        buffer: npt.NDArray[np.uint8] = request.get_input_tensor().data[0]
        return buffer

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """See :meth:`csl_tracker.engines.cpu.CpuEngine.infer`."""
        size = (image.shape[0], image.shape[1])
        request: Any = self.ready(size)
        buffer = self.input_buffer(size)
        if image is not buffer:
            np.copyto(buffer, image)
        takes_any = request is self._any
        if takes_any:
            request.set_input_tensor(openvino.Tensor(buffer[None], shared_memory=True))
        request.infer()
        return NetworkArrays(**{name: request.get_output_tensor(i).data[0] for i, name in enumerate(self.names)})


def _convert(model: Model, size: Size | None) -> Any:
    logging.getLogger("openvino").setLevel(logging.ERROR)
    image = example(TRACED if size is None else size)
    shape = (1, -1, -1, 3) if size is None else (1, *size, 3)
    network = normalized(model)
    with quiet_tracing(), _constant(network):
        # Trace here without check_trace: OpenVINO would trace twice to compare the results.
        # A function is traced much faster than a module, whose whole tree would become a script module.
        traced = torch.jit.trace(lambda x: network(x), image, check_trace=False)  # type: ignore[no-untyped-call]
        return openvino.convert_model(traced, example_input=image, input=[shape])


@contextmanager
def _constant(network: nn.Module) -> Iterator[None]:
    """Weights without gradients, which a trace takes as constants."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
