"""What ONNX Runtime and OpenVINO share: one network for the camera's input size, and one for images of any other size."""

from __future__ import annotations

import logging
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
"""Name of an exported network's files, without the suffix."""

_MOST_SIZES = 4
"""Networks that are kept where none takes any size."""

TRACED: Size = (128, 160)
"""Input size with which a network of any size is traced."""

_OTHER_SIZES: tuple[Size, ...] = ((96, 64), (64, 96), *((32 * k, 64) for k in range(1, _MOST_SIZES)))
"""Input sizes at which a network of any size is tried out: others than that of tracing, and small."""

_USUAL_SIZES: tuple[Size, ...] = ((480, 640), (576, 720), (720, 1080), (1080, 1920), (1000, 1000), (1920, 1080))
"""Sizes of images that cameras have, at which a network of any size is tried before they come."""

_WRONG = 0.1
"""Difference to torch, in shares of the largest output, that no precision explains."""


class ExportedEngine(CpuEngine):
    """Two networks: a static one for the first input size, since a camera has one size, and one that takes any size.

    Both are made of one conversion, before the first image where :meth:`warm_up` is called. So an image of a new size costs
    little more than a usual one, is resized as in training, and memory does not grow with the sizes that are seen. A network
    that knows one input size alone, or whose conversion fails at another one, is built for each size, and few are kept.

    Args:
        model: What to run.
        mirror: Average with the mirrored image.
        cache: Where exported networks are looked for; the user's cache when None.

    Attributes:
        package: The distribution that brings the engine.
        suffixes: Of the files that an exported network has.
        checked: Agreement with float32 torch by input size, from the manifest of the artefact that runs.
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
        self._converted: Any | None = None

    @classmethod
    def write(cls, model: Model, size: Size, folder: Path) -> None:
        """Write the network of one input size as ``network.SUFFIX`` into a folder."""
        raise NotImplementedError

    def load(self, size: Size, folder: Path) -> Any:
        """Make what :meth:`infer` runs, of what :meth:`write` has written."""
        raise NotImplementedError

    def convert(self, size: Size | None) -> Any:
        """Convert the weights, for one input size, or for any when None; the slow part of building."""
        raise NotImplementedError

    def build(self, converted: Any, size: Size | None) -> Any:
        """Make what :meth:`infer` runs for one input size, or for any when None, of what :meth:`convert` gave."""
        raise NotImplementedError

    @classmethod
    def version(cls) -> str:
        """Version of the engine's package."""
        return metadata.version(cls.package)

    @classmethod
    def key(cls, model: Model, size: Size) -> ArtefactKey:
        """What the cache calls the network of one input size."""
        return ArtefactKey(model.sha256, cls.name, cls.version(), cls.device, size)

    def use(self, size: Size, artefact: Artefact) -> None:
        """Run this artefact for this input size from now on."""
        self._keep(size, self.load(size, artefact.folder))
        if artefact.agreement is not None:
            self.checked[size] = artefact.agreement

    def ready(self, size: Size) -> Any:
        """What runs images of this size: the network of this very size, or the one of any size."""
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
            if self._converted is None:
                self._converted = self.convert(None)
            self._keep(size, self.build(self._converted, size))
        else:
            self._keep(size, self.build(self.convert(size), size))
        return self._ready[size]

    def warm_up(self, size: Size, count: int = 1) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.warm_up`; makes ready for images of other sizes, too."""
        super().warm_up(size, count)
        if not self._takes_any or self._any_size() is None:
            return
        for usual in {self.preprocessing.working_size(size) for size in _USUAL_SIZES}.difference(self._ready):
            self.infer(np.zeros((*usual, 3), np.uint8))  # an engine may choose its kernels by the shape

    def _any_size(self) -> Any | None:
        """The network of any size, made when it is first asked for; None where there is none."""
        if self._any is None:
            try:
                converted, self._converted = self._converted, None  # it is not needed again
                self._any = self.build(self.convert(None) if converted is None else converted, None)
                self._try_out()
            except Exception as error:  # another package's converter may fail in any way
                reason = first_line(error)
                logger.warning("%s builds a network for each size of images, which takes seconds: %s.", self.name, reason)
                self._any, self._takes_any = None, False
        return self._any

    def _try_out(self) -> None:
        """Compare the network of any size with torch at a size that it was not traced with.

        Raises:
            EngineError: They differ, since the conversion has kept something of the size.
        """
        size = next(size for size in _OTHER_SIZES if size not in self._ready)
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        found = self.infer(image)
        with torch.inference_mode():
            expected = normalized(self.model)(torch.from_numpy(image[None]))
        for name, tensor in zip(self.names, expected, strict=True):
            array, right = getattr(found, name), tensor[0].numpy()
            if array.shape != right.shape or not np.abs(array - right).max() <= _WRONG * max(float(np.abs(right).max()), 1e-12):
                raise EngineError("the converted network holds for one size alone")

    def _keep(self, size: Size, network: Any) -> None:
        while len(self._ready) >= _MOST_SIZES:
            oldest = next(iter(self._ready))
            del self._ready[oldest]
            self._buffers.pop(oldest, None)
        self._ready[size] = network
        self._buffers.pop(size, None)  # a network's input lies in its own memory

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """See :meth:`csl_tracker.engines.cpu.CpuEngine.infer`."""
        raise NotImplementedError


def example(size: Size) -> torch.Tensor:
    """An image of an input size, for tracing."""
    return torch.zeros((1, *size, 3), dtype=torch.uint8)


def normalized(model: Model) -> NormalizedNetwork:
    """The network as it was trained, with its normalisation, in evaluation mode."""
    return NormalizedNetwork(model.network, model.description.preprocessing).eval()


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Tracing warns that the trace holds for one size alone, which is what is wanted."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield
