"""Start and stop of a node's process: one sentence for the user's mistakes, a clean end after a signal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.signals import uninstall_signal_handlers

from csl_tracker.errors import CslTrackerError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def run(name: str, work: Callable[[], None], args: Sequence[str] | None = None, interrupted: int = 0) -> int:
    """Initialise ROS, do the work, shut ROS down.

    SIGINT and SIGTERM are ends like any other; ``work`` cleans up after itself in a ``finally``.

    Args:
        name: Name of the program, for its error messages.
        work: Makes the node and spins it.
        args: Command line; None takes the process's own.
        interrupted: What to return after a signal.

    Returns:
        0, ``interrupted`` after a signal, or 2 for a mistake of the user (one sentence on stderr).
    """
    once = _InterruptOnce()
    before = signal.signal(signal.SIGINT, once)
    try:
        rclpy.init(args=args)  # its own handlers call the one that was there before
    except RuntimeError as error:  # the classes of malformed --ros-args are private to rclpy
        signal.signal(signal.SIGINT, before)
        print(f"{name}: {str(error).splitlines()[0]}.", file=sys.stderr)
        return EXIT_USER_ERROR
    try:
        work()
    except (KeyboardInterrupt, ExternalShutdownException):
        return interrupted
    except CslTrackerError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ParameterException as error:
        print(f"{name}: {str(error).rstrip('.')}; see the parameter's description.", file=sys.stderr)
        return EXIT_USER_ERROR
    except Exception:
        # A signal between two calls invalidates the context, and the next call fails in one of many ways.
        if rclpy.ok():
            raise
        return interrupted
    finally:
        rclpy.try_shutdown()
        uninstall_signal_handlers()
        if not once.came:
            signal.signal(signal.SIGINT, before)
    return 0


class _InterruptOnce:
    """A handler of SIGINT that raises ``KeyboardInterrupt`` for the first signal alone.

    ``ros2 launch`` and the terminal each send one. The second would break the clean-up that the first began, and a thread that
    is left at work when the interpreter ends aborts the process.
    """

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if not self.came:
            self.came = True
            raise KeyboardInterrupt
