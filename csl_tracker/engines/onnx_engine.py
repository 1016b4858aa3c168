"""ONNX Runtime on the CPU or with one other provider."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from csl_tracker.engines.artefacts import ArtefactCache
from csl_tracker.engines.base import NetworkArrays, NormalizedNetwork, output_names
from csl_tracker.engines.exported import NETWORK, TRACED, ExportedEngine, example, quiet_tracing
from csl_tracker.engines.folding import as_subpixel_convolutions, fold_batch_norms
from csl_tracker.errors import EngineError, first_line
from csl_tracker.installing import install_command
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

OPSET = 17
_INPUT = "image"
CPU_PROVIDER = "CPUExecutionProvider"
_REMEDY = "install 'onnxruntime-gpu' with the CUDA and TensorRT libraries that it names, or use engine 'torch'"
_SIDES = ("height", "width")
"""Names of the dynamic dimensions."""

onnxruntime.disable_telemetry_events()


class OnnxEngine(ExportedEngine):
    """Runs the network as ONNX: input ``image``, uint8 (1, h, w, 3) RGB; outputs named as in the network.

    Args:
        model: The model.
        mirror: Average with the mirrored image.
        cache: Cache of exported networks; None for the user's cache.
        provider: ONNX Runtime execution provider. ONNX Runtime's silent fallback to another provider is disabled; creating a
            session fails instead.
        options: Provider options.

    Raises:
        EngineError: The installed ONNX Runtime lacks the provider.
    """

    name = "onnx"
    package = "onnxruntime"
    suffixes = (".onnx",)

    def __init__(
        self,
        model: Model,
        mirror: bool = False,
        cache: ArtefactCache | None = None,
        provider: str = CPU_PROVIDER,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(model, mirror, cache)
        self.provider, self.options = provider, dict(options or {})
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise EngineError(
                f"The installed ONNX Runtime {onnxruntime.__version__} has no {provider}, but only {', '.join(available)};"
                f" {_REMEDY}."
            )

    @classmethod
    def version(cls) -> str:
        """Version of ONNX Runtime, independent of its distribution."""
        return str(onnxruntime.__version__)

    @classmethod
    def write(cls, model: Model, size: Size, folder: Path) -> None:
        """See :meth:`ExportedEngine.write`.

        Raises:
            EngineError: The package ``onnx``, which torch needs for the export, is not installed.
        """
        (folder / f"{NETWORK}.onnx").write_bytes(_export(model, size))

    def load(self, size: Size, folder: Path) -> Any:
        """See :meth:`ExportedEngine.load`."""
        return self._open((folder / f"{NETWORK}.onnx").read_bytes())

    def convert(self, size: Size | None) -> Any:
        """See :meth:`ExportedEngine.convert`.

        Raises:
            EngineError: The package ``onnx`` is not installed.
        """
        return _export(self.model, size)

    def build(self, converted: Any, size: Size | None) -> Any:
        """See :meth:`ExportedEngine.build`."""
        return self._open_any(converted) if size is None else self._open(converted, size)

    def _open(self, network: bytes, size: Size | None = None) -> _Bound:
        options = self._options()
        for name, length in zip(_SIDES, size or (), strict=False):
            options.add_free_dimension_override_by_name(name, length)
        return _Bound(self._session(network, options))

    def _open_any(self, network: bytes) -> _Unbound:
        options = self._options()
        options.enable_mem_pattern = False  # it would cache a pattern per size
        return _Unbound(self._session(network, options))

    def _session(self, network: bytes, options: Any) -> Any:
        if self.provider == CPU_PROVIDER:
            return onnxruntime.InferenceSession(network, options, providers=[self.provider])
        # By default, a session silently runs unsupported operations, or all of them, on the CPU.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = onnxruntime.InferenceSession(network, options, providers=[(self.provider, self.options)])
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime cannot run the network by {self.provider} ({first_line(error)}); {_REMEDY}."
            ) from error
        running = session.get_providers()
        if not running or running[0] != self.provider:
            raise EngineError(
                f"ONNX Runtime would run the network by {running[0] if running else 'nothing'} instead of {self.provider},"
                f" whose libraries or device it does not find; {_REMEDY}."
            )
        session.disable_fallback()
        return session

    def _options(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        # Spinning threads would block the cores that receive the next image.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    def make_buffer(self, size: Size) -> npt.NDArray[np.uint8]:
        """See :meth:`csl_tracker.engines.cpu.CpuEngine.make_buffer`; returns the bound input of a static session."""
        bound = self.ready(size)
        return bound.image[0] if isinstance(bound, _Bound) else super().make_buffer(size)

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """See :meth:`csl_tracker.engines.cpu.CpuEngine.infer`."""
        size = (image.shape[0], image.shape[1])
        session: _Bound | _Unbound = self.ready(size)
        if isinstance(session, _Unbound):
            return NetworkArrays(**{name: array[0] for name, array in session.run(image).items()})
        buffer = self.input_buffer(size)
        if image is not buffer:
            np.copyto(buffer, image)
        return NetworkArrays(**{name: array[0] for name, array in session.run().items()})


def _export(model: Model, size: Size | None) -> bytes:
    """Export the network to ONNX for one input size (None: dynamic size)."""
    if importlib.util.find_spec("onnx") is None:
        raise EngineError(
            "Torch needs the package 'onnx' to export a network, and it is not installed; run"
            f" '{install_command('onnx')}', or use another engine."
        )
    network = as_subpixel_convolutions(fold_batch_norms(model.network))
    module = NormalizedNetwork(network, model.description.preprocessing).eval()
    names = list(output_names(model.description.network))
    sides = dict(zip((1, 2), _SIDES, strict=True))
    maps = {name: {2: "rows", 3: "columns"} for name in names if name != "points"}
    file = io.BytesIO()
    with quiet_tracing():
        # The newer exporter needs onnxscript and takes ten times as long.
        torch.onnx.export(
            module,
            (example(TRACED if size is None else size),),
            file,  # type: ignore[arg-type]  # documented to accept a file object
            dynamo=False,
            opset_version=OPSET,
            input_names=[_INPUT],
            output_names=names,
            dynamic_axes={_INPUT: sides, **maps} if size is None else None,
        )
    return file.getvalue()


class _Unbound:
    """A session for images of any size."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.names = [output.name for output in session.get_outputs()]

    def run(self, image: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        return dict(zip(self.names, self.session.run(None, {_INPUT: image[None]}), strict=True))


class _Bound:
    """A session with preallocated input and outputs."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.image = np.zeros(session.get_inputs()[0].shape, np.uint8)
        self.outputs = {output.name: np.empty(output.shape, np.float32) for output in session.get_outputs()}
        self.binding = session.io_binding()
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in self.outputs.items()}
        self.binding.bind_ortvalue_input(_INPUT, onnxruntime.OrtValue.ortvalue_from_numpy(self.image))
        for name, value in values.items():
            self.binding.bind_ortvalue_output(name, value)

    def run(self) -> dict[str, npt.NDArray[np.float32]]:
        self.session.run_with_iobinding(self.binding)
        return self.outputs
