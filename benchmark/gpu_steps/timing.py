"""Clocks: events of a CUDA device, or the wall's on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

PERCENTILES = (("p50", 50), ("p95", 95), ("p99", 99))


def spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles, smallest, largest and number of values, in their unit."""
    array = np.array(values, np.float64)
    found = {name: float(np.percentile(array, q)) for name, q in PERCENTILES}
    return {**found, "min": float(array.min()), "max": float(array.max()), "n": len(array)}


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], Any], device: str) -> float:
    """How long a piece of work takes on the device, s, by its events; by the wall's clock on the CPU."""
    if not device.startswith("cuda"):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return 1e-3 * begin.elapsed_time(end)


def times(work: Callable[[], Any], device: str, repeats: int, until: float, warm_up: int = 3) -> list[float]:
    """Time a piece of work again and again, s.

    Args:
        work: What is timed.
        device: Where it runs.
        repeats: The most.
        until: After this moment, by ``time.monotonic()``, no further run begins; two are made in any case.
        warm_up: Runs before those that count.
    """
    for _ in range(warm_up):
        work()
    synchronize(device)
    found: list[float] = []
    while len(found) < repeats and (len(found) < 2 or time.monotonic() < until):
        found.append(seconds_of(work, device))
    return found


def captured(work: Callable[[], Any], device: str) -> Callable[[], Any]:
    """The same work as one launch: a CUDA graph's replay; on the CPU the work itself."""
    if not device.startswith("cuda"):
        return work
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries choose their algorithms in the first runs, which a capture must not contain
                work()
    finally:
        torch.backends.cudnn.benchmark = before
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = work()

    def replay(kept: Any = kept) -> None:  # the graph writes into what is kept
        graph.replay()

    return replay
