"""Tests against the upstream packages that no wheel brings: they run in a sourced ROS 2 and skip visibly elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STOP_TIMEOUT_S = 20.0


class Ros2:
    """The ``ros2`` command, run by this Python."""

    # As the console script of ros2cli does it; its own lies outside the virtual environment.
    COMMAND = (sys.executable, "-c", "import sys; from ros2cli.cli import main; sys.exit(main())")

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment = environment
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, *arguments: str, timeout_s: float = 60.0) -> str:
        """Run to the end, and return what it wrote to stdout."""
        done = subprocess.run(
            [*self.COMMAND, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Path]:
        """Run in the background and stop it as Ctrl-C does; gives the file that its output goes to."""
        log = self.folder / "output.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*self.COMMAND, *arguments],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.process = process
        try:
            yield log
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)  # SIGTERM to `ros2 launch` would orphan its nodes
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise

    def interrupt(self, clicks: int = 1) -> None:
        """Press Ctrl-C in the terminal of what is running."""
        assert self.process is not None
        for _ in range(clicks):
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGINT)
                time.sleep(0.2)

    def wait(self) -> int:
        """Exit status of what was running."""
        assert self.process is not None
        return self.process.wait(STOP_TIMEOUT_S * 3)


@pytest.fixture
def ros2(ros_environment: dict[str, str], tmp_path: Path) -> Ros2:
    return Ros2({**ros_environment, "ROS_LOG_DIR": str(tmp_path / "log")}, tmp_path)


@pytest.fixture
def wait_for_text() -> Callable[..., str]:
    """A function that waits until a file holds some text, and returns all of the file."""

    def wait(path: Path, text: str, timeout_s: float = 90.0) -> str:
        end = time.monotonic() + timeout_s
        while text not in (content := path.read_text()):
            assert time.monotonic() < end, f"no {text!r} in:\n{content}"
            time.sleep(0.1)
        return content

    return wait
