"""The engines that are measured, through one door: an engine that lacks something says so in a sentence."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.engines import Engine, create_engine, factory
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.errors import EngineError
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
"""ONNX Runtime's names of what computes on a GPU."""


@dataclass(frozen=True)
class Variant:
    """A way to run a network.

    Attributes:
        kind: ``device`` (torch on the device), ``cpu`` (an engine of the CPU), ``cuda`` or ``tensorrt`` (ONNX Runtime's).
        precision: What the network computes in.
        launch: ``graph`` or ``eager``, of torch on the device.
        engine: Name of an engine of the CPU.
    """

    kind: str
    precision: str = "float32"
    launch: str = ""
    engine: str = ""

    @property
    def name(self) -> str:
        """As in the tables."""
        if self.kind == "device":
            return f"torch, {self.precision}, {self.launch}"
        if self.kind == "cpu":
            return f"{self.engine} on the CPU, {self.precision}"
        return f"onnx, {PROVIDERS[self.kind]}"


def reference(model: Model) -> Engine:
    """The network as it was trained, in float32 on the CPU."""
    return TorchCpuEngine(model, fold=False)


def build(model: Model, variant: Variant, device: str) -> Engine:
    """Make an engine.

    Args:
        model: What to run.
        variant: How.
        device: Such as ``cuda:0``.

    Raises:
        EngineError: It is not to be had here; the sentence is worth keeping.
    """
    if variant.kind == "cpu":
        return create_engine(model, "cpu", variant.engine, precision=variant.precision)
    if variant.kind == "device":
        return _device_engine(model, variant, device)
    return _onnx_on_device(model, variant, device)


def _device_engine(model: Model, variant: Variant, device: str) -> Engine:
    kind: Any = getattr(factory, "TorchDeviceEngine")  # noqa: B009  # wherever it comes from
    more = {"launch": variant.launch} if "launch" in inspect.signature(kind).parameters else {}
    try:
        engine = kind(model, device, variant.precision, **more)
    except (KeyError, ValueError) as error:
        raise EngineError(f"This version's engine does not know the precision {variant.precision!r}.") from error
    if variant.launch == "eager" and not more:
        engine._graph = lambda *_: None  # what it does where it cannot capture
    return engine  # type: ignore[no-any-return]


def _onnx_on_device(model: Model, variant: Variant, device: str) -> Engine:
    name = {"cuda": "onnx", "tensorrt": "tensorrt"}[variant.kind]
    if not device.startswith("cuda"):
        raise EngineError(f"Without a GPU there is nothing to compute by {PROVIDERS[variant.kind]}.")
    if name not in factory.ENGINES:
        raise EngineError(f"This version has no engine {name!r}.")
    return create_engine(model, device, engine=name)


def localize(engine: Engine, image: npt.NDArray[np.uint8], segmentation: bool, count: int) -> Any:
    """Run an engine as the tracker does, ``count`` peaks for each landmark where it finds these itself."""
    most = {"count": count} if "count" in inspect.signature(engine.localize).parameters else {}
    return engine.localize(image, segmentation, **most)


def ready(engine: Engine, size: Size, count: int) -> None:
    """Do everything that is only done once for (height, width) and a number of peaks, what the engine has put off, too."""
    most = {"count": count} if "count" in inspect.signature(engine.warm_up).parameters else {}
    engine.warm_up(size, **most)
    settle(engine)


def settle(engine: Engine) -> None:
    """Have the engine do what it has put off, such as capturing a graph."""
    later = getattr(engine, "settle", None)
    if callable(later):
        later()


class Stages:
    """The engine's own times of the pieces of a frame, where it takes them."""

    def __init__(self, engine: Engine) -> None:
        self._stages = getattr(engine, "stages", None)

    def of(self, work: Any) -> dict[str, float] | None:
        """Do the work; the pieces that it took by name, s, or None where the engine does not say.

        Args:
            work: Runs one frame.
        """
        if not callable(self._stages):
            work()
            return None
        opened = self._stages()
        if isinstance(opened, AbstractContextManager):
            with opened as laps:
                work()
        else:
            work()
            laps = self._stages()
        return {name: 1e-3 * float(value) for name, value in laps.items()} if isinstance(laps, Mapping) else None
