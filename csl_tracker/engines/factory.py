"""Choice of device and engine."""

from __future__ import annotations

import importlib.util

import torch

from csl_tracker.engines.base import Engine
from csl_tracker.engines.torch_engine import TorchCpuEngine, TorchDeviceEngine
from csl_tracker.errors import EngineError
from csl_tracker.weights import Model

ENGINES = ("auto", "torch", "openvino")


def resolve_device(device: str) -> str:
    """``auto`` is CUDA where there is one, else the CPU.

    Raises:
        EngineError: The device is unknown to torch or not there.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
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
    if index >= torch.cuda.device_count():
        raise EngineError(f"The device {device!r} was asked for, but there are only {torch.cuda.device_count()} CUDA GPUs.")
    return f"cuda:{index}"


def create_engine(model: Model, device: str = "auto", engine: str = "auto", mirror: bool = False) -> Engine:
    """Build the engine for a model.

    Args:
        model: What to run.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        engine: ``auto``, ``torch`` or ``openvino``. ``auto`` takes half-precision torch on CUDA; on the CPU OpenVINO where it
            is installed, else torch. A forest runs on the CPU, by torch's engine.
        mirror: Average heatmaps and scores with those of the mirrored image, at twice the time.

    Raises:
        EngineError: Engine or device is unknown, not installed, or they do not go together, or the model has no heatmaps to
            average.
    """
    if engine not in ENGINES:
        raise EngineError(f"The engine {engine!r} is unknown; choose one of {', '.join(ENGINES)}.")
    place = resolve_device(device)
    if model.description.network.strategy == "forest":
        if engine == "openvino" or (place != "cpu" and device != "auto"):
            wanted = f"the engine {engine!r}" if engine == "openvino" else f"the device {device!r}"
            raise EngineError(f"A forest runs on the CPU with the engine 'torch' and not on {wanted}; use 'auto' for both.")
        return TorchCpuEngine(model, mirror)
    if place != "cpu":
        if engine == "openvino":
            raise EngineError(
                f"The engine 'openvino' runs on the CPU and not on {place!r}; use device 'cpu' or engine 'torch'."
            )
        return TorchDeviceEngine(model, place, mirror=mirror)
    has_openvino = importlib.util.find_spec("openvino") is not None
    if engine == "openvino" and not has_openvino:
        raise EngineError("The engine 'openvino' is not installed; run 'pip install openvino' or use engine 'torch'.")
    if engine == "torch" or not has_openvino:
        return TorchCpuEngine(model, mirror)
    # Importing OpenVINO takes a second that torch users should not pay.
    from csl_tracker.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(model, mirror)
