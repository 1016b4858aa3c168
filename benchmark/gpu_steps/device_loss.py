"""A device that is lost while instruments are tracked: does the tracking go on, on the CPU, and does the process end well?"""

from __future__ import annotations

import gc
import math
import time
from typing import Any

import torch

from benchmark.gpu_steps import engines, frames
from benchmark.gpu_steps.child import sentence
from benchmark.gpu_steps.context import Context, Part
from benchmark.gpu_steps.engines import Variant
from benchmark.gpu_steps.networks import build, candidates
from csl_tracker.engines.fallback import FallbackEngine
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.results import TrackingResult
from csl_tracker.tracker import Tracker

_EMULATED = "CUDA error: device-side assert triggered (emulated)"


def run(context: Context, part: Part) -> None:
    """Track, lose the device, track on, and give everything back; the exit status is for the parent to note."""
    model = build(candidates(context.dry)[1], part)
    size = context.scale.sources[0]
    pictures = frames.images(context, size)[0][: context.scale.pictures]
    part.note(phase="tracking on the device", emulated=context.dry, images_sha256=frames.images_sha256(pictures))
    engine = engines.build(model, Variant("device", "float16", "graph"), context.device)
    fallback = FallbackEngine(engine, lambda: TorchCpuEngine(model))
    tracker = Tracker(model, fallback)
    engines.ready(fallback, size, tracker.max_instruments)
    for image in pictures:
        tracker.track(image)
    part.note(phase="losing the device", device_before=tracker.device)
    part.note(error=_lose(engine, context.device))
    part.note(phase="tracking without the device")
    began = time.perf_counter()
    results = [tracker.track(pictures[0])]
    part.note(first_frame_s=time.perf_counter() - began, device_after=tracker.device, fault=fallback.fault)
    results += [tracker.track(image) for image in pictures[1:]]
    spare = Tracker(model, TorchCpuEngine(model))
    expected = [spare.track(image) for image in pictures]
    shift = max((_apart(a, b) for a, b in zip(results, expected, strict=True)), default=0.0)
    part.note(frames_after=len(results), shift_to_the_cpu_px=shift if math.isfinite(shift) else None)
    part.note(phase="giving everything back")
    del engine, fallback, tracker, results
    gc.collect()
    part.note(phase="over", goes_on=part.data["device_after"] == "cpu" and shift == 0.0)


def _lose(engine: Any, device: str) -> str:
    """Lose the device for this process; what it said."""
    if not device.startswith("cuda"):

        def localize(*_given: Any, **_named: Any) -> Any:
            raise RuntimeError(_EMULATED)

        engine.localize = localize
        return _EMULATED
    try:
        beyond = torch.tensor([1 << 20], device=device)
        torch.zeros(4, device=device)[beyond].sum().item()
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return sentence(error)
    return "The device did not mind."


def _apart(found: TrackingResult, wanted: TrackingResult) -> float:
    """Largest distance between landmarks of two results, px of the image; infinite where they differ in number."""
    if len(found.instruments) != len(wanted.instruments):
        return math.inf
    worst = 0.0
    for one, other in zip(found.instruments, wanted.instruments, strict=True):
        for a, b in zip(one.landmarks, other.landmarks, strict=True):
            if math.isfinite(a.x) and math.isfinite(b.x):
                worst = max(worst, math.hypot(a.x - b.x, a.y - b.y))
    return worst
