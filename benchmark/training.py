"""Images per second: the package's training against a plain PyTorch loop.

    python benchmark/training.py --json docs/results/training_speed.json        # a quiet machine, please; some minutes
    python benchmark/training.py --table docs/results/training_speed.json --page docs/training.md

Both train the same network on the same batches with the same losses. The plain loop is what a careful but ordinary developer
writes: forward, backward, clip, AdamW. The package's does that, and averages weights, logs, and writes checkpoints. Each round
is a new process for each of the two, in turn; the first steps of a process, which warm up, are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from csl_tracker.errors import ConfigError
from csl_tracker.output import print_or_write_between, write_json
from csl_tracker.provenance import machine, portable, versions
from csl_tracker.reporting.table import markdown

if TYPE_CHECKING:
    from csl_tracker.training.config import TrainConfig

BEGIN, END = "<!-- training speed: benchmark/training.py -->", "<!-- end of training speed -->"
WARM_UP = 4
BATCH, CROP = 8, 256
SAME_LOSS = 1e-4
"""Relative difference of the first losses that rounding may make."""
NETWORKS = {"csl": {"strategy": "csl"}, "unet": {"strategy": "unet", "encoder": "none", "decoder": "none", "width": 16}}
SIDES = ("csl_tracker", "plain loop")
KEPT = "plain loop, one batch kept on the device"


def one_process(name: str, side: str, frames: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train on the CPU, on frames of a folder; see :func:`time_steps`."""
    source = {"dataset": "synthetic", "root": str(frames)}
    settings = {
        "preset": "modern",
        "name": name,
        "output": str(frames / "run"),
        "cache": str(frames / "cache"),
        "network": NETWORKS[name],
        "encoder_weights": "",
        "input_size": [256, 320],
        "crop": [args.crop, args.crop],
        "batch_size": args.batch,
        "train": [source],
        "validation": [source],
        "workers": args.workers,
    }
    return time_steps(settings, side, args.steps)


def time_steps(settings: Mapping[str, Any], side: str, steps: int) -> dict[str, Any]:
    """Train, and take the time of every step.

    Args:
        settings: A training's configuration as plain data, but for its number of steps.
        side: One of :data:`SIDES`, or :data:`KEPT`: the plain loop on one batch that stays on the device, which no loader
            holds up.
        steps: Steps that count, after those that warm up.

    Returns:
        ``seconds``, how long each step took after the one before it, without those that warm up, and ``first_loss``.
    """
    import torch

    from csl_tracker.training import run
    from csl_tracker.training.config import parse_config
    from csl_tracker.training.module import TrackingModule

    logging.disable(logging.WARNING)
    whole = {"steps": steps + WARM_UP, "steps_per_epoch": steps + WARM_UP, "validate_every": 1000}
    config = parse_config({**settings, **whole}, "benchmark")
    on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
    ends: list[float] = []
    losses: list[torch.Tensor] = []

    def note(loss: torch.Tensor) -> None:
        if on_gpu:  # else a step's time is that of its launches
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
        losses.append(loss.detach())
        if on_gpu and len(ends) == steps + WARM_UP:
            raise _EnoughError  # what comes now, large checkpoints above all, is not timed

    with contextlib.suppress(_EnoughError):
        if side == SIDES[0]:

            def after(_module: Any, outputs: Any, *_given: Any) -> None:
                note(outputs["loss"])

            with mock.patch.object(TrackingModule, "on_train_batch_end", after, create=True):
                run.train(config, "benchmark", resume=False)
        else:
            _plain_loop(config, side == KEPT, "cuda" if on_gpu else "cpu", note)
    return {"seconds": np.diff(ends)[WARM_UP - 1 :].tolist(), "first_loss": float(losses[0])}


class _EnoughError(Exception):
    """All steps that count are done."""


def _plain_loop(config: TrainConfig, kept: bool, device: str, note: Callable[[Any], None]) -> None:
    """What a careful but ordinary developer writes."""
    import torch
    from torch.nn import utils

    from csl_tracker.training import run
    from csl_tracker.training.data import build_loaders
    from csl_tracker.training.module import TrackingModule

    network, preprocessing, _ = run.build(config)
    loader, _ = build_loaders(config, preprocessing)
    with mock.patch("csl_tracker.training.module.ease_convolutions"):
        module = TrackingModule(network, config, preprocessing).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    module.to(device).train()
    optimizer: torch.optim.Optimizer
    if config.optimizer == "adamw":
        optimizer = torch.optim.AdamW(module.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.SGD(module.parameters(), config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
    half = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}.get(config.precision)
    scaler = torch.amp.GradScaler(device, enabled=half == torch.float16)
    batches = iter(loader)
    first = next(batches)
    if kept:
        first = {key: value.to(device) for key, value in first.items()}
    for batch in itertools.repeat(first, config.steps) if kept else itertools.chain((first,), batches):
        there = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        with torch.autocast(device, half, enabled=half is not None):
            loss = module._losses(there)[0].total
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if config.clip:
            scaler.unscale_(optimizer)
            utils.clip_grad_norm_(module.parameters(), config.clip)
        scaler.step(optimizer)
        scaler.update()
        note(loss)


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
            for key in ("steps", "workers", "batch", "crop"):
                command += [f"--{key}", str(getattr(args, key))]
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
        "batch_size": args.batch,
        "crop": [args.crop, args.crop],
        "first_loss": first[0],
        "images_per_s": {side: args.batch / float(np.median(medians[side])) for side in SIDES},
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
    rows = []
    for row in data["networks"]:
        rates, ratio = row["images_per_s"], row["ratio"]
        spread = f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
        rows.append([row["network"], row["threads"], *(f"{rates[side]:.1f}" for side in SIDES), spread])
    return markdown(("network", "threads", *(f"{side}, images/s" for side in SIDES), "ratio"), rows)


def main() -> None:
    """Measure, or print the table of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each process (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side (%(default)s)")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], metavar="N", help="of each process (2 and 1)")
    parser.add_argument("--workers", type=int, default=0, help="processes that make frames (%(default)s)")
    parser.add_argument("--batch", type=int, default=BATCH, help="images per step (%(default)s)")
    parser.add_argument("--crop", type=int, default=CROP, help="height and width of an image, px (%(default)s)")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the table of such a file, and measure nothing")
    parser.add_argument("--page", type=Path, metavar="FILE", help="with --table: put it into this page, between its marks")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        name, side, frames = args.one
        print(json.dumps(one_process(name, side, Path(frames), args)))
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
