"""ONNX Runtime on a GPU with the CUDA or TensorRT provider."""

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
"""Provider options of each supported precision. TensorRT multiplies float32 in TF32."""


class OnnxDeviceEngine(OnnxEngine):
    """Network on a GPU, pre- and post-processing on the CPU. The speed has not been measured.

    Args:
        model: The model.
        device: Such as ``cuda:0``.
        engine: ``onnx`` for the CUDA provider, ``tensorrt`` for the TensorRT provider.
        precision: ``float32`` or ``tf32`` for CUDA, ``tf32`` or ``float16`` for TensorRT; ``auto`` selects the first.
        mirror: Average with the mirrored image.
        cache: Cache of exported networks; None for the user's cache.

    Raises:
        EngineError: The provider is not available or does not support the precision.
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
        self._takes_any = self._takes_any and engine == "onnx"  # TensorRT takes minutes to build for each new shape
        self.name, self.device = engine, device  # type: ignore[misc]  # instance attributes
        self.reason = f"{self.provider} in {self.precision}"
