"""Choice of device and engine."""

from __future__ import annotations

from functools import partial

import torch

from csl_tracker.engines.auto import AutoEngine, installed
from csl_tracker.engines.base import Engine, mirror_order
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.engines.device_engine import TorchDeviceEngine
from csl_tracker.engines.device_loss import DeviceLostError, lost_devices
from csl_tracker.engines.precision import PRECISIONS
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.errors import EngineError
from csl_tracker.installing import install_command
from csl_tracker.weights import Model

ENGINES = ("auto", "torch", "onnx", "openvino", "tensorrt")
_BY_ONNX_RUNTIME = ("onnx", "tensorrt")
_EXPORTED = ("onnx", "openvino", "tensorrt")


def resolve_device(device: str) -> str:
    """Resolve a device name; ``auto`` is CUDA if available, else the CPU.

    Raises:
        EngineError: The device is unknown, not available, or was lost in this process.
    """
    lost = lost_devices()
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() and "cuda:0" not in lost else "cpu"
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise EngineError(f"The device {device!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:N'.") from error
    if parsed.type == "cpu":
        return "cpu"
    if parsed.type != "cuda":
        raise EngineError(f"The device {device!r} is not supported; use 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    if not torch.cuda.is_available():
        raise EngineError(
            f"The device {device!r} was asked for, but this torch ({torch.__version__}) sees no CUDA GPU; use 'cpu'."
        )
    index = parsed.index or 0
    if f"cuda:{index}" in lost:
        raise DeviceLostError(f"cuda:{index}", lost[f"cuda:{index}"])
    if index >= torch.cuda.device_count():
        raise EngineError(f"The device {device!r} was asked for, but there are only {torch.cuda.device_count()} CUDA GPUs.")
    return f"cuda:{index}"


def create_engine(
    model: Model, device: str = "auto", engine: str = "auto", mirror: bool = False, precision: str = "auto"
) -> Engine:
    """Build the engine for a model.

    Args:
        model: What to run.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        engine: ``auto``, ``torch``, ``onnx``, ``openvino`` or ``tensorrt``. ``auto`` takes torch on CUDA; on the CPU the
            fastest that is installed and agrees with float32 torch on the first image's size. A forest runs on the CPU, by
            torch's engine.
        mirror: Average heatmaps and scores with those of the mirrored image, at twice the time.
        precision: What the network computes in. ``auto`` is float32 on the CPU and, on CUDA by torch, float16 where that moves
            no landmarks; ``bfloat16`` is faster on CPUs that have it, by OpenVINO alone, and moves landmarks (docs/engines.md).

    Raises:
        EngineError: Engine, device or precision is unknown, not installed, or they do not go together, or the model has no
            heatmaps to average.
    """
    for what, value, known in (("engine", engine, ENGINES), ("precision", precision, PRECISIONS)):
        if value not in known:
            raise EngineError(f"The {what} {value!r} is unknown; choose one of {', '.join(known)}.")
    place = resolve_device(device)
    if mirror:
        mirror_order(model)  # raises now, and not with the first image, where outputs cannot be averaged
    if model.description.network.strategy == "forest":
        return _for_forest(model, device, place, engine, mirror, precision)
    if place != "cpu":
        return _on_cuda(engine, model, place, mirror, precision)
    _refuse_on_cpu(engine, precision)
    present = installed()
    if precision == "bfloat16":
        engine = "openvino"
    if engine != "auto":
        if engine not in present:
            raise _not_installed(engine)
        return _on_cpu(engine, model, mirror, precision)
    return AutoEngine(model, [(name, partial(_on_cpu, name, model, mirror, precision)) for name in present])


def _for_forest(model: Model, device: str, place: str, engine: str, mirror: bool, precision: str) -> TorchCpuEngine:
    if engine in _EXPORTED or (place != "cpu" and device != "auto"):
        wanted = f"the engine {engine!r}" if engine in _EXPORTED else f"the device {device!r}"
        raise EngineError(f"A forest runs on the CPU with the engine 'torch' and not on {wanted}; use 'auto' for both.")
    if precision not in ("auto", "float32"):
        raise EngineError(f"A forest computes in float32 and not in {precision!r}; use precision 'auto'.")
    return TorchCpuEngine(model, mirror)


def _refuse_on_cpu(engine: str, precision: str) -> None:
    if engine == "tensorrt":
        raise EngineError("The engine 'tensorrt' runs on CUDA and not on the CPU; use device 'cuda', or engine 'auto'.")
    if precision in ("float16", "tf32") or (precision == "bfloat16" and engine not in ("auto", "openvino")):
        remedy = "use engine 'openvino'" if precision == "bfloat16" else "use device 'cuda', or precision 'auto'"
        name = "The CPU" if engine == "auto" else f"The engine {engine!r} on the CPU"
        raise EngineError(f"{name} does not compute in {precision}; {remedy}.")


def _not_installed(engine: str) -> EngineError:
    return EngineError(f"The engine {engine!r} is not installed; run '{install_command(engine)}' or use engine 'torch'.")


def _on_cuda(engine: str, model: Model, device: str, mirror: bool, precision: str) -> Engine:
    if engine == "openvino":
        raise EngineError(f"The engine {engine!r} runs on the CPU and not on {device!r}; use device 'cpu' or engine 'torch'.")
    if engine in _BY_ONNX_RUNTIME:
        if "onnx" not in installed():
            raise EngineError(
                f"The engine {engine!r} on {device!r} needs ONNX Runtime's build for GPUs, which is not installed; run"
                " 'pip install onnx onnxruntime-gpu' or use engine 'torch'."
            )
        from csl_tracker.engines.onnx_device import OnnxDeviceEngine

        return OnnxDeviceEngine(model, device, engine, precision, mirror)
    return TorchDeviceEngine(model, device, precision, mirror)


def _on_cpu(engine: str, model: Model, mirror: bool, precision: str) -> CpuEngine:
    # Import engines lazily, since imports are slow.
    if engine == "openvino":
        from csl_tracker.engines.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(model, mirror, precision="float32" if precision == "auto" else precision)
    if engine == "onnx":
        from csl_tracker.engines.onnx_engine import OnnxEngine

        return OnnxEngine(model, mirror)
    return TorchCpuEngine(model, mirror)
