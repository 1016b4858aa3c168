"""A step in a process of its own: whatever it does to the device or to itself, the others go on."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from benchmark.gpu_steps.context import Context, Part
from csl_tracker.errors import CslTrackerError

GRACE_S = 5.0
"""Between asking a process to end and ending it, and by how much a step may overrun."""
_FAILED = 1


class Child:
    """A step that runs.

    Args:
        step: Its name.
        context: What it is given.
        part: File in which it leaves what it finds.
        log: File that takes what it prints.
        own_python: Start a Python anew, instead of a copy of this process; needed once this process has touched a GPU.
        script: What such a Python runs, with ``--one`` and the settings as JSON.
    """

    def __init__(self, step: str, context: Context, part: Path, log: Path, own_python: bool, script: Path) -> None:
        self._process: subprocess.Popen[bytes] | multiprocessing.process.BaseProcess
        if own_python:
            command = [sys.executable, str(script), "--one", json.dumps(settings_of(step, context, part))]
            with log.open("wb") as file:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
                )
        else:
            self._process = multiprocessing.get_context("fork").Process(target=_copy, args=(step, context, part, log))
            self._process.start()

    def exit_status(self) -> int | None:
        """As a shell counts, negative for a signal; None while it runs."""
        if isinstance(self._process, subprocess.Popen):
            return self._process.poll()
        return self._process.exitcode

    def wait(self, seconds: float) -> int | None:
        """Wait for the end, but no longer than so."""
        if isinstance(self._process, subprocess.Popen):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        else:
            self._process.join(seconds)
        return self.exit_status()

    def end(self) -> None:
        """Ask it to end, then end it and all that it has started."""
        if self.exit_status() is None:
            self._signal(signal.SIGTERM)
            self.wait(GRACE_S)
        self._signal(signal.SIGKILL)
        self.wait(GRACE_S)

    def _signal(self, number: signal.Signals) -> None:
        pid = self._process.pid
        assert pid is not None
        for send in (os.killpg, os.kill):  # a copy may not yet lead a group of its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if send is os.killpg or self.exit_status() is None:
                    send(pid, number)


def settings_of(step: str, context: Context, part: Path) -> dict[str, Any]:
    """Everything that a Python needs to run a step, as plain data."""
    return {
        "step": step,
        "part": str(part),
        "folder": str(context.folder),
        "device": context.device,
        "dry": context.dry,
        "deadline": context.deadline,
        "wheels": None if context.wheels is None else str(context.wheels),
    }


def run_one(settings: dict[str, Any]) -> int:
    """Run a step in this process.

    Args:
        settings: Of :func:`settings_of`.

    Returns:
        The exit status: 0, or 1 where it failed; why stands in its file.
    """
    wheels = settings["wheels"]
    context = Context(
        Path(settings["folder"]),
        settings["device"],
        settings["dry"],
        settings["deadline"],
        None if wheels is None else Path(wheels),
    )
    return _run(settings["step"], context, Path(settings["part"]))


def _copy(step: str, context: Context, part: Path, log: Path) -> None:
    os.setsid()
    with log.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.exit(_run(step, context, part))


def _run(step: str, context: Context, path: Path) -> int:
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children itself
    os.environ.setdefault("TQDM_DISABLE", "1")
    part = Part(path)
    began = time.monotonic()
    try:
        importlib.import_module(f"benchmark.gpu_steps.{step}").run(context, part)
    except Exception as error:  # whatever it is, the other steps go on
        traceback.print_exc()
        part.note(failed=sentence(error))
        return _FAILED
    finally:
        part.note(own_s=time.monotonic() - began)
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def sentence(error: BaseException) -> str:
    """The first line of what an error says; with its kind, where it was not made for a user."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, CslTrackerError):
        return lines[0]
    return ": ".join([type(error).__name__, *lines[:1]])
