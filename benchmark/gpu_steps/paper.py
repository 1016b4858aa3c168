"""The paper's network, trained on the synthetic protocol with the preset ``paper`` for the seconds that are left."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmark.gpu_steps import frames
from benchmark.gpu_steps.context import Context, Part
from benchmark.gpu_steps.networks import PAPER, SETTINGS, TINY
from benchmark.gpu_steps.training import opener, precision, workers
from csl_tracker.datasets.cache import FrameCache
from csl_tracker.datasets.registry import select_landmarks
from csl_tracker.evaluation.sequence import evaluate_sequence
from csl_tracker.instruments import ENDOVIS
from csl_tracker.networks.published import URLS
from csl_tracker.provenance import portable
from csl_tracker.tracker import Tracker
from csl_tracker.training import run as training_run
from csl_tracker.training.config import TrainConfig
from csl_tracker.training.curve import CURVE_POINTS, read_curve
from csl_tracker.training.module import TrackingModule
from csl_tracker.training.plan import ROOT_VARIABLE, Settings, make_plan

_STEPS_PER_EPOCH = 500
"""Between checkpoints, which take seconds to write."""
_MOST_STEPS = 1_000_000
_AFTERWARDS_S = 25.0
"""For the last validation, the weights, and the test sequences."""
_NOTE_S = 5.0
_OF_TEST = ("dice", "precision", "recall", "landmark_error_px", "threshold_score_20px", "miss_rate", "false_positive_rate")


def run(context: Context, part: Part) -> None:
    """Train until time is up, and measure the test sequences with what was learned."""
    config = configuration(context)
    os.environ[ROOT_VARIABLE] = str(context.folder)
    part.note(
        network=PAPER,
        protocol="synthetic",
        frames_are="the protocol's before they are compressed as a video",
        configuration=portable({**asdict(config), "cache": "", "output": ""}),
    )
    watch = _Watch(context, part, config)

    def after_step(module: Any, outputs: Any, *_given: Any) -> None:
        watch.after_step(module, outputs)

    with (
        mock.patch("csl_tracker.training.data.open_dataset", opener(context)),
        mock.patch.object(TrackingModule, "on_train_batch_end", after_step, create=True),
    ):
        weights = training_run.train(config, "benchmark/gpu.py", resume=False)
    watch.note()
    curve = read_curve(Path(config.output) / "tensorboard")
    part.note(validation={"step": curve["validation_step"], **curve["validation"]})
    part.note(test=_measure(context, weights))


def configuration(context: Context) -> TrainConfig:
    """The protocol's training, as ``csl-tracker experiment synthetic --preset paper`` plans it, for the paper's network."""
    settings: dict[str, Any] = {
        "network": {key: value for key, value in SETTINGS[PAPER].items() if key != "strategy"},
        "encoder_weights": "imagenet" if _has_weights() and not context.dry else "",
        "batch_size": 16,
        "steps": context.scale.paper_steps or _MOST_STEPS,
        "steps_per_epoch": context.scale.paper_steps or _STEPS_PER_EPOCH,
        "precision": precision(context, mixed=True),
        "workers": workers(context),
        "cache": str(frames.cache(context)),
    }
    strategy = "csl"
    if context.dry:
        strategy = str(TINY["strategy"])
        settings |= {"network": {"width": TINY["width"]}, "input_size": [32, 64], "crop": [32, 32], "batch_size": 2}
    accelerator = "cpu" if context.dry else "gpu"
    plan = make_plan(
        frames.protocol(context),
        context.folder / "paper",
        [strategy],
        settings=Settings("paper", settings),
        accelerator=accelerator,
    )
    return replace(plan.runs[0].config, precision=settings["precision"])


def _has_weights() -> bool:
    """Whether ResNet-50's ImageNet weights are in the cache of ``torch.hub``; a GPU machine may have no network."""
    return (Path(torch.hub.get_dir()) / "checkpoints" / Path(URLS["resnet50"]).name).is_file()


class _Watch:
    """Follows a training: keeps its curve in the JSON, and stops it in time."""

    def __init__(self, context: Context, part: Part, config: TrainConfig) -> None:
        self._part = part
        self._batch = config.batch_size
        # A short whole leaves a share of its time for what comes afterwards.
        self._end = context.deadline - min(_AFTERWARDS_S, 0.4 * context.left_s)
        self._losses: list[torch.Tensor] = []
        self._first = 0.0
        self._noted = time.monotonic()

    def after_step(self, module: Any, outputs: Any) -> None:
        """To be called after every step of the training module."""
        now = time.monotonic()
        self._losses.append(outputs["loss"].detach())
        self._first = self._first or now
        if now - self._noted > _NOTE_S:
            self.note()
        if now > self._end:
            module.trainer.should_stop = True

    def note(self) -> None:
        """Put the losses so far into the JSON, at most so many points, each the mean of the steps around it."""
        self._noted = time.monotonic()
        losses = torch.stack(self._losses).float().cpu()
        size = -(-len(losses) // CURVE_POINTS)
        groups = losses.split(size)
        starts = range(0, len(losses), size)
        seconds = self._noted - self._first
        self._part.note(
            steps=len(losses),
            training_s=seconds,
            images_per_s=(len(losses) - 1) * self._batch / seconds if seconds > 0 else None,
            curve={
                "step": [start + len(group) // 2 for start, group in zip(starts, groups, strict=True)],
                "loss": [float(group.mean()) if bool(group.isfinite().all()) else None for group in groups],
            },
        )


def _measure(context: Context, weights: Path) -> dict[str, Any]:
    """Figures of the test sequences, as many as there is time for."""
    test = [name for part in frames.protocol(context).folds[0].test for name in part.sequences]
    trackers: dict[int, Tracker] = {}
    found: dict[str, Any] = {}
    for sequence in frames.rendered(context, test):
        if context.left_s <= 0:
            break
        count = len(sequence.slots)
        if count not in trackers:
            trackers[count] = Tracker.from_weights(weights, context.device, max_instruments=count, always_report=True)
        kept = FrameCache(select_landmarks(sequence, ENDOVIS), frames.cache(context))
        report = evaluate_sequence(trackers[count], kept)
        found[sequence.name] = {key: report[key] for key in _OF_TEST} | {"frames": report["frames"]}
    return found
