"""ONNX Runtime on a GPU, by its CUDA or its TensorRT provider, and by no other."""

from __future__ import annotations

from csl_tracker.engines.artefacts import ArtefactCache
from csl_tracker.engines.onnx_engine import OnnxEngine
from csl_tracker.errors import EngineError
from csl_tracker.weights import Model

_PROVIDERS = {"onnx": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_OPTIONS = {
    ("onnx", "float32"): {"use_tf32": "0"},
    ("onnx", "tf32"): {"use_tf32": "1"},
    ("tensorrt", "tf32"): {"trt_fp16_enable": "0"},
    ("tensorrt", "float16"): {"trt_fp16_enable": "1"},
}
"""Precisions of each provider, and the options that switch them on. TensorRT multiplies float32 in TF32."""


class OnnxDeviceEngine(OnnxEngine):
    """The network on a GPU, pre- and post-processing on the CPU. Its speed was never measured.

    Args:
        model: What to run.
        device: Such as ``cuda:0``.
        engine: ``onnx`` for the CUDA provider, ``tensorrt`` for TensorRT's.
        precision: ``float32`` or ``tf32`` by CUDA, ``tf32`` or ``float16`` by TensorRT; ``auto`` takes the first of them.
        mirror: Average with the mirrored image.
        cache: Where exported networks are looked for; the user's cache when None.

    Raises:
        EngineError: The provider is not there, or does not compute in this precision.
    """

    def __init__(
        self,
        model: Model,
        device: str,
        engine: str,
        precision: str = "auto",
        mirror: bool = False,
        cache: ArtefactCache | None = None,
    ) -> None:
        known = [name for by, name in _OPTIONS if by == engine]
        self.precision = known[0] if precision == "auto" else precision
        if self.precision not in known:
            raise EngineError(
                f"The engine {engine!r} on {device!r} does not compute in {precision}; use precision {' or '.join(known)}."
            )
        options = {"device_id": device.partition(":")[2] or "0", **_OPTIONS[engine, self.precision]}
        super().__init__(model, mirror, cache, _PROVIDERS[engine], options)
        self._takes_any = self._takes_any and engine == "onnx"  # TensorRT takes minutes to build for each shape that it sees
        self.name, self.device = engine, device  # type: ignore[misc]  # of the instance, not of the class
        self.reason = f"{self.provider} in {self.precision}"
