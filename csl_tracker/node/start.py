"""Entry points of the nodes' processes: a signal during the imports ends the process with status 0 and no traceback.

    python -m csl_tracker.node.start tracker_node --ros-args ...

Nothing slow is imported before the signal handlers are set: torch alone takes seconds.
"""

from __future__ import annotations

import os
import signal
import sys

NODES = ("tracker_node", "stereo_node", "replay_node")


def end_quietly_on_signals(status: int = 0) -> list[signal.Signals]:
    """Exit at once on SIGINT or SIGTERM, while there is nothing to clean up.

    Args:
        status: Exit status.

    Returns:
        The signals that are now handled; signals that the user ignores or handles otherwise stay unchanged.
    """
    taken = []
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, lambda *_: os._exit(status))
            taken.append(number)
    return taken


def tracker_node() -> int:
    """Run ``tracker_node``."""
    return start("tracker_node")


def stereo_node() -> int:
    """Run ``stereo_node``."""
    return start("stereo_node")


def replay_node() -> int:
    """Run ``replay_node``."""
    return start("replay_node")


def start(name: str) -> int:
    """Import and run a node.

    Returns:
        Its exit status, or 2 if a package is not installed (with one sentence on stderr).
    """
    taken = end_quietly_on_signals()  # until csl_tracker.node.running.run() sets its own handlers
    from csl_tracker.node.missing import MissingPackageError, import_node

    try:
        node = import_node(name)
    except MissingPackageError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    status = int(node.main())
    for number in taken:
        signal.signal(number, signal.SIG_IGN)  # Python resets its own handlers before it ends
    return status


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in NODES:
        sys.exit(f"start: give one of {', '.join(NODES)}, followed by its arguments.")
    sys.argv = sys.argv[1:]
    sys.exit(start(sys.argv[0]))
