"""Is speed bought with accuracy? The networks of the benchmark, trained alike and measured alike.

    python -m benchmark.bench.train                     # an hour of a CPU core; the same command goes on after a kill
    python -m benchmark.bench.train --steps 20 --quick  # some minutes, to see that it works

Each network sees the same synthetic frames in the same order for the same number of steps at the same input size, from random
weights, by the same preset, and is measured on the same held-out sequences: ``csl-tracker experiment synthetic``, which this is
a front to. What is found goes to OUT/accuracy.json, from where ``make bench`` takes DICE and error into its table of networks.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.bench import peers
from benchmark.bench.ending import exit_code
from csl_tracker.cli.main import main as csl_tracker_main
from csl_tracker.errors import ConfigError
from csl_tracker.output import write_json
from csl_tracker.provenance import machine, portable, versions
from csl_tracker.weights import default_weights, load_weights

OURS = "csl@encoder_weights="
LONGER = f"{OURS},steps=2000"
"""Twice the steps of :file:`train.yaml`: a step of ours takes a sixth of the time that one of the paper's network does."""
RESNET = "csl@encoder_weights=,network.encoder=resnet50,network.decoder=up_projection"
MONAI = f"unet@network.width={peers.MONAI_CONFIG.width}"
"""What stands for MONAI's network; see :func:`benchmark.bench.peers.monai_known`."""

_FIGURES = ("mean", "median")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.bench.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("output/bench"), metavar="DIR", help="of make bench (%(default)s)")
    parser.add_argument("--root", type=Path, metavar="DIR", help="the synthetic sequences (default: drawn into OUT/train/data)")
    parser.add_argument("--steps", type=int, metavar="N", help="of each training (default: the settings')")
    parser.add_argument("--config", type=Path, default=Path("benchmark/bench/train.yaml"), help="settings (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="ours and MONAI's alone, two steps an epoch")
    args = parser.parse_args(argv)
    if args.steps is not None and args.steps < 1:
        raise ConfigError(f"--steps is {args.steps}; give at least 1.")
    return args


def names() -> dict[str, str]:
    """Model of the experiment -> name in the benchmark's table of networks."""
    ours = load_weights(default_weights())
    known = [peer.name for peer in peers.peers(ours)]
    return {OURS: ours.name, LONGER: ours.name, RESNET: known[2], MONAI: known[0]}


def accuracy(folder: Path, models: Sequence[str]) -> list[dict[str, Any]]:
    """What the finished runs of an experiment come to: means over the test sequences.

    Args:
        folder: OUT of the experiment.
        models: Those that are wanted, ours first.

    Raises:
        ConfigError: A run is missing, or the runs do not compare.
    """
    called = names()
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("runs/*/*/seed*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        found[result["model"]] = result
    rows = []
    for model in models:
        if model not in found:
            raise ConfigError(
                f"There is no finished run of {model} in {folder}; where no other process is at it, the same command goes on."
            )
        result, first = found[model], found[models[0]]
        if any(result[key] != first[key] for key in ("steps", "batch_size", "input_size", "input_sha256", "preset")):
            raise ConfigError(f"The runs of {model} and {models[0]} in {folder} are of other settings or frames; begin anew.")
        sequences = list(result["sequences"].values())
        rows.append(
            {
                "name": called[model],
                "model": model,
                "dice": float(np.mean([sequence["dice"] for sequence in sequences])),
                "error_px": {
                    key: float(np.mean([sequence["landmark_error_px"][key] for sequence in sequences])) for key in _FIGURES
                },
                **{key: result[key] for key in ("initialisation", "steps", "batch_size", "input_size", "seconds", "preset")},
            }
        )
    return rows


def run(args: argparse.Namespace) -> int:
    """Train what is missing, and sum up."""
    folder = args.out / "train"
    models = [OURS, MONAI] if args.quick else [OURS, RESNET, MONAI]
    longer = [] if args.quick else [LONGER]
    command = ["experiment", "synthetic", "--config", str(args.config), "--out", str(folder), "--models", *models, *longer]
    command += [] if args.root is None else ["--root", str(args.root)]
    command += [] if args.steps is None else [f"steps={args.steps}"]
    if args.quick:
        command += ["steps_per_epoch=2", "batch_size=2"]
    with peers.monai_known():
        code = csl_tracker_main(command)
    if code != 0:
        return code
    rows = accuracy(folder, models)
    sizes = "x".join(map(str, rows[0]["input_size"]))
    report = {
        "command": shlex.join(["python", "-m", "benchmark.bench.train", *(str(portable(word)) for word in sys.argv[1:])]),
        "machine": machine(),
        "versions": versions(),
        "text": f"each network trained for {rows[0]['steps']} steps of {rows[0]['batch_size']} synthetic frames at {sizes} from"
        f" {rows[0]['initialisation']}, preset {rows[0]['preset']}, and measured at that size on held-out synthetic sequences:"
        " means over the sequences. The shipped weights were trained for longer, from ImageNet's.",
        "networks": rows,
        "longer": accuracy(folder, longer),
    }
    write_json(args.out / "accuracy.json", report)
    print(f"wrote {args.out / 'accuracy.json'}; 'make bench BENCH_ARGS=--table' takes it over")
    return 0


def main() -> int:
    """Exit code: 0, 2 for a mistake of the user, 130 after Ctrl-C."""
    return exit_code("train", lambda: run(arguments()))


if __name__ == "__main__":
    sys.exit(main())
