"""OpenVINO on the CPU: the fastest of the engines there."""

from __future__ import annotations

import logging
import sys
import warnings

import numpy as np
import numpy.typing as npt
import torch

from csl_tracker.engines.base import NetworkArrays, NormalizedNetwork, output_names
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

# Where this package can be imported, OpenVINO's converter reports each use to Google Analytics and leaves an identity in the
# home folder. A robot talks to nobody: OpenVINO then takes its own stub.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino  # noqa: E402


class OpenVinoEngine(CpuEngine):
    """One compiled model per working size: static shapes are the fastest, and a camera has one size."""

    name = "openvino"

    def __init__(self, model: Model, mirror: bool = False) -> None:
        super().__init__(model, mirror)
        self.module = NormalizedNetwork(model.network, model.description.preprocessing).eval()
        self.core = openvino.Core()
        self.requests: dict[Size, openvino.InferRequest] = {}
        self.names = output_names(model.description.network)

    def _request(self, size: Size) -> openvino.InferRequest:
        if size not in self.requests:
            logging.getLogger("openvino").setLevel(logging.ERROR)
            example = torch.zeros((1, *size, 3), dtype=torch.uint8)
            with warnings.catch_warnings():
                # OpenVINO traces the network; that the trace holds for this size alone is what is wanted.
                warnings.simplefilter("ignore")
                converted = openvino.convert_model(self.module, example_input=example, input=[(1, *size, 3)])
            options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
            self.requests[size] = self.core.compile_model(converted, "CPU", options).create_infer_request()
        return self.requests[size]

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """See :meth:`CpuEngine.infer`."""
        request = self._request((image.shape[0], image.shape[1]))
        request.infer([image[None]])
        return NetworkArrays(**{name: request.get_output_tensor(i).data[0].copy() for i, name in enumerate(self.names)})
