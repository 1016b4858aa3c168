"""Which form of a network is the fastest: plain, with cuDNN's fused convolutions, or compiled by TorchInductor?"""

from __future__ import annotations

import time
from pathlib import Path

from benchmark.gpu_steps.child import sentence
from benchmark.gpu_steps.context import Context, Part
from benchmark.gpu_steps.networks import build, candidates
from csl_tracker.engines import inductor
from csl_tracker.engines.artefacts import ArtefactCache
from csl_tracker.engines.device_engine import TorchDeviceEngine
from csl_tracker.engines.device_path import DeviceNetwork
from csl_tracker.pixels import Size
from csl_tracker.tracker import Tracker

PRECISION = "float16"
_EMULATED = "compiling takes longer than a dry run may; the network itself stands for what would be compiled"


def run(context: Context, part: Part) -> None:
    """Compile each network, the smallest first, and let the engine choose as it does when a node is configured."""
    part.note(precision=PRECISION, **({"emulated": _EMULATED} if context.dry else {}))
    size = context.scale.sources[0]
    for candidate in reversed(candidates(context.dry)):
        model = build(candidate, part)
        cache = ArtefactCache(context.folder / "compiled")
        row = {"network": candidate.name, "source_size": list(size), "precision": PRECISION}
        try:
            engine = TorchDeviceEngine(model, context.device, PRECISION, cache=cache)
            working = model.description.preprocessing.working_size(size)
            began = time.monotonic()
            key = inductor.inductor_key(model, working, context.device, PRECISION)
            cache.put(key, lambda place: _compile(engine.network, working, place, context.dry))  # noqa: B023  # called here
            row["compile_s"] = time.monotonic() - began
            engine.warm_up(size, Tracker(model, engine).max_instruments)
        except Exception as error:  # a compiler may fail in any way, and the next network need not
            part.row({**row, "refused": sentence(error)})
            continue
        part.row({**row, "forms_ms": {name: 1e3 * seconds for name, seconds in engine.form_times.items()}})


def _compile(network: DeviceNetwork, size: Size, place: Path, dry: bool) -> dict[str, str]:
    if dry:
        (place / inductor.PACKAGE).write_text("nothing", encoding="utf-8")
    else:
        inductor.write_inductor(network, size, place)
    return {}
