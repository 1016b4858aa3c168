"""A path captured as one CUDA graph: a frame costs one launch and no allocation."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from csl_tracker.engines.device_path import DevicePath, join, layout, split

Arrays = dict[str, npt.NDArray[Any]]


class Recorder(Protocol):
    """Captures what a function launches on a device."""

    def record(self, function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Run a function once, recording it.

        Returns:
            The tensor that it makes, whose memory each replay writes anew, and what replays it.
        """


class CudaRecorder:
    """Captures CUDA graphs of one engine, all in one memory pool.

    They may share it since one is replayed at a time, and what it has made is copied before the next one is.

    Args:
        device: A CUDA device.
        stream: The engine's stream.
    """

    def __init__(self, device: str, stream: Any) -> None:
        self.device, self.stream = device, stream
        self.pool = torch.cuda.graph_pool_handle()

    def record(self, function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """See :meth:`Recorder.record`; other threads may use their devices meanwhile."""
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self.device)
        with _no_garbage_collection():
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                made = function()
            except BaseException:
                _abandon(graph)
                raise
            graph.capture_end()
        return made, graph.replay


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A capture must not contain the end of some other graph or pinned buffer."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _abandon(graph: Any) -> None:
    """End a capture that failed, so that the stream can be used again; the error that matters is on its way already."""
    try:
        graph.capture_end()
    except RuntimeError:
        return


class CapturedPath:
    """A path from host memory to host memory, captured as a graph. It owns everything that the graph reads and writes.

    Args:
        path: What to capture; it was run before, so that libraries have chosen their algorithms.
        recorder: Captures it.
        device: Where it runs.
        pin: Use pinned host memory, from which a copy needs no wait.
    """

    def __init__(self, path: DevicePath, recorder: Recorder, device: str, pin: bool) -> None:
        self.path = path
        self.sent = torch.empty((*path.source, 3), dtype=torch.uint8, pin_memory=pin)
        self.image = torch.zeros((*path.source, 3), dtype=torch.uint8, device=device)
        parts: dict[str, Tensor] = {}

        def run() -> Tensor:
            parts.update(path(self.image))
            return join(parts)

        self.joined, self.replay = recorder.record(run)
        self.layout = layout(parts)
        self.received = torch.empty(self.joined.shape, dtype=torch.uint8, pin_memory=pin)

    def run(self, image: npt.NDArray[np.uint8], wait: Callable[[], None]) -> Arrays:
        """Replay it for an image of its size, on the current stream.

        Args:
            image: uint8 (H, W, 3).
            wait: Returns when the stream has done all that was launched.

        Returns:
            The parts of the result, arrays of their own.
        """
        np.copyto(self.sent.numpy(), image)
        self.image.copy_(self.sent, non_blocking=True)
        self.replay()
        self.received.copy_(self.joined, non_blocking=True)
        wait()
        return split(self.received.numpy().copy(), self.layout)
