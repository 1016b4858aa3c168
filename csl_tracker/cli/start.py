"""Entry point of ``csl-tracker``: SIGINT and SIGTERM end it with status 130 and no traceback, even during imports."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from csl_tracker.errors import EXIT_INTERRUPTED
from csl_tracker.node.start import end_quietly_on_signals

_EXIT_TERMINATED = 143
_RETRY_S = 0.02


def main() -> int:
    """Run ``csl-tracker``.

    Returns:
        See :func:`csl_tracker.cli.main.main`.
    """
    try:
        return _run()
    except KeyboardInterrupt:  # a repeated Ctrl-C
        return EXIT_INTERRUPTED


def _run() -> int:
    taken = end_quietly_on_signals(EXIT_INTERRUPTED)
    from csl_tracker.cli import main as command

    interrupt = _Interrupt()

    def take_over() -> None:
        for number in taken:
            signal.signal(number, interrupt)

    try:
        return command.main(begin=take_over)
    finally:
        interrupt.armed = False
        for number in taken:
            signal.signal(number, signal.SIG_IGN)  # Python restores only its own handlers at exit


class _Interrupt:
    """Raises ``KeyboardInterrupt`` for SIGINT and SIGTERM, so that a command cleans up after both."""

    def __init__(self) -> None:
        self.armed = True
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if number == signal.SIGTERM and os.getpid() != self._process:  # a forked worker process
            os._exit(_EXIT_TERMINATED)
        if self.armed:
            sys.unraisablehook = self._raise_later
            raise KeyboardInterrupt

    def _raise_later(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raise again later: Python cannot propagate an exception from a finaliser, and would only print it."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
        elif self.armed:
            signal.signal(signal.SIGALRM, self)
            signal.setitimer(signal.ITIMER_REAL, _RETRY_S)


if __name__ == "__main__":
    sys.exit(main())
