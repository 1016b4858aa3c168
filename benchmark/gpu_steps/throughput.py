"""How many images per second, when latency does not matter? The networks alone, by batch."""

from __future__ import annotations

import torch

from benchmark.gpu_steps.child import sentence
from benchmark.gpu_steps.context import Context, Part
from benchmark.gpu_steps.latency import forward
from benchmark.gpu_steps.networks import build, candidates
from benchmark.gpu_steps.timing import captured, spread, times


def run(context: Context, part: Part) -> None:
    """Every network at every batch, images and results on the device, half precision."""
    part.note(precision="float16")
    found = candidates(context.dry)
    batches = context.scale.batches
    for number, candidate in enumerate(found):
        model = build(candidate, part)
        size = model.description.preprocessing.working_size(context.scale.sources[0])
        until = context.until(1 / (len(found) - number))
        for batch in batches:
            row = {"network": candidate.name, "input_size": list(size), "batch": batch}
            try:
                work = captured(forward(model, size, batch, torch.float16, context.device), context.device)
                taken = times(work, context.device, context.scale.network_repeats // 5 + 2, until)
            except RuntimeError as error:  # its memory is too small
                part.row({**row, "refused": sentence(error)})
                break
            rates = spread([batch / s for s in taken])
            part.row({**row, "images_per_s": rates["p50"], "batch_ms": spread([1e3 * s for s in taken])})
            del work
