"""Captures a path as one CUDA graph: one launch and no allocation per frame."""

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
    """Captures the device operations of a function."""

    def record(self, function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Run a function once and record it.

        Returns:
            Its result, whose memory each replay overwrites, and the replay function.
        """


class CudaRecorder:
    """Captures the CUDA graphs of one engine in a shared memory pool.

    Sharing is safe: graphs are replayed one at a time, and each result is copied before the next replay.

    Args:
        device: A CUDA device.
        stream: The engine's stream.
    """

    def __init__(self, device: str, stream: Any) -> None:
        self.device, self.stream = device, stream
        self.pool = torch.cuda.graph_pool_handle()

    def record(self, function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """See :meth:`Recorder.record`; other threads may use CUDA during the capture."""
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
    """Garbage collection must not free other graphs or pinned buffers during a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _abandon(graph: Any) -> None:
    """End a failed capture so that the stream is usable again; the original error is already propagating."""
    try:
        graph.capture_end()
    except RuntimeError:
        return


class CapturedPath:
    """A path from host memory to host memory, captured as a graph. Owns all memory that the graph reads and writes.

    Args:
        path: The path; run it before, so that libraries have chosen their algorithms.
        recorder: Captures the path.
        device: The device.
        pin: Use pinned host memory, which allows asynchronous copies.
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
        """Replay the graph for an image of its size, on the current stream.

        Args:
            image: uint8 (H, W, 3).
            wait: Synchronises the stream.

        Returns:
            The named parts of the result, as new arrays.
        """
        np.copyto(self.sent.numpy(), image)
        self.image.copy_(self.sent, non_blocking=True)
        self.replay()
        self.received.copy_(self.joined, non_blocking=True)
        wait()
        return split(self.received.numpy().copy(), self.layout)
