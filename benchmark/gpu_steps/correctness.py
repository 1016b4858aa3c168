"""Does the GPU say what the CPU says? Every engine and precision against float32 on the CPU, and graphs that come and go."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmark.gpu_steps import engines, frames
from benchmark.gpu_steps.child import sentence
from benchmark.gpu_steps.context import Context, Part
from benchmark.gpu_steps.engines import PRECISIONS, Variant
from benchmark.gpu_steps.networks import SHIPPED, Candidate, build, candidates
from benchmark.gpu_steps.timing import spread
from csl_tracker.engines import Engine, EngineOutput
from csl_tracker.engines.auto import installed
from csl_tracker.engines.base import LabelMapMaker, RunsAtOnce
from csl_tracker.engines.comparison import Frame, compare
from csl_tracker.heatmaps import decode
from csl_tracker.metrics import tool_overlap
from csl_tracker.pixels import resize_image
from csl_tracker.weights import Model

COUNT = 2
"""Peaks of each landmark that are asked for: the tracker's own number of instruments."""
LARGEST = {"heatmap_difference": 0.02, "peaks_px": 0.1, "labels_differing": 0.002}
"""Between a replayed graph and eager launches of the same kernels: a share of a full peak, px of the heatmap, a share of px."""
_JUNK_BYTES = 64 << 20
_RUNS = 4
_RANDOM_WEIGHTS_SEE = 4
"""A network with random weights is compared on a quarter of the frames: its landmarks mean nothing."""


def run(context: Context, part: Part) -> None:
    """All rows, and the sequence of sizes."""
    size = context.scale.sources[0]
    pictures, labels = frames.images(context, size)
    pictures, labels = pictures[: context.scale.compared], labels[: context.scale.compared]
    part.note(frames={"count": len(pictures), "size": list(size), "sha256": frames.images_sha256(pictures)})
    found = candidates(context.dry)
    first = next(candidate for candidate in found if candidate.name == SHIPPED[0])
    _compare_all(context, first, pictures, labels, part)
    try:
        part.note(eviction=eviction(context, first.build(), first.name, pictures))
    except Exception as error:  # the other networks are compared all the same
        part.note(eviction={"refused": sentence(error)})
    for candidate in sorted((candidate for candidate in found if candidate is not first), key=lambda c: not c.trained):
        _compare_all(context, candidate, pictures, labels, part)


