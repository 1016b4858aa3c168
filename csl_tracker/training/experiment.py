"""Executes the runs of an experiment, with one folder and one JSON per run.

A run is stored in ``OUT/runs/FOLD/MODEL/seedK``. ``result.json`` is written at the end; an unfinished training resumes from its
last checkpoint. Several processes may share OUT: each run is protected by a file lock on ``run.lock``, which the kernel
releases when the process ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from csl_tracker.datasets.registry import FileSequence
from csl_tracker.errors import CslTrackerError
from csl_tracker.evaluation.protocol_data import prepare_data
from csl_tracker.instruments import find_instruments
from csl_tracker.networks.published import find_published
from csl_tracker.training.disk import disk_errors
from csl_tracker.training.plan import ROOT_VARIABLE, Plan, PlannedRun
from csl_tracker.training.processes import claim
from csl_tracker.training.result import is_finished, make_run


@dataclass
class Outcome:
    """Outcome of the runs of a plan.

    Attributes:
        made: Runs finished by this call.
        kept: Runs finished before or by another process.
        elsewhere: Runs in progress in another process.
        failed: Failed runs with an error sentence.
    """

    made: list[PlannedRun] = field(default_factory=list)
    kept: list[PlannedRun] = field(default_factory=list)
    elsewhere: list[PlannedRun] = field(default_factory=list)
    failed: list[tuple[PlannedRun, str]] = field(default_factory=list)


def run_plan(plan: Plan, root: Path | None, command: str, say: Callable[[str], None] = print, device: str = "auto") -> Outcome:
    """Execute all unfinished runs; a failure is reported and does not stop the others.

    Args:
        plan: The plan.
        root: Folder of the dataset.
        command: The command line, for the provenance.
        say: Called with a progress line per run.
        device: Device for evaluating the trained networks.

    Raises:
        OSError: The disk is full or the folder is not writable, so that all runs would fail.
        DatasetError, ConfigError: Data is missing, or a finished run has another configuration.
        WeightsError: Initial weights of an encoder are missing.
    """
    outcome = Outcome()
    pending: list[PlannedRun] = []
    for run in plan.runs:
        (outcome.kept if is_finished(plan, run) else pending).append(run)
    if outcome.kept:
        say(f"{len(outcome.kept)} of {len(plan.runs)} runs are finished already.")
    if not pending:
        return outcome
    sequences = prepare_data(plan.protocol, root, find_instruments(plan.runs[0].config.instruments))
    _find_encoder_weights(pending)
    os.environ[ROOT_VARIABLE] = "" if root is None else str(root.resolve())
    clock = _Clock()
    while pending:
        busy = []
        for position, run in enumerate(pending):
            name = f"run {plan.runs.index(run) + 1} of {len(plan.runs)}, {run.title}"
            with claim(run.folder) as claimed:
                if not claimed:
                    busy.append(run)
                elif is_finished(plan, run):  # meanwhile, by another process
                    outcome.kept.append(run)
                else:
                    say(f"{name} ({clock.elapsed()} so far{clock.left(pending[position:])})")
                    started = time.monotonic()
                    error = _attempt(plan, run, sequences, command, device)
                    if error is None:
                        clock.add(run, time.monotonic() - started)
                        outcome.made.append(run)
                    else:
                        say(f"{name}, failed: {error}")
                        outcome.failed.append((run, error))
        if len(busy) == len(pending):
            outcome.elsewhere = busy
            break
        pending = busy  # retry: the other process may have stopped
    return outcome


def _find_encoder_weights(runs: Sequence[PlannedRun]) -> None:
    """Find, or download, the encoders' initial weights before the first run, since all runs need them.

    Raises:
        WeightsError: They are missing.
    """
    configs = [run.config for run in runs if not run.config.init_weights and run.config.encoder_weights]
    for encoder, source in dict.fromkeys((config.network.encoder, config.encoder_weights) for config in configs):
        if encoder != "none":
            find_published(encoder, source)


def _attempt(plan: Plan, run: PlannedRun, sequences: Mapping[str, FileSequence], command: str, device: str) -> str | None:
    """Execute a run; returns an error sentence or None."""
    try:
        with disk_errors(run.folder):
            make_run(plan, run, sequences, command, device)
    except CslTrackerError as error:
        return str(error)
    except torch.cuda.OutOfMemoryError:
        return f"The GPU's memory is too small for batches of {run.config.batch_size}; lower batch_size."
    return None


class _Clock:
    """Elapsed and estimated remaining time."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.seconds: dict[str, list[float]] = {}

    def add(self, run: PlannedRun, seconds: float) -> None:
        self.seconds.setdefault(run.model.name, []).append(seconds)

    def elapsed(self) -> str:
        return _duration(time.monotonic() - self.started)

    def left(self, runs: Sequence[PlannedRun]) -> str:
        """Estimated time for these runs in this process; '' before the first run is done."""
        everything = [seconds for values in self.seconds.values() for seconds in values]
        if not everything:
            return ""
        known = {model: sum(values) / len(values) for model, values in self.seconds.items()}
        mean = sum(everything) / len(everything)
        return f", about {_duration(sum(known.get(run.model.name, mean) for run in runs))} left"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
