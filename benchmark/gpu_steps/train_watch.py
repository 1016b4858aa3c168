"""Follows a training: its times, losses and validations, and the best weights so far, all in files at any moment."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from benchmark.gpu_steps.runner import Signals
from csl_tracker.training.curve import CURVE_POINTS

_GROUP = 10
"""Steps of a row of the CSV."""


class OutOfTimeError(Exception):
    """The time was over before the training."""


class Watch(Callback):
    """Times a training, and stops it at a signal or when time is up.

    Args:
        signals: Those that have come.
        soft_end: When to do no more steps but a last validation, by ``time.monotonic()``.
        hard_end: When to stop at once.
        after_epoch: Called after each validation, once its checkpoints are written.
    """

    def __init__(
        self, signals: Signals, soft_end: float, hard_end: float, after_epoch: Callable[[], None] = lambda: None
    ) -> None:
        self._signals, self._soft_end, self._hard_end = signals, soft_end, hard_end
        self._after_epoch = after_epoch
        self._losses: list[torch.Tensor] = []
        self._validation_began = 0.0
        self.began = time.monotonic()
        self.step_ends: list[float] = []
        self.validations: list[dict[str, Any]] = []
        self.validation_s: list[float] = []
        self.out_of_time = False

    @property
    def steps(self) -> int:
        """Steps so far."""
        return len(self.step_ends)

    @property
    def steps_per_s(self) -> float | None:
        """Rate after the first step, without the validations."""
        if self.steps < 2:
            return None
        first, last = self.step_ends[0], self.step_ends[-1]
        between = sum(
            taken for taken, row in zip(self.validation_s, self.validations, strict=True) if row["seconds"] + self.began < last
        )
        return (self.steps - 1) / (last - first - between)

    def check(self) -> None:
        """Stop here if a signal came or time is up.

        Raises:
            StoppedError: A signal came.
            OutOfTimeError: Time is up.
        """
        self._signals.check()
        if time.monotonic() > self._hard_end:
            self.out_of_time = True
            raise OutOfTimeError

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the files of the epoch before."""
        if self.step_ends:  # its checkpoints come after all hooks at its end
            self._after_epoch()

    def on_train_batch_start(self, *_: object) -> None:
        """Stop here if need be."""
        self.check()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: object) -> None:
        """Note the time and the loss of a step."""
        self._losses.append(outputs["loss"].detach())
        self.step_ends.append(time.monotonic())
        if time.monotonic() > self._soft_end and not trainer.should_stop:
            self.out_of_time = True
            trainer.should_stop = True

    def on_validation_start(self, *_: object) -> None:
        """Note the time."""
        self._validation_began = time.monotonic()

    def on_validation_batch_start(self, *_: object) -> None:
        """Stop here if need be."""
        self.check()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the metrics."""
        now = time.monotonic()
        self.validation_s.append(now - self._validation_began)
        metrics = {key: _finite(float(value)) for key, value in trainer.callback_metrics.items() if key.startswith("val")}
        self.validations.append({"step": self.steps, "seconds": now - self.began, **dict(sorted(metrics.items()))})

    def loss_rows(self, size: int) -> list[dict[str, Any]]:
        """Losses averaged over groups of steps: ``step`` and ``seconds`` at a group's end, and ``loss``."""
        if not self._losses:
            return []
        losses = torch.stack(self._losses).float().cpu().split(size)
        ends = [min(self.steps, size * (number + 1)) for number in range(len(losses))]
        return [
            {"step": end, "seconds": self.step_ends[end - 1] - self.began, "loss": _finite(float(group.mean()))}
            for end, group in zip(ends, losses, strict=True)
        ]

    def curve(self) -> dict[str, Any]:
        """Losses, at most 200 points, and all validations."""
        rows = self.loss_rows(-(-self.steps // CURVE_POINTS) or 1)
        return {
            "steps_done": self.steps,
            "losses": {"step": [row["step"] for row in rows], "loss": [row["loss"] for row in rows]},
            "validation": self.validations,
            "validation_s": self.validation_s,
        }

    def csv(self) -> str:
        """All of it as a table: a row for every ten steps, and one for every validation."""
        rows = [*self.loss_rows(_GROUP), *self.validations]
        columns = ["step", "seconds", "loss", *sorted({key for row in self.validations for key in row if "/" in key})]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["seconds"]))
        return text.getvalue()


class Best:
    """Notices a new ``best.ckpt``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0

    def is_new(self) -> bool:
        """Whether it was written since the last call."""
        seen = self.path.stat().st_mtime_ns if self.path.is_file() else 0
        new = seen != self._seen
        self._seen = seen
        return new


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
