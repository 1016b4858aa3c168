"""Tunes a device engine: selects the precision by its effect on landmarks, and the fastest form of the network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import cv2
import numpy as np
import torch

from csl_tracker.arrays import Image
from csl_tracker.engines.base import EngineOutput, PixelMap, locate_points
from csl_tracker.engines.comparison import Comparison, compare
from csl_tracker.engines.cuda_graph import Arrays
from csl_tracker.engines.device_loss import is_device_fault, still_works
from csl_tracker.engines.device_path import DeviceNetwork, DevicePath
from csl_tracker.engines.fused import CudnnOperations, fuse_activations
from csl_tracker.errors import first_line
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

logger = logging.getLogger(__name__)

CHECK_SEED, CHECK_FRAMES = 60_000, 6
"""Seed and number of the synthetic frames for comparing precisions; training does not use these seeds."""

AGREEMENT = {"float32": 1e-3, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 1e-1}
"""Maximum difference between two forms of a network, relative to the largest output."""

_TIMED_RUNS = 30


class Tunable(Protocol):
    """The part of :class:`csl_tracker.engines.device_engine.TorchDeviceEngine` used for tuning."""

    model: Model
    device: str
    network: DeviceNetwork
    wanted_precision: str

    def make_network(self, precision: str) -> DeviceNetwork:
        """The network on the device in a precision."""

    def make_path(self, source: Size, segmentation: bool, count: int, network: DeviceNetwork | None = None) -> DevicePath:
        """The path for an image size."""

    def launch(self, path: DevicePath, image: Image) -> Arrays:
        """Run a path eagerly."""

    def timed(self, path: DevicePath, runs: int) -> float:
        """Median time of a path, s."""

    def fused_forms(self, network: DeviceNetwork, size: Size) -> Sequence[tuple[str, Callable[[], DeviceNetwork]]]:
        """Alternative forms of the network: (name, factory)."""


@dataclass(frozen=True)
class Tuning:
    """Result of tuning.

    Attributes:
        network: The selected network.
        note: Reasons, a clause.
        times: Median frame time of each tested form, s.
    """

    network: DeviceNetwork
    note: str
    times: Mapping[str, float] = field(default_factory=dict)


def tune(engine: Tunable, source: Size, count: int) -> Tuning:
    """Select precision and form of the network before the first frame.

    Args:
        engine: The engine, with its network in the requested precision (float16 for ``auto``).
        source: (height, width) of the images.
        count: Peaks per landmark.
    """
    network, notes = engine.network, []
    if engine.wanted_precision == "auto":
        network, note = _checked_precision(engine, source)
        notes.append(note)
    elif engine.wanted_precision != "float32":
        notes.append(f"{engine.wanted_precision} on the device {engine.device}, as asked for")
    network, times = _fastest_form(engine, network, source, count)
    if len(times) > 1:
        listed = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in times.items())
        notes.append(f"form: {min(times, key=lambda name: times[name])} ({listed})")
    return Tuning(network, "; ".join(notes), times)


def _checked_precision(engine: Tunable, source: Size) -> tuple[DeviceNetwork, str]:
    """Select float16 if it does not move landmarks relative to float32 on the same device, else float32."""
    exact = engine.make_network("float32")
    working = engine.model.description.preprocessing.working_size(source)
    found = compare(
        NetworkProbe(engine, engine.network), NetworkProbe(engine, exact), engine.model, generated_frames(working, CHECK_FRAMES)
    )
    # Frames are rendered at the network's size, but the limit is in px of the camera image.
    found = _scaled(found, max(source[0] / working[0], source[1] / working[1]))
    place = f"on the device {engine.device}"
    if found.moves_keypoints:
        lost = f"{found.lost} of {found.keypoints} landmarks are lost" if found.lost else ""
        shift = "" if found.median_shift_px is None else f"landmarks shift by {found.median_shift_px:.2g} px in the median"
        reason = " and ".join(part for part in (lost, shift) if part)
        logger.warning("float16 %s is not used, since %s; float32 takes its place.", place, reason)
        return exact, f"float32 {place}, since in float16 {reason}"
    if found.median_shift_px is None:
        return engine.network, f"float16 {place}, unchecked: the network finds no landmark in generated frames"
    shift = f"{found.median_shift_px:.2g} px (median) and {found.largest_shift_px:.2g} px (largest)"
    return engine.network, f"float16 {place} shifts {found.keypoints} landmarks of generated frames by {shift}"


def generated_frames(size: Size, count: int) -> Iterator[tuple[Image, Image | None]]:
    """Synthetic frames with instruments at (height, width), without ground truth."""
    from csl_tracker.datasets.synthetic import render_frame

    # Render small and enlarge, to keep the start-up time short.
    scale = min(1.0, 320.0 / max(size))
    drawn = (max(32, round(size[0] * scale)), max(32, round(size[1] * scale)))
    for index in range(count):
        image = render_frame(CHECK_SEED + index, drawn).image
        yield np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.uint8), None


def _scaled(found: Comparison, scale: float) -> Comparison:
    if found.median_shift_px is None or found.largest_shift_px is None:
        return found
    return replace(found, median_shift_px=found.median_shift_px * scale, largest_shift_px=found.largest_shift_px * scale)


class NetworkProbe:
    """Runs one network of a device engine eagerly, for a comparison."""

    name, reason = "torch", ""

    def __init__(self, engine: Tunable, network: DeviceNetwork) -> None:
        self.engine, self.network, self.device = engine, network, engine.device

    def run(self, image: Image, segmentation: bool) -> EngineOutput:
        """See :meth:`csl_tracker.engines.base.Engine.run`."""
        path = self.engine.make_path((image.shape[0], image.shape[1]), segmentation, 0, self.network)
        found = self.engine.launch(path, image)
        points = locate_points(found["points"], path.working) if "points" in found else None
        to_source = PixelMap(path.source, path.working)
        return EngineOutput(found.get("heatmaps"), found.get("foreground"), found.get("label_map"), to_source, points)


def _fastest_form(engine: Tunable, network: DeviceNetwork, source: Size, count: int) -> tuple[DeviceNetwork, dict[str, float]]:
    """The fastest form of a network among those with matching outputs, and the frame times, s."""
    forms = engine.fused_forms(network, source)
    if not forms:
        return network, {}
    image = next(generated_frames(source, 1))[0]
    expected = engine.launch(engine.make_path(source, False, 0, network), image)
    times = {"plain": engine.timed(engine.make_path(source, False, count, network), _TIMED_RUNS)}
    best = network
    for name, make in forms:
        try:
            form = make()
            difference = _difference(engine.launch(engine.make_path(source, False, 0, form), image), expected)
            if not difference <= AGREEMENT[network.precision]:
                logger.info("The form %r is left out: it differs by %.1e of the largest output.", name, difference)
                continue
            seconds = engine.timed(engine.make_path(source, False, count, form), _TIMED_RUNS)
        except Exception as error:  # compiled code may raise anything; fall back to the plain form
            if isinstance(error, RuntimeError) and is_device_fault(error) and not still_works(engine.device):
                raise
            logger.info("The form %r is left out: %s.", name, first_line(error))
            continue
        if seconds < min(times.values()):
            best = form
        times[name] = seconds
    return best, times


def _difference(found: Arrays, expected: Arrays) -> float:
    """Largest difference between two results, relative to each part's largest value; infinite if one is not finite."""
    worst = 0.0
    for name, wanted in expected.items():
        largest = max(float(np.abs(wanted).max()), 1e-12)
        difference = float(np.abs(found[name] - wanted).max()) / largest
        worst = max(worst, difference if np.isfinite(difference) else np.inf)
    return worst


def cudnn_form(network: DeviceNetwork) -> DeviceNetwork | None:
    """The network with fused cuDNN convolutions; None if no layer can be fused."""
    fused, count = fuse_activations(network.module.network, CudnnOperations())
    return replace(network, infer=fused) if count else None


def median_time(run: Callable[[], object], runs: int) -> float:
    """Median time of a call, s, after two warm-up calls."""
    seconds = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[2:]))


@torch.no_grad()
def choose_algorithms(run: Callable[[], object], runs: int) -> None:
    """Run with cuDNN's benchmark mode, which selects the fastest algorithm for each shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        for _ in range(runs):
            run()
    finally:
        torch.backends.cudnn.benchmark = before
