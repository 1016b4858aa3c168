"""Images per second: the package's training against a plain PyTorch loop.

    python benchmark/training.py --json docs/results/training_speed.json        # a quiet machine, please; some minutes
    python benchmark/training.py --table docs/results/training_speed.json --page docs/training.md

Both train the same network on the same batches with the same losses. The plain loop is what a careful but ordinary developer
writes: forward, backward, clip, AdamW. The package's does that, and averages weights, logs, and writes checkpoints. Each round
is a new process for each of the two, in turn; the first steps of a process, which warm up, are left out.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from csl_tracker.errors import ConfigError
from csl_tracker.output import print_or_write_between, write_json
from csl_tracker.provenance import machine, portable, versions

BEGIN, END = "<!-- training speed: benchmark/training.py -->", "<!-- end of training speed -->"
WARM_UP = 4
BATCH = 8
SAME_LOSS = 1e-4
"""Relative difference of the first losses that rounding may make."""
NETWORKS = {"csl": {"strategy": "csl"}, "unet": {"strategy": "unet", "encoder": "none", "decoder": "none", "width": 16}}
SIDES = ("csl_tracker", "plain loop")


def one_process(name: str, side: str, steps: int, frames: Path, workers: int) -> dict[str, Any]:
    """Train.

    Returns:
        ``seconds``, how long each step took after the one before it, without those that warm up, and ``first_loss``.
    """
    import torch
    from torch.nn import utils

    from csl_tracker.training import run
    from csl_tracker.training.config import layered, parse_config
    from csl_tracker.training.data import build_loaders
    from csl_tracker.training.module import TrackingModule
    from csl_tracker.training.presets import PRESETS

    logging.disable(logging.WARNING)
    source = {"dataset": "synthetic", "root": str(frames)}
    settings = {
        "name": name,
        "output": str(frames / "run"),
        "cache": str(frames / "cache"),
        "network": NETWORKS[name],
        "encoder_weights": "",
        "input_size": [256, 320],
        "crop": [256, 256],
        "batch_size": BATCH,
        "train": [source],
        "validation": [source],
        "steps": steps + WARM_UP,
        "steps_per_epoch": steps + WARM_UP,
        "validate_every": 1000,
        "workers": workers,
    }
    config = parse_config(layered(PRESETS["modern"], settings), "benchmark")
    ends: list[float] = []
    losses: list[torch.Tensor] = []

    def note(loss: torch.Tensor) -> None:
        ends.append(time.perf_counter())
        losses.append(loss.detach())

    if side == SIDES[0]:

        def after(_module: Any, outputs: Any, *_given: Any) -> None:
            note(outputs["loss"])

        with mock.patch.object(TrackingModule, "on_train_batch_end", after, create=True):
            run.train(config, "benchmark", resume=False)
    else:
        network, preprocessing, _ = run.build(config)
        loader, _ = build_loaders(config, preprocessing)
        with mock.patch("csl_tracker.training.module.ease_convolutions"):
            module = TrackingModule(network, config, preprocessing).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(module.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        module.train()
        for batch in loader:
            loss = module._losses(batch)[0].total
            optimizer.zero_grad()
            loss.backward()
            utils.clip_grad_norm_(module.parameters(), config.clip)
            optimizer.step()
            note(loss)
    return {"seconds": np.diff(ends)[WARM_UP - 1 :].tolist(), "first_loss": float(losses[0])}


def one_row(name: str, threads: int, frames: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Both sides of one network in turn.

    Raises:
        ConfigError: A process failed, or the two do not begin with the same loss: they would not be training the same.
    """
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(args.rounds):
        for side in SIDES:
            print(f"{name}, threads {threads}: round {number + 1} of {args.rounds}, {side}", flush=True)
            command = [sys.executable, __file__, "--one", name, side, str(frames)]
            command += ["--steps", str(args.steps), "--workers", str(args.workers)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
            if done.returncode != 0:
                raise ConfigError(f"{side} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
            found[side].append(json.loads(done.stdout.strip().splitlines()[-1]))
    first = [run["first_loss"] for runs in found.values() for run in runs]
    if max(first) - min(first) > SAME_LOSS * max(first):
        raise ConfigError(f"The two sides begin with the losses {sorted(set(first))}: they do not train the same.")
    medians = {side: [float(np.median(run["seconds"])) for run in runs] for side, runs in found.items()}
    ratios = [slow / fast for fast, slow in zip(*(medians[side] for side in SIDES), strict=True)]
    return {
        "network": name,
        "threads": threads,
        "batch_size": BATCH,
        "crop": [256, 256],
        "first_loss": first[0],
        "images_per_s": {side: BATCH / float(np.median(medians[side])) for side in SIDES},
        "seconds_per_step_of_rounds": medians,
        "ratio": {"median": float(np.median(ratios)), "min": min(ratios), "max": max(ratios)},
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All networks, both sides in turn."""
    from csl_tracker.cli.main import main as csl_tracker_main

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        frames = Path(folder) / "frames"
        drawn = ["synthesize", str(frames), "--sequences", "2", "--frames", "32", "--size", "288x360", "--seed", "70000"]
        if csl_tracker_main(drawn) != 0:
            raise ConfigError("The frames to train on could not be drawn; the sentence above says why.")
        for name in args.networks:
            for threads in args.threads:
                rows.append(one_row(name, threads, frames, args))
    return {
        "command": shlex.join(["python", "benchmark/training.py", *(str(portable(word)) for word in sys.argv[1:])]),
        "machine": machine(),
        "versions": versions(),
        "load_before": float(Path("/proc/loadavg").read_text(encoding="ascii").split()[0]),
        "steps": args.steps,
        "workers": args.workers,
        "networks": rows,
    }


def table(data: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| network | threads | csl_tracker, images/s | plain loop, images/s | ratio |", "| --- | --- | --- | --- | --- |"]
    for row in data["networks"]:
        rates, ratio = row["images_per_s"], row["ratio"]
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        lines.append(f"| {row['network']} | {row['threads']} | {rates[SIDES[0]]:.1f} | {rates[SIDES[1]]:.1f} | {spread} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, or print the table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each process (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side (%(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], metavar="N", help="of each process (2 and 1)")
    parser.add_argument("--workers", type=int, default=0, help="processes that make frames (%(default)s)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the table of such a file, and measure nothing")
    parser.add_argument("--page", type=Path, metavar="FILE", help="with --table: put it into this page, between its marks")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        name, side, frames = args.one
        print(json.dumps(one_process(name, side, args.steps, Path(frames), args.workers)))
        return
    if args.table is not None:
        print_or_write_between(args.page, BEGIN, END, table(json.loads(args.table.read_text(encoding="utf-8"))))
        return
    if args.json is None or args.steps < 2 or args.rounds < 1:
        parser.error("--json, --steps of at least 2 and --rounds of at least 1 are needed")
    report = measure(args)
    write_json(args.json, report)
    print(table(report))


if __name__ == "__main__":
    main()
