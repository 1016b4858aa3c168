"""Run nodes as child processes of a program that is not a node. This module imports no ROS."""

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

# Only these of DDS's 232 domain IDs keep all ports below Linux's ephemeral port range.
_DOMAINS = range(1, 102)
# Port of a domain's first participant: 7400 + 250 domain + 10 (OMG DDSI-RTPS 2.3, 9.6.1).
_FIRST_PORT, _DOMAIN_GAIN, _UNICAST_OFFSET = 7400, 250, 10

STOP_TIMEOUT_S = 10.0
EXIT_INTERRUPTED = 130

_reserved: dict[int, socket.socket] = {}


def free_domain_id() -> int:
    """A ``ROS_DOMAIN_ID`` that nobody on this machine uses, so that parallel runs do not interfere.

    It stays reserved against other callers on this machine until this process ends.
    """
    domains = [domain for domain in random.SystemRandom().sample(_DOMAINS, len(_DOMAINS)) if _has_no_participant(domain)]
    free = next((domain for domain in domains if _reserve(domain)), None)
    if free is not None:
        return free
    return next(iter(domains), _DOMAINS[0])  # all are reserved: share one without participants


def _has_no_participant(domain: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", _FIRST_PORT + _DOMAIN_GAIN * domain + _UNICAST_OFFSET))
        except OSError:
            return False
    return True


def _reserve(domain: int) -> bool:
    """Reserve a domain with a socket, since other callers cannot detect it before its first participant starts.

    An abstract Unix socket leaves no file behind and disappears with the process.
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
    """Environment for nodes that communicate only with each other, with the Fast DDS profile for camera images.

    Args:
        domain: Their ``ROS_DOMAIN_ID``.
        environ: Base environment; None for this process's own.
    """
    base = dict(os.environ if environ is None else environ)
    base.pop("ROS_LOCALHOST_ONLY", None)  # deprecated, and overrides the discovery range
    if base.get("ROS_DISTRO") == "humble":  # has no discovery range
        base["ROS_LOCALHOST_ONLY"] = "1"
    return {
        **base,
        **large_image_environment(base),
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
    }


class NodeProcess:
    """A node that runs as ``python -m MODULE`` and is stopped at the end of the context.

    It runs in its own session, so that Ctrl-C in a terminal reaches only the parent, which then stops the node.
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
            module: Name of a module in ``csl_tracker.node``, or the full dotted name of any module.
            parameters: Parameters of the node.
            remappings: Topic remappings.
            environment: Complete environment; None for this process's own.
            log: File for stdout and stderr; None inherits stderr, for a progress bar.
            arguments: Arguments of the program, before ``--ros-args``.
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
        """Process ID."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the exit status.

        Raises:
            subprocess.TimeoutExpired: Still running.
        """
        return self._process.wait(timeout_s)

    def output(self) -> str:
        """Output so far; empty without a log."""
        return "" if self.log is None else self.log.read_text(encoding="utf-8", errors="replace")

    def complaint(self) -> str:
        """Last line of the output, without the leading module name."""
        lines = [line for line in self.output().splitlines() if line.strip()]
        return lines[-1].removeprefix(f"{self.module}: ") if lines else f"it ended with status {self.poll()}"

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Stop by SIGTERM, or SIGKILL after the timeout. May be called twice.

        SIGINT would cause a traceback in a Python that is still importing.

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
    """Raise ``KeyboardInterrupt`` on SIGTERM, so that a program stops its nodes.

    Yields:
        The signals received so far.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def run_stoppable(name: str, work: Callable[[], object]) -> int:
    """Run a script that starts nodes; SIGINT and SIGTERM stop it and its nodes.

    Args:
        name: Name of the script, for its message.
        work: Starts and stops the nodes.

    Returns:
        0, or 130 after a signal (with one sentence on stderr).
    """
    with sigterm_as_interrupt() as received:
        try:
            work()
        except KeyboardInterrupt:
            received.append(signal.SIGINT)
        except Exception:  # ROS's own signal handler may have shut it down
            if not received:
                raise
    if received:
        print(f"\n{name}: stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _yaml(value: Any) -> str:
    """A parameter in YAML, as ROS's command line parses it; quotes keep number-like strings as strings."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return repr(value)
