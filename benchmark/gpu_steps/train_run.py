"""The phases of ``benchmark/gpu_train.py``: measure the rate, choose the number of steps, train, and write files all along."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmark.gpu_steps.runner import Signals, StoppedError
from benchmark.gpu_steps.train_plan import (
    END_S,
    Length,
    Rate,
    dry_length,
    fit_length,
    full_config,
    probe_config,
    probe_steps,
    validation_share,
)
from benchmark.gpu_steps.train_watch import Best, OutOfTimeError, Watch
from csl_tracker.errors import ConfigError
from csl_tracker.output import write_bytes, write_json, write_text
from csl_tracker.provenance import portable, sha256_of
from csl_tracker.training import run as training_run
from csl_tracker.training.config import TrainConfig
from csl_tracker.training.disk import disk_errors
from csl_tracker.weights import find_weights, read_description

JSON, CSV, WEIGHTS, LAST = "gpu_train.json", "metrics.csv", "weights.safetensors", "last.safetensors"
"""What is written."""
FILE_LIMIT = 16 * 2**20
"""Bytes; the largest file that comes back from a borrowed machine."""


@dataclass
class Report:
    """``gpu_train.json``, written whenever it grows.

    Attributes:
        folder: Where it lies.
        data: Its content.
    """

    folder: Path
    data: dict[str, Any] = field(default_factory=dict)

    def note(self, **values: Any) -> None:
        """Set keys, and write the file."""
        self.data.update(values)
        write_json(self.folder / JSON, self.data)


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        config: From :func:`benchmark.gpu_steps.train_plan.base_config`.
        work: Folder of checkpoints and logs, which do not come back.
        command: The command line.
        dry: Tiny, on the CPU.
        end: When everything has to be over, by ``time.monotonic()``.
        signals: Those that have come.
        say: Takes a line about each phase.
    """

    config: TrainConfig
    work: Path
    command: str
    dry: bool
    end: float
    signals: Signals
    say: Callable[[str], None] = print

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return self.end - time.monotonic()

    def errors(self) -> AbstractContextManager[None]:
        """Turns a full disk into an error of the user."""
        return disk_errors(self.work)


def initial_weights(config: TrainConfig) -> dict[str, Any] | None:
    """Name and SHA-256 of what a training starts from; None without weights of the whole network.

    Raises:
        WeightsError: They are missing or broken.
    """
    if not config.init_weights:
        return None
    path = find_weights(os.path.expandvars(config.init_weights))
    return {"name": read_description(path).name, "sha256": sha256_of([path])}


def run(job: Job, report: Report) -> None:
    """Probe, plan and train.

    Raises:
        StoppedError: A signal came; the files have what was found.
        ConfigError: The configuration is of no use here, the time is too short, or the loss became NaN.
        DatasetError, WeightsError: Data or initial weights cannot be had.
    """
    report.note(state="probing")
    try:
        batch_size, rate = _probe(job, report)
        length = fit_length(rate, job.left_s)
        _train(job, report, batch_size, dry_length(length) if job.dry else length, rate)
    except OutOfTimeError:
        report.note(state="out of time")
    except (KeyboardInterrupt, SystemExit, StoppedError) as stop:
        report.note(state="stopped")
        job.signals.check()  # Lightning has its own exceptions for signals
        raise stop
    except Exception as error:
        report.note(state="failed", reason=str(error).partition("\n")[0] or type(error).__name__)
        raise


def _probe(job: Job, report: Report) -> tuple[int, Rate]:
    """Batch size that fits the memory, and the rate with it."""
    batch_size = job.config.batch_size
    refused = []
    while True:
        found = _try(job, batch_size)
        if found is not None:
            break
        refused.append(batch_size)
        report.note(probe={"too_large": refused})
        if batch_size == 1:
            raise ConfigError(
                "The memory is too small for a batch of one frame; train a smaller network, or with a smaller crop."
            )
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        batch_size //= 2
    rate = found
    steps_per_s = 1 / rate.step_s
    report.note(
        probe={
            "batch_size": batch_size,
            "too_large": refused,
            "steps_per_s": steps_per_s,
            "frames_per_s": steps_per_s * batch_size,
            **asdict(rate),
        }
    )
    job.say(
        f"Probe: {steps_per_s:.2f} steps/s of {batch_size} frames ({steps_per_s * batch_size:.0f} frames/s),"
        f" start {rate.startup_s:.1f} s, validation {rate.validation_s:.1f} s."
    )
    return batch_size, rate


def _try(job: Job, batch_size: int) -> Rate | None:
    """The rate with a batch size; None if the memory is too small."""
    config = probe_config(job.config, batch_size, job.work)
    end = job.end - END_S
    watch = Watch(job.signals, end, end)
    try:
        with job.errors():
            weights = training_run.train(config, job.command, resume=False, callbacks=(watch,))
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "out of shared memory" in str(error):  # the latter by the workers
            return None
        raise
    if watch.out_of_time:
        raise OutOfTimeError
    if weights.stat().st_size > FILE_LIMIT:
        raise ConfigError(
            f"The weights have {weights.stat().st_size / 1e6:.1f} MB, and files of more than {FILE_LIMIT / 1e6:.1f} MB do not"
            " come back; train a smaller network, or leave half=true."
        )
    untimed, timed = probe_steps(config.workers)
    ends = watch.step_ends
    return Rate(
        (ends[-1] - ends[untimed - 1]) / timed,
        ends[0] - watch.began,
        watch.validation_s[-1] * validation_share(job.config, config),
    )


def _train(job: Job, report: Report, batch_size: int, length: Length, rate: Rate) -> None:
    config = full_config(job.config, batch_size, length, job.work)
    job.say(f"Training: {length.steps} steps, {length.validations} validations, {job.left_s:.0f} s left.")
    report.note(state="training", plan=asdict(length), configuration=portable({**asdict(config), "output": "", "cache": ""}))
    hard = job.end - END_S
    files = _Files(job, report, config)
    watch = Watch(job.signals, hard - rate.validation_s, hard, files.write)
    files.watch = watch
    try:
        with job.errors():
            last = training_run.train(config, job.command, resume=False, callbacks=(watch,))
    finally:
        files.write()
    write_bytes(report.folder / LAST, last.read_bytes())
    report.note(state="out of time" if watch.out_of_time else "done")


class _Files:
    """Writes the files of a training that runs."""

    watch: Watch

    def __init__(self, job: Job, report: Report, config: TrainConfig) -> None:
        self._job, self._report, self._config = job, report, config
        self._best = Best(Path(config.output) / training_run.BEST)
        self._network, self._preprocessing, origin = training_run.build(config)
        self._origin = {"command": job.command, "initialisation": origin}

    def write(self) -> None:
        """Write the best weights, if they are new, and the curves."""
        watch, folder = self.watch, self._report.folder
        if self._best.is_new():
            exported = training_run.export_checkpoint(
                self._best.path, self._config, self._network, self._preprocessing, self._origin
            )
            write_bytes(folder / WEIGHTS, exported.read_bytes())
            weights = {"step": watch.validations[-1]["step"], "sha256": sha256_of([folder / WEIGHTS])}
            self._report.note(weights=weights)
            self._job.say(f"\nStep {weights['step']}: wrote {folder / WEIGHTS}.")
        write_text(folder / CSV, watch.csv())
        self._report.note(
            **watch.curve(),
            seconds=time.monotonic() - watch.began,
            steps_per_s=watch.steps_per_s,
        )
