"""``engine: auto``: the fastest installed engine whose output matches float32 torch."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from csl_tracker.engines.base import EngineOutput, LabelMapMaker, RunsAtOnce
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.engines.exported import ExportedEngine, normalized
from csl_tracker.errors import EngineError, first_line
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

logger = logging.getLogger(__name__)

BY_SPEED = {"openvino": ("openvino",), "onnx": ("onnxruntime",), "torch": ("torch",)}
"""CPU engines, fastest first (measured in docs/engines.md), and the modules that each needs."""

TOLERANCE = 1e-3
"""Maximum difference to float32 torch, relative to the largest output."""


def installed() -> tuple[str, ...]:
    """Installed CPU engines, fastest first."""
    return tuple(
        name for name, modules in BY_SPEED.items() if all(importlib.util.find_spec(module) is not None for module in modules)
    )


class AutoEngine(RunsAtOnce):
    """Runs the first engine that can be built and agrees with float32 torch.

    The engine is selected with the first image, since engines are built for an image size.

    Args:
        model: The model.
        candidates: Engines by name, best first; the last one is used without a check.
    """

    def __init__(self, model: Model, candidates: Sequence[tuple[str, Callable[[], CpuEngine]]]) -> None:
        self._model = model
        self._candidates = list(candidates)
        self._among = ", ".join(name for name, _ in candidates)
        self._engine: CpuEngine | None = None
        self._note = ""
        self._left_out: list[str] = []

    @property
    def name(self) -> str:
        """Name of the engine in use; before the first image, of the first candidate."""
        return self._candidates[0][0]

    @property
    def device(self) -> str:
        """Always ``cpu``."""
        return "cpu"

    @property
    def reason(self) -> str:
        """Why this engine was selected."""
        place = f"the fastest of {self._among}" if "," in self._among else "the only one that is installed here"
        return "; ".join([*self._left_out, *([] if self._left_out else [place]), *([self._note] if self._note else [])])

    def localize(
        self, image: npt.NDArray[np.uint8], segmentation: bool, count: int = 1
    ) -> tuple[EngineOutput, LabelMapMaker | None]:
        """See :meth:`csl_tracker.engines.base.Engine.localize`."""
        if self._engine is None:
            self._engine = self._choose((image.shape[0], image.shape[1]))
        return self._engine.localize(image, segmentation, count)

    def warm_up(self, size: Size, count: int = 1) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.warm_up`."""
        if self._engine is None:
            self._engine = self._choose(size)
        self._engine.warm_up(size, count)

    def _choose(self, source: Size) -> CpuEngine:
        working = self._model.description.preprocessing.working_size(source)
        while True:
            name, build = self._candidates[0]
            try:
                engine = build()
                self._note = "" if len(self._candidates) == 1 else _check(engine, self._model, working)
            except Exception as error:  # third-party engines may raise anything; try the next one
                if len(self._candidates) == 1:
                    raise
                reason = first_line(error)
                self._left_out.append(f"{name} was left out ({reason})")
                logger.warning("The engine %s cannot be used here and is left out: %s.", name, reason)
                del self._candidates[0]
            else:
                return engine


def _check(engine: CpuEngine, model: Model, size: Size) -> str:
    """Compare an engine with float32 torch, or read the result of the check at export.

    Returns:
        A clause with the result.

    Raises:
        EngineError: The outputs differ.
    """
    if isinstance(engine, ExportedEngine):
        engine.ready(size)
        if size in engine.checked and engine.checked[size] <= TOLERANCE:
            return f"agreed with torch to {engine.checked[size]:.0e} of the largest output when it was exported"
    difference = disagreement(engine, model, size)
    if not difference <= TOLERANCE:
        raise EngineError(f"it differs from float32 torch by {difference:.1e} of the largest output")
    return f"agrees with torch to {difference:.0e} of the largest output"


def disagreement(engine: CpuEngine, model: Model, size: Size) -> float:
    """Largest difference between an engine and float32 torch, relative to each output's largest value.

    Args:
        engine: An engine of the model.
        model: The model.
        size: (height, width) of the network's input.
    """
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = engine.infer(image)
    with torch.inference_mode():
        expected = normalized(model)(torch.from_numpy(image[None]))
    arrays = [array for array in (found.heatmaps, found.scores, found.points) if array is not None]
    worst = 0.0
    for array, tensor in zip(arrays, expected, strict=True):
        largest = max(float(tensor.abs().max()), 1e-12)
        worst = max(worst, float(np.abs(array - tensor[0].numpy()).max()) / largest)
    return worst
