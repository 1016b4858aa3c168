"""How the programs of the benchmark end: a sentence and an exit code instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from csl_tracker.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, CslTrackerError
from csl_tracker.node.processes import sigterm_as_interrupt


def exit_code(name: str, work: Callable[[], int]) -> int:
    """Do the work of a program.

    Args:
        name: Of the program, for its messages.
        work: Returns the exit code.

    Returns:
        What the work returns; 2 for a mistake of the user or where MONAI is missing, 130 after Ctrl-C or SIGTERM.
    """
    try:
        with sigterm_as_interrupt():  # nodes that were started are stopped
            return work()
    except CslTrackerError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ImportError as error:
        if (error.name or "").split(".")[0] != "monai":
            raise
        print(
            f"{name}: MONAI is not installed; 'make bench' installs it, or pip install -r requirements/bench.txt.",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; what is finished is kept, and the same command goes on.", file=sys.stderr)
        return EXIT_INTERRUPTED
