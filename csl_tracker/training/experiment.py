"""Experiments: the runs of a plan, one folder and one JSON each.

A run lies in ``OUT/runs/FOLD/MODEL/seedK``. Its ``result.json`` appears when it is finished; until then the training goes on
from its last checkpoint. Several processes may work in the same OUT: each run is claimed by a lock on its ``run.lock``, which
the kernel releases when the process ends, however it ends.
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
from csl_tracker.training.disk import disk_errors
from csl_tracker.training.plan import ROOT_VARIABLE, Plan, PlannedRun
from csl_tracker.training.processes import claim
from csl_tracker.training.result import is_finished, make_run


@dataclass
class Outcome:
    """What became of the runs of a plan.

    Attributes:
        made: Runs finished now.
        kept: Runs that were finished before, or by another process.
        elsewhere: Runs that another process is at.
        failed: Runs and what went wrong, a sentence each.
    """

    made: list[PlannedRun] = field(default_factory=list)
    kept: list[PlannedRun] = field(default_factory=list)
    elsewhere: list[PlannedRun] = field(default_factory=list)
    failed: list[tuple[PlannedRun, str]] = field(default_factory=list)


def run_plan(plan: Plan, root: Path | None, command: str, say: Callable[[str], None] = print, device: str = "auto") -> Outcome:
    """Make all runs that are not finished; one that fails is reported, and the others go on.

    Args:
        plan: What to run.
        root: Folder of the dataset.
        command: The command line, for the provenance.
        say: Takes a line about every run.
        device: Where the trained networks are measured.

    Raises:
        OSError: The disk is full, or the folder of the experiment cannot be written; the other runs would fail, too.
        DatasetError, ConfigError: Data is missing, or a finished run is of another configuration.
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
    os.environ[ROOT_VARIABLE] = "" if root is None else str(root.resolve())
    clock = _Clock()
    while pending:
        busy = []
        for position, run in enumerate(pending):
            name = f"run {plan.runs.index(run) + 1} of {len(plan.runs)}, {run.title}"
            with claim(run.folder) as mine:
                if not mine:
                    busy.append(run)
                elif is_finished(plan, run):  # by another process, since
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
        pending = busy  # they may have been given up since
    return outcome


def _attempt(plan: Plan, run: PlannedRun, sequences: Mapping[str, FileSequence], command: str, device: str) -> str | None:
    """Make a run; a sentence on what went wrong, or None."""
    try:
        with disk_errors(run.folder):
            make_run(plan, run, sequences, command, device)
    except CslTrackerError as error:
        return str(error)
    except torch.cuda.OutOfMemoryError:
        return f"The GPU's memory is too small for batches of {run.config.batch_size}; lower batch_size."
    return None


class _Clock:
    """How long the runs took, and how long the others will."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.seconds: dict[str, list[float]] = {}

    def add(self, run: PlannedRun, seconds: float) -> None:
        self.seconds.setdefault(run.model.name, []).append(seconds)

    def elapsed(self) -> str:
        return _duration(time.monotonic() - self.started)

    def left(self, runs: Sequence[PlannedRun]) -> str:
        """Estimate for these runs, by this process alone; '' before the first is done."""
        everything = [seconds for values in self.seconds.values() for seconds in values]
        if not everything:
            return ""
        known = {model: sum(values) / len(values) for model, values in self.seconds.items()}
        mean = sum(everything) / len(everything)
        return f", about {_duration(sum(known.get(run.model.name, mean) for run in runs))} left"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
