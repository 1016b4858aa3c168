"""Training, images per second: the package's against a plain PyTorch loop, with float32 and in mixed precision."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from unittest import mock

import numpy as np

from benchmark import training
from benchmark.gpu_steps import frames
from benchmark.gpu_steps.child import sentence
from benchmark.gpu_steps.context import Context, Part
from benchmark.gpu_steps.networks import PAPER, SETTINGS, TINY

SIDES = (*training.SIDES, training.KEPT)
_MOST_WORKERS = 12
_OF_NETWORK: Mapping[str, Mapping[str, Any]] = {
    "csl_lite0": {"preset": "modern", "input_size": [256, 320], "crop": [256, 256], "batch_size": 32},
    PAPER: {"preset": "paper", "input_size": [480, 640], "crop": [480, 480], "batch_size": 16},
}
"""As each is trained: the lite network as the shipped weights, the paper's as in the paper."""


def run(context: Context, part: Part) -> None:
    """Both networks, both precisions, all sides, on frames of the synthetic protocol that lie in memory."""
    names = [sequence.name for sequence in frames.rendered(context)]
    part.note(workers=workers(context), timed_steps=context.scale.training_steps, warm_up=training.WARM_UP)
    for network in [PAPER] if context.dry else SETTINGS:
        for mixed in (True, False):
            row = part.row({"network": network, "precision": precision(context, mixed), "images_per_s": {}, "step_ms": {}})
            for side in SIDES:
                if context.left_s <= 0:
                    row["left_out"] = [*row.get("left_out", []), side]
                    part.write()
                    continue
                settings = _settings(context, network, mixed, names)
                row["batch_size"], row["crop"] = settings["batch_size"], settings["crop"]
                try:
                    with mock.patch("csl_tracker.training.data.open_dataset", opener(context)):
                        found = training.time_steps(settings, side, context.scale.training_steps)
                except Exception as error:  # the memory may be too small for one of them
                    row[f"refused: {side}"] = sentence(error)
                    part.write()
                    continue
                seconds = np.array(found["seconds"])
                row["images_per_s"][side] = settings["batch_size"] / float(np.median(seconds))
                p50, p99 = (float(np.percentile(1e3 * seconds, q)) for q in (50, 99))
                row["step_ms"][side] = {"p50": p50, "p99": p99, "n": len(seconds)}
                row.setdefault("first_loss", {})[side] = found["first_loss"]
                part.write()


def opener(context: Context) -> Any:
    """Takes the place of ``open_dataset``: the sequences that the first step has rendered."""

    def opened(_name: str, _root: Any, sequences: Any = None) -> list[Any]:
        return frames.rendered(context, sequences)

    return opened


def workers(context: Context) -> int:
    """Processes that make batches."""
    return 0 if context.dry else max(1, min(_MOST_WORKERS, len(os.sched_getaffinity(0)) - 2))


def precision(context: Context, mixed: bool) -> str:
    """As Lightning calls it; the CPU of a dry run mixes in bfloat16."""
    return ("bf16-mixed" if context.dry else "16-mixed") if mixed else "32-true"


def _settings(context: Context, network: str, mixed: bool, names: list[str]) -> dict[str, Any]:
    source = {"dataset": "synthetic", "root": str(context.folder), "sequences": names}
    settings = {
        **_OF_NETWORK[network],
        "network": SETTINGS[network],
        "name": network,
        "output": str(context.folder / "training"),
        "cache": str(frames.cache(context)),
        "encoder_weights": "",
        "train": [source],
        "validation": [source],
        "precision": precision(context, mixed),
        "accelerator": "cpu" if context.dry else "gpu",
        "devices": "1",
        "workers": workers(context),
    }
    if context.dry:
        # The fused optimiser of the CPU does not clip in mixed precision.
        settings |= {"network": TINY, "input_size": [32, 64], "crop": [32, 32], "batch_size": 2, "clip": 0.0}
    return settings
