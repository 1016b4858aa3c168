"""What ONNX Runtime and OpenVINO share: a network of one input size, built from the weights or read from the cache."""

from __future__ import annotations

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
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

NETWORK = "network"
"""Name of an exported network's files, without the suffix."""


class ExportedEngine(CpuEngine):
    """A network for each working size: static shapes are the fastest, and a camera has one size.

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

    @classmethod
    def write(cls, model: Model, size: Size, folder: Path) -> None:
        """Write the network of one input size as ``network.SUFFIX`` into a folder."""
        raise NotImplementedError

    def load(self, size: Size, folder: Path) -> Any:
        """Make what :meth:`infer` runs, of what :meth:`write` has written."""
        raise NotImplementedError

    def build(self, size: Size) -> Any:
        """Make the same from the weights, without a file."""
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
        self._ready[size] = self.load(size, artefact.folder)
        if artefact.agreement is not None:
            self.checked[size] = artefact.agreement

    def ready(self, size: Size) -> Any:
        """What runs images of this size, from the cache or built."""
        if size not in self._ready:
            artefact = self.cache.find(self.key(self.model, size)) if self.model.sha256 else None
            if artefact is None:
                self._ready[size] = self.build(size)
            else:
                self.use(size, artefact)
        return self._ready[size]

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
