"""How fast is this card, measured, and how far are the networks from what it could do?"""

from __future__ import annotations

from typing import Any

import torch

from benchmark import roofline
from benchmark.gpu_steps.context import Context, Part
from benchmark.gpu_steps.latency import forward
from benchmark.gpu_steps.networks import build, candidates
from benchmark.gpu_steps.timing import captured, spread, times

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_PRODUCTS = 30


def run(context: Context, part: Part) -> None:
    """The card's ceilings, then every network's distance to them."""
    ceilings = {name: product(context, dtype, context.until(0.1)) for name, dtype in DTYPES.items()}
    part.note(matrix_products=ceilings)
    part.note(copy=copy(context, context.until(0.1)))
    part.note(launch_us=spread([1e6 * s for s in _empty_launches(context)]))
    copied = part.data["copy"]["bytes_per_s"]
    found = candidates(context.dry)
    for number, candidate in enumerate(found):
        model = build(candidate, part)
        size = model.description.preprocessing.working_size(context.scale.sources[0])
        until = context.until(1 / (len(found) - number))
        for name, dtype in DTYPES.items():
            peak = ceilings[name]["flop_per_s"]
            counted = roofline.count(model.network, size, peak, copied)
            work = captured(forward(model, size, 1, dtype, context.device), context.device)
            taken = times(work, context.device, context.scale.network_repeats, until)
            measured = spread([1e6 * s for s in taken])
            part.row(
                {
                    "network": candidate.name,
                    "input_size": list(size),
                    "precision": name,
                    **{key: counted[key] for key in ("flop", "bytes", "convolutions")},
                    "roofline_us": 1e6 * counted["seconds"],
                    "network_us": measured,
                    "times_the_roofline": measured["p50"] / (1e6 * counted["seconds"]),
                }
            )


def product(context: Context, dtype: torch.dtype, until: float) -> dict[str, Any]:
    """Operations per second of a large product of random matrices."""
    side = context.scale.square
    a, b = (torch.randn(side, side, device=context.device, dtype=torch.float32).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    taken = times(lambda: torch.matmul(a, b, out=out), context.device, _PRODUCTS, until)
    rates = spread([2.0 * side**3 / s for s in taken])
    return {"side": side, "flop_per_s": rates["p50"], "largest": rates["max"], "n": rates["n"]}


def copy(context: Context, until: float) -> dict[str, Any]:
    """Bytes per second of a large copy on the device, read and written bytes counted both; and to and from the host."""
    count = context.scale.copied_bytes
    source = torch.randint(0, 255, (count,), dtype=torch.uint8, device=context.device)
    target = torch.empty_like(source)
    taken = times(lambda: target.copy_(source), context.device, _PRODUCTS, until)
    found = {"bytes": count, "bytes_per_s": spread([2.0 * count / s for s in taken])["p50"], "n": len(taken)}
    if context.device.startswith("cuda"):
        part = source[: count // 16]
        host = torch.empty(part.shape, dtype=torch.uint8, pin_memory=True)
        up = times(lambda: part.copy_(host, non_blocking=True), context.device, _PRODUCTS, until)
        down = times(lambda: host.copy_(part, non_blocking=True), context.device, _PRODUCTS, until)
        found["to_device_bytes_per_s"] = spread([host.numel() / s for s in up])["p50"]
        found["to_host_bytes_per_s"] = spread([host.numel() / s for s in down])["p50"]
    return found


def _empty_launches(context: Context) -> list[float]:
    """What the smallest kernel takes, from its launch to its end."""
    one = torch.zeros(1, device=context.device)
    return times(lambda: one.add_(1.0), context.device, 200, context.until(0.1))
