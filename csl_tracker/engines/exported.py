"""Base of the ONNX Runtime and OpenVINO engines: one network for the camera's input size, and one for all other sizes."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from csl_tracker.engines.artefacts import Artefact, ArtefactCache, ArtefactKey
from csl_tracker.engines.base import NetworkArrays, NormalizedNetwork, output_names
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.errors import EngineError, first_line
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

logger = logging.getLogger(__name__)

NETWORK = "network"
"""File name of an exported network, without the suffix."""

_MOST_SIZES = 4
"""Maximum number of networks for fixed sizes."""

TRACED: Size = (128, 160)
"""Input size for tracing a network with dynamic size."""

_OTHER_SIZES: tuple[Size, ...] = ((96, 64), (64, 96), *((32 * k, 64) for k in range(1, _MOST_SIZES)))
"""Small input sizes for testing a network with dynamic size; none is the tracing size."""

_USUAL_SIZES: tuple[Size, ...] = ((480, 640), (576, 720), (720, 1080), (1080, 1920), (1000, 1000), (1920, 1080))
"""Common camera image sizes, used to warm up a network with dynamic size."""

_MOST_CONVERSIONS = 2
"""Maximum number of conversions that a process keeps."""

_WRONG = 0.1
"""Difference to torch, relative to the largest output, that is too large for a rounding error."""


class _Conversions:
    """Conversions that a process keeps for its next engines, by engine, weights and size.

    PyTorch never frees all memory of a trace (10 MB for the default weights), so a node that is configured again and again
    must not trace again. The next start is faster, too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, Size | None], Any] = {}

    def get(self, engine: ExportedEngine, size: Size | None) -> Any:
        """The conversion of the engine's model for a size (None: dynamic size), made on first use.

        It is not kept for a model without a hash.
        """
        key = (engine.name, engine.model.sha256, size)
        with self._lock:
            converted = self._kept.pop(key, None)
            if converted is None:
                converted = engine.convert(size)
            if engine.model.sha256:
                self._kept[key] = converted  # the newest is last
            while len(self._kept) > _MOST_CONVERSIONS:
                del self._kept[next(iter(self._kept))]
        return converted


_conversions = _Conversions()


class ExportedEngine(CpuEngine):
    """Runs a static network for the first input size (a camera has one size) and a dynamic one for all other sizes.

    Both come from one conversion, before the first image if :meth:`warm_up` is called. An image of a new size therefore costs
    little more than usual and is resized as in training, and memory use does not grow with the number of sizes. If a network
    has a fixed input size, or its dynamic conversion fails, it is built per size and a few are cached.

    Args:
        model: The model.
        mirror: Average with the mirrored image.
        cache: Cache of exported networks; None for the user's cache.

    Attributes:
        package: Distribution name of the engine.
        suffixes: File suffixes of an exported network.
        checked: Agreement with float32 torch by input size, from the manifest of the artefact in use.
    """

    package: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    def __init__(self, model: Model, mirror: bool = False, cache: ArtefactCache | None = None) -> None:
        super().__init__(model, mirror)
        self.names = output_names(model.description.network)
        self.cache = ArtefactCache() if cache is None else cache
        self.checked: dict[Size, float] = {}
        self._ready: dict[Size, Any] = {}
        self._any: Any | None = None
        self._takes_any = self.preprocessing.resize == "keep_aspect"

    @classmethod
    def write(cls, model: Model, size: Size, folder: Path) -> None:
        """Write the network of one input size as ``network.SUFFIX`` into a folder."""
        raise NotImplementedError

    def load(self, size: Size, folder: Path) -> Any:
        """Load the files of :meth:`write` for :meth:`infer`."""
        raise NotImplementedError

    def convert(self, size: Size | None) -> Any:
        """Convert the weights for one input size (None: dynamic size); the slow part of building."""
        raise NotImplementedError

    def build(self, converted: Any, size: Size | None) -> Any:
        """Compile the result of :meth:`convert` for one input size (None: dynamic size)."""
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        """Version of the engine's package."""
        return metadata.version(cls.package)

    @classmethod
    def key(cls, model: Model, size: Size) -> ArtefactKey:
        """Cache key of the network for one input size."""
        return ArtefactKey(model.sha256, cls.name, cls.version(), cls.device, size)

    def use(self, size: Size, artefact: Artefact) -> None:
        """Use this artefact for this input size."""
        self._keep(size, self.load(size, artefact.folder))
        if artefact.agreement is not None:
            self.checked[size] = artefact.agreement

    def ready(self, size: Size) -> Any:
        """The compiled network for this size: the static one if it exists, else the dynamic one."""
        if size in self._ready:
            return self._ready[size]
        if self._ready and self._takes_any:
            found = self._any_size()
            if found is not None:
                return found
        artefact = self.cache.find(self.key(self.model, size)) if self.model.sha256 else None
        if artefact is not None:
            self.use(size, artefact)
        elif self._takes_any:
            self._keep(size, self.build(_conversions.get(self, None), size))
        else:
            self._keep(size, self.build(_conversions.get(self, size), size))
        return self._ready[size]

    def warm_up(self, size: Size, count: int = 1) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.warm_up`; also prepares for other image sizes."""
        super().warm_up(size, count)
        if not self._takes_any or self._any_size() is None:
            return
        for usual in {self.preprocessing.working_size(size) for size in _USUAL_SIZES}.difference(self._ready):
            self.infer(np.zeros((*usual, 3), np.uint8))  # engines may select kernels by shape

    def _any_size(self) -> Any | None:
        """The dynamic network, built on first use; None if it cannot be built."""
        if self._any is None:
            try:
                self._any = self.build(_conversions.get(self, None), None)
                self._try_out()
            except Exception as error:  # third-party converters may raise anything
                reason = first_line(error)
                logger.warning("%s builds a network for each size of images, which takes seconds: %s.", self.name, reason)
                self._any, self._takes_any = None, False
        return self._any

    def _try_out(self) -> None:
        """Compare the dynamic network with torch at a size other than that of tracing.

        Raises:
            EngineError: The outputs differ, since the conversion has fixed the size somewhere.
        """
        size = next(size for size in _OTHER_SIZES if size not in self._ready)
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        found = self.infer(image)
        with torch.inference_mode():
            expected = normalized(self.model)(torch.from_numpy(image[None]))
        for name, tensor in zip(self.names, expected, strict=True):
            array, right = getattr(found, name), tensor[0].numpy()
            if array.shape != right.shape or not np.abs(array - right).max() <= _WRONG * max(float(np.abs(right).max()), 1e-12):
                raise EngineError("the converted network is valid for one size only")

    def _keep(self, size: Size, network: Any) -> None:
        while len(self._ready) >= _MOST_SIZES:
            oldest = next(iter(self._ready))
            del self._ready[oldest]
            self._buffers.pop(oldest, None)
        self._ready[size] = network
        self._buffers.pop(size, None)  # the input buffer belongs to the network

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """See :meth:`csl_tracker.engines.cpu.CpuEngine.infer`."""
        raise NotImplementedError


def example(size: Size) -> torch.Tensor:
    """An example image for tracing."""
    return torch.zeros((1, *size, 3), dtype=torch.uint8)


def normalized(model: Model) -> NormalizedNetwork:
    """The original network with its normalisation, in evaluation mode."""
    return NormalizedNetwork(model.network, model.description.preprocessing).eval()


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Suppress the warning that a trace is valid for one size only, which is intended."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
