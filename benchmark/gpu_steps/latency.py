"""How long does a frame take, and where? From the uint8 image on the host to the landmarks there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmark.gpu_steps import engines, frames
from benchmark.gpu_steps.child import sentence
from benchmark.gpu_steps.context import Context, Part
from benchmark.gpu_steps.engines import Variant
from benchmark.gpu_steps.networks import Candidate, build, candidates
from benchmark.gpu_steps.timing import captured, seconds_of, spread
from csl_tracker.engines import Engine
from csl_tracker.engines.folding import fold_batch_norms
from csl_tracker.pixels import Size
from csl_tracker.tracker import Tracker
from csl_tracker.weights import Model

PIECES = ("upload", "network", "post_processing", "download")
OWN_CALLS = (
    "by calls of their own: pinned memory to the device, the folded network at its input size, as many bytes back;"
    " post_processing is the frame without these three"
)
ENGINE = "by the engine's own events"
_WARM_UP = 30
_FEW_BYTES = 4096
"""What comes back at the least: peaks, where the engine finds these itself."""
_HALF = torch.float16
_LEAST_S = 2.0
"""For a row's frames, however long it took to make the engine ready."""


@dataclass(frozen=True)
class Group:
    """Rows that share an engine.

    Attributes:
        candidate: The network.
        variant: How it runs.
        rows: (height, width) of the images, px, and whether the label map is wanted.
    """

    candidate: Candidate
    variant: Variant
    rows: tuple[tuple[Size, bool], ...]


def run(context: Context, part: Part) -> None:
    """All rows, each within its share of the time."""
    sources = {size: frames.images(context, size)[0][: context.scale.pictures] for size in context.scale.sources}
    hashes = {"x".join(map(str, size)): frames.images_sha256(pictures) for size, pictures in sources.items()}
    part.note(images_sha256=hashes, warm_up=_WARM_UP, pieces_are={"own calls": OWN_CALLS, "engine": ENGINE})
    plan = list(groups(context))
    for index, group in enumerate(plan):
        # What may be refused at once takes no time from the rows before it.
        left = sum(
            len(other.rows) for other in plan[index:] if other.variant.kind == "device" or group.variant.kind != "device"
        )
        which = {"network": group.candidate.name, "variant": group.variant.name}
        try:
            model = build(group.candidate, part)
            engine = engines.build(model, group.variant, context.device)
            for size, segmentation in group.rows:
                if context.left_s <= 0:
                    part.note(left_out=[*part.data.get("left_out", []), {**which, "size": size, "segmentation": segmentation}])
                    continue
                engines.ready(engine, size, Tracker(model, engine).max_instruments)
                until = max(context.until(1 / left), time.monotonic() + min(_LEAST_S, context.left_s))
                row = measure(model, engine, group.variant, sources[size], segmentation, context, until)
                part.row({**which, **row})
                left -= 1
        except Exception as error:  # a refusal, or a provider's own: the next one is measured all the same
            part.row({**which, "refused": sentence(error)})


def groups(context: Context) -> Iterator[Group]:
    """The rows by worth."""
    sizes = context.scale.sources
    rows = tuple((size, segmentation) for segmentation in (False, True) for size in sizes)
    variants = [
        (Variant("device", "float16", "graph"), rows),
        (Variant("device", "float16", "eager"), rows[: len(sizes)]),
        (Variant("tensorrt"), rows[: len(sizes)]),
        (Variant("cuda"), rows[: len(sizes)]),
    ]
    for variant, wanted in variants:
        for candidate in candidates(context.dry):
            yield Group(candidate, variant, wanted)