def _compare_all(context: Context, candidate: Candidate, pictures: frames.Image, labels: frames.Image, part: Part) -> None:
    model = build(candidate, part)
    count = len(pictures) if candidate.trained else max(1, len(pictures) // _RANDOM_WEIGHTS_SEE)
    shown = [(pictures[index], labels[index]) for index in range(count)]
    reference = _Kept(engines.reference(model))
    for variant in variants(at_length=candidate.name == SHIPPED[0]):
        if context.left_s <= 0:
            part.note(left_out=[*part.data.get("left_out", []), f"{candidate.name}, {variant.name}"])
            continue
        row = part.row({"network": candidate.name, "trained": candidate.trained, "variant": variant.name, "n": count})
        try:
            engine = engines.build(model, variant, context.device)
            engines.ready(engine, (pictures.shape[1], pictures.shape[2]), COUNT)
            row.update(as_tracked(engine, reference, model, shown))
            row.update(device=engine.device, reason=engine.reason)
            part.write()
            row["whole_outputs"] = {
                **compare(engine, reference, model, shown).to_dict(),
                "largest_difference": _difference(engine, reference, shown),
            }
        except Exception as error:  # a refusal, or a provider's own: the next one is tried all the same
            row["refused"] = sentence(error)
        part.write()


def variants(at_length: bool) -> list[Variant]:
    """What is compared, by worth; eager launches, and the CPU's engines, of which docs/engines.md has more, for one network."""
    graph, eager = ([Variant("device", precision, launch) for precision in PRECISIONS] for launch in ("graph", "eager"))
    cpu = [Variant("cpu", "float32", engine=name) for name in installed()]
    return [*graph, Variant("tensorrt"), Variant("cuda"), *([*eager, *cpu] if at_length else ())]


class _Kept(RunsAtOnce):
    """An engine whose answers are kept: many are compared with it on the same images."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._answers: dict[int, EngineOutput] = {}

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`csl_tracker.engines.base.Engine.run`; the images stay where they are."""
        key = image.ctypes.data
        if key not in self._answers:
            self._answers[key] = self._engine.run(image, segmentation)
        return self._answers[key]


def as_tracked(engine: Engine, reference: _Kept, model: Model, shown: Sequence[Frame]) -> dict[str, Any]:
    """What the tracker gets of an engine, against the reference; by the rules of ``csl_tracker.engines.comparison``.

    Unlike there, peaks are the engine's own where it finds them itself, and a captured graph is replayed.
    """
    shifts: list[float] = []
    own: list[float] = []
    between: list[float] = []
    changes: list[float] = []
    wanted_count = lost = 0
    least = model.description.confidence_threshold
    for image, truth in shown:
        expected = reference.run(image, True)
        output, make = engines.localize(engine, image, True, COUNT)
        label_map = None if make is None else make().copy()
        found = _peaks(output, model)
        for wanted, given in zip(_peaks(expected, model), found, strict=True):
            points = _points(expected, [peak for peak in wanted if peak.confidence >= least])
            others = _points(output, given)
            wanted_count += len(points)
            lost += 0 if len(others) else len(points)
            if len(points) and len(others):
                shifts += np.linalg.norm(points[:, None] - others[None], axis=-1).min(axis=1).tolist()
        if getattr(output, "peaks", None) is not None:
            own.append(apart(found, _peaks(engine.run(image, False), model), least))
        if label_map is None or expected.label_map is None:
            continue
        if label_map.any() or expected.label_map.any():
            between.append(tool_overlap(label_map, expected.label_map).dice)
        if truth is not None:
            changes.append(tool_overlap(label_map, truth).dice - tool_overlap(expected.label_map, truth).dice)
    return {
        "frames": len(shown),
        "keypoints": wanted_count,
        "lost": lost,
        "shift_px": spread(shifts) if shifts else None,
        "dice_between": float(np.mean(between)) if between else None,
        "dice_change": float(np.mean(changes)) if changes else None,
        "own_peaks_px": max((value for value in own if math.isfinite(value)), default=None),
        "frames_without_a_peak": sum(map(math.isinf, own)),
    }


def _peaks(output: EngineOutput, model: Model) -> Sequence[Sequence[Any]]:
    """Of each landmark, heatmap px: the engine's own, or those of its heatmaps."""
    own = getattr(output, "peaks", None)
    if own is not None:
        return own  # type: ignore[no-any-return]
    assert output.heatmaps is not None
    return decode(output.heatmaps, model.description.heatmap, COUNT)


def _points(output: EngineOutput, peaks: Sequence[Any]) -> npt.NDArray[np.float64]:
    return output.to_source.points(np.array([(peak.x, peak.y) for peak in peaks]).reshape(-1, 2))


def _difference(engine: Engine, reference: _Kept, shown: Sequence[Frame]) -> float | None:
    """Largest difference of the heatmaps, in shares of their largest value."""
    found: list[float] = []
    for image, _ in shown:
        wanted, given = reference.run(image, True).heatmaps, engine.run(image, False).heatmaps
        if wanted is not None and given is not None:
            found.append(float(np.abs(given - wanted).max() / max(np.abs(wanted).max(), 1e-12)))
    return max(found, default=None)


def apart(found: Sequence[Sequence[Any]], wanted: Sequence[Sequence[Any]], least: float) -> float:
    """Largest distance from a sure peak to the nearest of the same landmark, px of the heatmap; infinite where there is none.

    Args:
        found: For each landmark its peaks.
        wanted: The same; those of less confidence do not count, since which of them is among the highest is chance.
        least: That confidence.
    """
    worst = 0.0
    for some, others in zip(found, wanted, strict=True):
        for peak in others:
            if peak.confidence >= least:
                worst = max(worst, min((math.hypot(a.x - peak.x, a.y - peak.y) for a in some), default=math.inf))
    return worst


def eviction(context: Context, model: Model, name: str, pictures: frames.Image) -> dict[str, Any]:
    """More sizes in turn than an engine keeps graphs for, with and without labels, and back; each against eager launches.

    Args:
        context: Of the step.
        model: What runs.
        name: Of its network.
        pictures: Images, resized to each size; every visit sees another one, so that what is stale shows.

    Returns:
        The visits, and whether all agree.
    """
    replayed, eager = (
        engines.build(model, Variant("device", "float16", launch), context.device) for launch in ("graph", "eager")
    )
    a, b, c, d, e = context.scale.evicted
    visits: list[dict[str, Any]] = []
    forth = [(a, False), (b, False), (c, False), (d, False), (a, True), (e, False), (b, True), (c, True), (d, True), (e, True)]
    back = [(d, False), (c, False), (b, False), (a, False), (a, True), (e, False)]
    least = model.description.confidence_threshold
    for number, (size, labels) in enumerate(forth + back):
        image = resize_image(pictures[number % len(pictures)], size)
        began = time.monotonic()
        for _ in range(_RUNS):  # a new size runs without its graph until it has run often enough
            _answer(replayed, image, labels)
        engines.settle(replayed)
        found = _answer(replayed, image, labels)
        visits.append({"size": list(size), "labels": labels, **_apart(found, _answer(eager, image, labels), least)})
        visits[-1]["agrees"] = all(visits[-1][key] is None or visits[-1][key] <= most for key, most in LARGEST.items())
        visits[-1]["seconds"] = time.monotonic() - began
        _write_over_freed_memory(context.device)
    return {
        "network": name,
        "precision": "float16",
        "visits": visits,
        "n": len(visits),
        "agrees": all(v["agrees"] for v in visits),
    }


def _answer(engine: Engine, image: npt.NDArray[np.uint8], labels: bool) -> EngineOutput:
    """What the tracker gets, in memory of its own."""
    output: EngineOutput
    make: LabelMapMaker | None
    output, make = engines.localize(engine, image, labels, COUNT)
    changes: dict[str, Any] = {"label_map": None if make is None else make().copy()}
    if output.heatmaps is not None:
        changes["heatmaps"] = np.array(output.heatmaps)
    return EngineOutput(**{**vars(output), **changes})


def _apart(found: EngineOutput, wanted: EngineOutput, least: float) -> dict[str, float | None]:
    apart_by: dict[str, float | None] = dict.fromkeys(LARGEST)
    if found.heatmaps is not None and wanted.heatmaps is not None:
        largest = max(float(np.abs(wanted.heatmaps).max()), 1e-12)
        apart_by["heatmap_difference"] = float(np.abs(found.heatmaps - wanted.heatmaps).max()) / largest
    own = [getattr(output, "peaks", None) for output in (found, wanted)]
    if own[0] is not None and own[1] is not None:
        distance = apart(own[0], own[1], least)
        apart_by["peaks_px"] = 1e6 if math.isinf(distance) else distance  # JSON knows no infinity
    if found.label_map is not None and wanted.label_map is not None:
        apart_by["labels_differing"] = float((found.label_map != wanted.label_map).mean())
    return apart_by


def _write_over_freed_memory(device: str) -> None:
    """Whatever still reads memory that was given back reads nonsense from now on."""
    if device.startswith("cuda"):
        for size in (_JUNK_BYTES, _JUNK_BYTES // 16, _JUNK_BYTES // 256, 4096):
            torch.full((size // 4,), math.nan, device=device)
        torch.cuda.synchronize(device)
