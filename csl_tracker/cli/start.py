"""The first lines of ``csl-tracker``: Ctrl-C ends it without a traceback, while Python still imports and when repeated, too."""

from __future__ import annotations

import signal
import sys

from csl_tracker.errors import EXIT_INTERRUPTED
from csl_tracker.node.start import end_quietly_on_signals


def main() -> int:
    """Run ``csl-tracker``.

    Returns:
        See :func:`csl_tracker.cli.main.main`.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    end_quietly_on_signals(EXIT_INTERRUPTED)
    from csl_tracker.cli import main as command

    try:
        for number, handler in before.items():
            signal.signal(number, handler)
        status = command.main()
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    if status == EXIT_INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is to end
    return status


if __name__ == "__main__":
    sys.exit(main())