def measure(
    model: Model,
    engine: Engine,
    variant: Variant,
    pictures: frames.Image,
    segmentation: bool,
    context: Context,
    until: float,
) -> dict[str, Any]:
    """Time frames, first as they are, then with their pieces.

    Args:
        model: What runs.
        engine: What runs it, ready for these images.
        variant: How.
        pictures: uint8 (n, H, W, 3), in turn.
        segmentation: The label map is wanted.
        context: Of the step.
        until: When it has to be over, by ``time.monotonic()``.
    """
    tracker = Tracker(model, engine)
    repeats = context.scale.repeats
    size = (int(pictures.shape[1]), int(pictures.shape[2]))

    def track(number: int) -> None:
        tracker.track(pictures[number % len(pictures)], segmentation=segmentation)

    for number in range(min(_WARM_UP, repeats)):
        track(number)
    engines.settle(engine)
    middle = time.monotonic() + 0.5 * (until - time.monotonic())
    total = [1e3 * _wall(lambda number=number: track(number)) for number in _numbers(repeats, middle)]  # type: ignore[misc]
    row = {
        "source_size": list(size),
        "input_size": list(model.description.preprocessing.working_size(size)),
        "segmentation": segmentation,
        "precision": variant.precision,
        "engine": engine.name,
        "device": engine.device,
        "reason": engine.reason,
        "total_ms": spread(total),
    }
    return {**row, **_pieces(model, engine, variant, track, pictures, segmentation, context, until)}


def _pieces(
    model: Model,
    engine: Engine,
    variant: Variant,
    track: Callable[[int], None],
    pictures: frames.Image,
    segmentation: bool,
    context: Context,
    until: float,
) -> dict[str, Any]:
    """The frame's pieces, ms: by the engine's events where it has such, else by calls of their own."""
    stages = engines.Stages(engine)
    first = stages.of(lambda: track(0))
    numbers = _numbers(context.scale.repeats, until)
    if first is not None:
        laps: dict[str, list[float]] = {name: [] for name in first}
        for number in numbers:
            found = stages.of(lambda number=number: track(number)) or {}  # type: ignore[misc]
            for name in laps:
                laps[name].append(1e3 * found.get(name, 0.0))
        return {"pieces_by": "engine", **{f"{name}_ms": spread(values) for name, values in laps.items()}}
    if variant.kind != "device":
        return {"pieces_by": "none: that engine does its own transfers"}
    calls = _calls(model, engine, variant, pictures, segmentation, context.device)
    laps = {name: [] for name in PIECES}
    for number in numbers:
        whole = 1e3 * _wall(lambda number=number: track(number))  # type: ignore[misc]
        for name, call in calls.items():
            laps[name].append(1e3 * seconds_of(call, context.device))
        laps["post_processing"].append(whole - sum(laps[name][-1] for name in calls))
    return {"pieces_by": "own calls", **{f"{name}_ms": spread(values) for name, values in laps.items()}}


def _calls(
    model: Model, engine: Engine, variant: Variant, pictures: frames.Image, segmentation: bool, device: str
) -> dict[str, Callable[[], Any]]:
    """What upload, network and download take, each as a call of its own."""
    image = torch.from_numpy(pictures[0])
    image = image.pin_memory() if device.startswith("cuda") else image
    there = image.to(device)
    output, make = engines.localize(engine, pictures[0], segmentation, 2)
    arrays = [value for value in vars(output).values() if isinstance(value, np.ndarray)]
    count = sum(array.nbytes for array in arrays) + (make().nbytes if make is not None else 0)
    count = max(count, _FEW_BYTES)
    result = torch.zeros(count, dtype=torch.uint8, device=device)
    back = torch.empty(count, dtype=torch.uint8, pin_memory=device.startswith("cuda"))
    network = forward(
        model, model.description.preprocessing.working_size((pictures.shape[1], pictures.shape[2])), 1, _HALF, device
    )
    return {
        "upload": lambda: there.copy_(image, non_blocking=True),
        "network": captured(network, device) if variant.launch == "graph" else network,
        "download": lambda: back.copy_(result, non_blocking=True),
    }


def forward(model: Model, size: Size, batch: int, dtype: torch.dtype, device: str) -> Callable[[], Any]:
    """The folded network on random images that lie on the device, as a call.

    Args:
        model: Its network; it stays as it is.
        size: (height, width) of the input.
        batch: Number of images.
        dtype: What it computes in.
        device: Where.
    """
    network = fold_batch_norms(model.network).to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))
    x = images.to(device, dtype, memory_format=torch.channels_last)

    def call() -> Any:
        with torch.inference_mode():
            return network(x)

    return call


def _numbers(repeats: int, until: float) -> Iterator[int]:
    """0 to the number of repeats, or until it is too late; two in any case."""
    for number in range(repeats):
        if number >= 2 and time.monotonic() > until:
            return
        yield number


def _wall(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
