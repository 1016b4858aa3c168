"""Runs the steps one after the other, each within its time, and keeps the JSON up to date."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from benchmark.gpu_steps.child import GRACE_S, Child
from benchmark.gpu_steps.context import Context
from benchmark.gpu_steps.plan import Step, allowed
from csl_tracker.output import write_json

NOT_RUN, RUNNING, DONE, FAILED, CUT, STOPPED = "not run", "running", "done", "failed", "cut off", "stopped"
_LOOK_S = 0.2


@dataclass
class Report:
    """The JSON file.

    Attributes:
        path: Where it lies.
        head: What holds for all steps.
        steps: Entry of each step.
    """

    path: Path
    head: dict[str, Any]
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self) -> None:
        """Write it, atomically."""
        write_json(self.path, {**self.head, "steps": self.steps})


@dataclass(frozen=True)
class Settings:
    """How the steps are run.

    Attributes:
        folder: Of temporary files.
        device: ``cuda:0`` or ``cpu``.
        dry: Tiny numbers on the CPU.
        seconds: The whole.
        wheels: Folder that was carried along, if any.
        script: What runs a step in a Python of its own.
        copies: Run steps as copies of this process, which saves the imports; only where it has touched no GPU.
    """

    folder: Path
    device: str
    dry: bool
    seconds: float
    wheels: Path | None
    script: Path
    copies: bool


class StoppedError(Exception):
    """A signal asked for the end.

    Attributes:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Signals:
    """Notes SIGINT and SIGTERM within its context, for whoever asks; an exception could come anywhere, in a fork above all."""

    def __init__(self) -> None:
        self._came = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._came = number

    def check(self) -> None:
        """Go on, unless a signal came.

        Raises:
            StoppedError: One did.
        """
        if self._came:
            raise StoppedError(self._came)


def run_steps(
    steps: Sequence[Step], report: Report, settings: Settings, signals: Signals, say: Callable[[str], None] = print
) -> None:
    """Run all steps; the report is written whenever one of them has found something, and when anything ends this.

    Args:
        steps: Which, in this order.
        report: Where the entries go.
        settings: How.
        signals: Those that have come.
        say: Takes a line about every step.

    Raises:
        StoppedError: A signal came; the step that ran was ended.
    """
    report.path.parent.mkdir(parents=True, exist_ok=True)
    report.path.with_suffix(".log").unlink(missing_ok=True)
    end = time.monotonic() + settings.seconds
    for number, step in enumerate(steps):
        signals.check()
        later = steps[number + 1 :]
        granted = allowed(step, later, end - time.monotonic(), settings.seconds)
        if granted is None:
            report.steps[step.name] = {"state": NOT_RUN, "reason": "No time was left for it."}
            report.write()
            say(f"{number + 1} of {len(steps)}, {step.title}: no time left")
            continue
        say(f"{number + 1} of {len(steps)}, {step.title}: at most {granted:.0f} s")
        context = Context(settings.folder, settings.device, settings.dry, time.monotonic() + granted, settings.wheels)
        _run(step, context, granted, report, settings, signals)
        entry = report.steps[step.name]
        say(f"    {entry['state']} after {entry['seconds']:.1f} s{': ' + entry['reason'] if entry.get('reason') else ''}")


def _run(step: Step, context: Context, granted: float, report: Report, settings: Settings, signals: Signals) -> None:
    """Run one step to its end, or to that of its time."""
    part = settings.folder / f"{step.name}.json"
    part.unlink(missing_ok=True)
    began = time.monotonic()
    seen = 0
    report.steps[step.name] = entry = {"state": RUNNING, "budget_s": granted, "seconds": 0.0}
    report.write()
    log = settings.folder / f"{step.name}.log"
    child = Child(step.name, context, part, log, step.own_python or not settings.copies, settings.script)
    state = STOPPED
    try:
        while True:
            status = child.wait(_LOOK_S)
            signals.check()
            if part.is_file() and part.stat().st_mtime_ns != seen:
                seen = part.stat().st_mtime_ns
                report.steps[step.name] = {**entry, **_read(part), "seconds": time.monotonic() - began}
                report.write()
            if status is not None or time.monotonic() > context.deadline + GRACE_S:
                break
        state = CUT if status is None else DONE if status == 0 else FAILED
    finally:
        child.end()
        found = _read(part)
        reason = found.pop("failed", "")
        not_run = found.pop("not_run", "")
        if state == DONE and not_run:
            state, reason = NOT_RUN, not_run
        elif state == FAILED and not reason:
            reason = f"Its process ended with status {child.exit_status()}{_last_words(log)}."
        elif state == CUT:
            reason = f"It did not end within its {granted:.0f} s; what it had found is kept."
        report.steps[step.name] = {
            **entry,
            **found,
            "state": state,
            "seconds": time.monotonic() - began,
            "exit_status": child.exit_status(),
            **({"reason": reason} if reason else {}),
        }
        report.write()
        with report.path.with_suffix(".log").open("ab") as whole:
            whole.write(f"\n== {step.name}: {state}\n".encode() + (log.read_bytes() if log.is_file() else b""))


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    return f", and said last: {said[-1].rstrip('.')}" if said else ""


def _read(part: Path) -> dict[str, Any]:
    if not part.is_file():
        return {}
    found: dict[str, Any] = json.loads(part.read_text(encoding="utf-8"))
    return found
