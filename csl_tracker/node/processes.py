"""Nodes as processes of their own, started and stopped by a program that is no node. This module imports no ROS."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from csl_tracker.import_path import python_command, safe_environment
from csl_tracker.node.fastdds import large_image_environment

# Of the 232 domains of DDS these keep all their ports below those that Linux hands out to others.
_DOMAINS = range(1, 102)
# The port of a domain's first participant is 7400 + 250 domain + 10 (OMG DDSI-RTPS 2.3, 9.6.1).
_FIRST_PORT, _DOMAIN_GAIN, _UNICAST_OFFSET = 7400, 250, 10

STOP_TIMEOUT_S = 10.0
EXIT_INTERRUPTED = 130

_reserved: dict[int, socket.socket] = {}


def free_domain_id() -> int:
    """A ``ROS_DOMAIN_ID`` in which nobody on this machine takes part, so that runs beside each other do not mix.

    It is reserved against other callers on this machine until this process ends.
    """
    domains = [domain for domain in random.SystemRandom().sample(_DOMAINS, len(_DOMAINS)) if _has_no_participant(domain)]
    free = next((domain for domain in domains if _reserve(domain)), None)
    if free is not None:
        return free
    return next(iter(domains), _DOMAINS[0])  # all are reserved: share one that is at rest


def _has_no_participant(domain: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", _FIRST_PORT + _DOMAIN_GAIN * domain + _UNICAST_OFFSET))
        except OSError:
            return False
    return True


def _reserve(domain: int) -> bool:
    """Bind a socket that stands for the domain: until its first participant comes, another caller could choose it, too.

    An abstract Unix socket leaves no file behind and goes with the process.
    """
    if domain in _reserved:
        return False
    reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        reservation.bind(f"\0csl_tracker/ros_domain/{domain}")
    except OSError:
        reservation.close()
        return False
    _reserved[domain] = reservation
    return True


def private_environment(domain: int, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of nodes that talk to each other and to nobody else, fast enough for camera images.

    Args:
        domain: Their ``ROS_DOMAIN_ID``.
        environ: The environment as it is; None takes this process's.
    """
    base = dict(os.environ if environ is None else environ)
    base.pop("ROS_LOCALHOST_ONLY", None)  # deprecated, and it would override the range
    if base.get("ROS_DISTRO") == "humble":  # which has no range
        base["ROS_LOCALHOST_ONLY"] = "1"
    return {
        **base,
        **large_image_environment(base),
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
    }


class NodeProcess:
    """A node that runs as ``python -m MODULE``, stopped at the end of the context.

    It is started in a session of its own, so that Ctrl-C in a terminal reaches the parent alone, which then stops the node.
    """

    def __init__(
        self,
        module: str,
        parameters: Mapping[str, Any],
        remappings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """Start the process.

        Args:
            module: Name of a module under ``csl_tracker.node``, or with dots the full name of one anywhere.
            parameters: Parameters of the node.
            remappings: Names to replace.
            environment: The whole environment; None takes this process's.
            log: File that takes stdout and stderr; None leaves stderr as it is, for a progress bar.
            arguments: What the program itself takes, before what is for ROS.
        """
        self.module = module
        self.log = log
        full_name = module if "." in module else f"csl_tracker.node.{module}"
        command = python_command("-m", full_name, *arguments, "--ros-args")
        for name, value in parameters.items():
            command += ["-p", f"{name}:={_yaml(value)}"]
        for name, value in (remappings or {}).items():
            command += ["-r", f"{name}:={value}"]
        given = dict(os.environ if environment is None else environment)
        self._file = None if log is None else log.open("wb")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._file,
                stderr=None if self._file is None else subprocess.STDOUT,
                env={**given, **safe_environment(given)},
                start_new_session=True,
            )
        except BaseException:
            if self._file is not None:
                self._file.close()
            raise

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end.

        Raises:
            subprocess.TimeoutExpired: It goes on.
        """
        return self._process.wait(timeout_s)

    def output(self) -> str:
        """What the process has written so far; empty without a log."""
        return "" if self.log is None else self.log.read_text(encoding="utf-8", errors="replace")

    def complaint(self) -> str:
        """Last line that the process wrote, without its own name before it."""
        lines = [line for line in self.output().splitlines() if line.strip()]
        return lines[-1].removeprefix(f"{self.module}: ") if lines else f"it ended with status {self.poll()}"

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Stop by SIGTERM, by force after the time-out. May be called twice.

        SIGINT would do too, but for a traceback where it meets a Python that is still importing.

        Returns:
            The exit status.
        """
        try:
            if self._process.poll() is None:
                self._process.terminate()
                try:
                    self._process.wait(timeout_s)
                except subprocess.TimeoutExpired:
                    self._process.kill()
            return self._process.wait()
        finally:
            if self._file is not None:
                self._file.close()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


@contextmanager
def sigterm_as_interrupt() -> Iterator[list[int]]:
    """Raise ``KeyboardInterrupt`` on SIGTERM, so that a program stops the nodes that it started.

    Yields:
        The signals that came so far.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def run_stoppable(name: str, work: Callable[[], object]) -> int:
    """Run a script that starts nodes; SIGINT and SIGTERM end it, and its nodes with it.

    Args:
        name: Name of the script, for its message.
        work: Starts and stops the nodes.

    Returns:
        0, or 130 after a signal (one sentence on stderr).
    """
    with sigterm_as_interrupt() as came:
        try:
            work()
        except KeyboardInterrupt:
            came.append(signal.SIGINT)
        except Exception:  # ROS was shut down by its own handler of the signal
            if not came:
                raise
    if came:
        print(f"\n{name}: stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _yaml(value: Any) -> str:
    """A parameter as the command line of ROS reads it: YAML, so that text which looks like a number stays text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return repr(value)
