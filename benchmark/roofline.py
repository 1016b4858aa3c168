"""How fast could a network be at the most on an H200? Counted, not measured.

    python benchmark/roofline.py --json docs/results/roofline.json
    python benchmark/roofline.py --table docs/results/roofline.json --page docs/engines.md

Every convolution reads its input and its weights once and writes its output once, in half precision, and takes what is longer:
its operations at the card's peak or its bytes at the memory's. Batch norms, activations, sums and concatenations cost nothing,
as when they are fused into the convolutions. A real engine also launches each kernel, some microseconds apiece.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from csl_tracker.engines.folding import fold_batch_norms
from csl_tracker.networks import Network, NetworkConfig, build_network
from csl_tracker.output import print_or_write_between, write_json
from csl_tracker.pixels import Size
from csl_tracker.provenance import machine, versions
from csl_tracker.reporting.table import markdown

sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmark.gpu_steps import tables as gpu_tables

BEGIN, END = "<!-- roofline: benchmark/roofline.py -->", "<!-- end of roofline -->"
CARD = "NVIDIA H200 SXM"
PEAK_FLOPS, PEAK_BYTES = 989.4e12, 4.8e12
"""Dense half-precision operations and bytes a second, by NVIDIA's data sheet."""
BYTES = 2

NETWORKS: tuple[tuple[str, NetworkConfig, Size], ...] = (
    ("CSL, ResNet-50 (Laina et al. 2017)", NetworkConfig("csl", "resnet50", "up_projection"), (480, 480)),
    ("CSL, EfficientNet-Lite0, separable", NetworkConfig(), (256, 320)),
)


def count(network: Network, size: Size, peak_flops: float = PEAK_FLOPS, peak_bytes: float = PEAK_BYTES) -> dict[str, float]:
    """What one image costs.

    Args:
        network: Any; its batch norms are folded first.
        size: (height, width) of the input.
        peak_flops: Operations a second of the card.
        peak_bytes: Bytes a second of its memory.

    Returns:
        ``flop`` (multiplications and additions), ``bytes``, ``convolutions``, and ``seconds``: the sum over the convolutions of
        the longer of the two times.
    """
    found = {"flop": 0.0, "bytes": 0.0, "convolutions": 0.0, "seconds": 0.0}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        # A transposed convolution multiplies every input px with the kernel, a convolution makes every output px of one.
        pixels = output if isinstance(module, nn.Conv2d) else inputs[0]
        flop = 2.0 * module.weight.numel() * pixels.shape[-2] * pixels.shape[-1]
        size_bytes = float(BYTES * (inputs[0].numel() + module.weight.numel() + output.numel()))
        found["flop"] += flop
        found["bytes"] += size_bytes
        found["convolutions"] += 1
        found["seconds"] += max(flop / peak_flops, size_bytes / peak_bytes)

    folded = fold_batch_norms(network.eval())
    hooks = [m.register_forward_hook(note) for m in folded.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    with torch.inference_mode():
        folded(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    return found


def table(data: Mapping[str, Any], gpu: Mapping[str, Any] | None = None) -> str:
    """The figures as Markdown.

    Args:
        data: What was counted.
        gpu: What benchmark/gpu.py has measured, if it has.
    """
    measured = gpu_tables.measured_network(gpu)
    card = f"{data['card']}: {data['peak_flops'] / 1e12:.0f} TFLOP/s (half precision), {data['peak_bytes'] / 1e12:.1f} TB/s."
    peak = "all at peak, us: operations / bytes"
    head = ("network", "input", "GFLOP", "MB", "convolutions", peak, "roofline, us", "measured")
    rows = []
    for row in data["rows"]:
        operations, moved = row["flop"] / data["peak_flops"], row["bytes"] / data["peak_bytes"]
        cells = [row["name"], "x".join(map(str, row["input_size"])), f"{row['flop'] / 1e9:.1f}", f"{row['bytes'] / 1e6:.0f}"]
        cells += [f"{row['convolutions']:.0f}", f"{1e6 * operations:.0f} / {1e6 * moved:.0f}", f"{1e6 * row['seconds']:.0f}"]
        rows.append([*cells, measured(row["input_size"])])
    return "\n\n".join([card, markdown(head, rows), gpu_tables.roofline(gpu)])


def main() -> None:
    """Count, or print the table of what was counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the table of such a file, and count nothing")
    parser.add_argument("--page", type=Path, metavar="FILE", help="with --table: put it into this page, between its marks")
    args = parser.parse_args()
    if args.table is not None:
        data = json.loads(args.table.read_text(encoding="utf-8"))
        print_or_write_between(args.page, BEGIN, END, table(data, gpu_tables.load(args.table.with_name("gpu.json"))))
        return
    rows = [{"name": n, "input_size": list(size), **count(build_network(config), size)} for n, config, size in NETWORKS]
    data = {
        "command": shlex.join(["python", "benchmark/roofline.py", *sys.argv[1:]]),
        "machine": machine(),
        "versions": versions(),
        "card": CARD,
        "peak_flops": PEAK_FLOPS,
        "peak_bytes": PEAK_BYTES,
        "rows": rows,
    }
    if args.json is not None:
        write_json(args.json, data)
    print(table(data))


if __name__ == "__main__":
    main()
