"""Networks in turn, in one process, through one engine: the forward pass alone, and the whole frame."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from benchmark.bench import figures, peers
from csl_tracker.arrays import Image
from csl_tracker.engines import create_engine
from csl_tracker.engines.cpu import CpuEngine
from csl_tracker.tracker import Tracker
from csl_tracker.weights import Model


def measure(
    models: Sequence[tuple[str, Model, bool]], images: Sequence[Image], engine: str, rounds: int
) -> list[dict[str, Any]]:
    """Time networks in turn.

    Args:
        models: Name, model, and whether it is at its authors' size; the first is what the others are compared with.
        images: uint8 (H, W, 3), RGB, all of one size.
        engine: auto, openvino, onnx or torch, on the CPU.
        rounds: In each one every network sees an image twice, and the better time of its forward pass counts.

    Returns:
        For each model its times in ms, and the ratio to the first one's in the same round.
    """
    trackers = []
    for name, model, _ in tqdm(models, desc="building", unit="network", leave=False, disable=None):
        tracker = Tracker(model, create_engine(model, "cpu", engine))
        tracker.warm_up(images[0].shape[:2])
        tracker.track(images[0])
        trackers.append(tracker)
        if not isinstance(_running(tracker), CpuEngine):
            raise TypeError(f"{name} runs on {tracker.device}, not on the CPU.")
    network = np.empty((rounds, len(models)))
    whole = np.empty_like(network)
    for number in tqdm(range(rounds), desc="networks in turn", unit="round", leave=False, disable=None):
        image = images[number % len(images)]
        for index, tracker in enumerate(trackers):
            running = _running(tracker)
            small = running.input_buffer(running.preprocessing.working_size(image.shape[:2]))
            laps = []
            for _ in range(2):
                start = time.perf_counter()
                running.infer(small)
                laps.append(time.perf_counter() - start)
            network[number, index] = 1e3 * min(laps)
            start = time.perf_counter()
            tracker.track(image)
            whole[number, index] = 1e3 * (time.perf_counter() - start)
    found = []
    for index, (name, model, own_size) in enumerate(models):
        running = _running(trackers[index])
        size = running.preprocessing.working_size(images[0].shape[:2])
        found.append(
            {
                "name": name,
                "input_size": list(size),
                "own_size": own_size,
                "gflop": round(peers.gflop(model.network, size), 2),
                "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
                "engine": trackers[index].engine_name,
                "network_ms": figures.spread(network[:, index]),
                "frame_ms": figures.spread(whole[:, index]),
                "network_ratio": _ratio(network[:, index] / network[:, 0]),
                "frame_ratio": _ratio(whole[:, index] / whole[:, 0]),
            }
        )
    return found


def _running(tracker: Tracker) -> Any:
    """The engine itself, behind what chooses it."""
    return getattr(tracker.engine, "_engine", tracker.engine)


def _ratio(values: npt.NDArray[np.float64]) -> dict[str, float]:
    return {"median": float(np.median(values)), "p5": float(np.percentile(values, 5)), "p95": float(np.percentile(values, 95))}
