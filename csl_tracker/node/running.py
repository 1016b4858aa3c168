"""Start and stop of a node's process: one sentence for the user's mistakes, a clean end after a signal."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import uninstall_signal_handlers

from csl_tracker.errors import EXIT_USER_ERROR, CslTrackerError

_stuck = False
"""Whether a thread is at work that will not end."""


def run(name: str, work: Callable[[], None], args: Sequence[str] | None = None) -> int:
    """Initialise ROS, do the work, shut ROS down.

    SIGINT and SIGTERM are ends like any other; ``work`` cleans up after itself in a ``finally``.

    Args:
        name: Name of the program, for its error messages.
        work: Makes the node and spins it.
        args: Command line; None takes the process's own.

    Returns:
        0, also after a signal, or 2 for a mistake of the user (one sentence on stderr).
    """
    once = _InterruptOnce()
    # rclpy's own handlers call these, too: that of the first lines of a process would end it in the middle of its work.
    before = {number: signal.signal(number, once) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = _run(name, work, args, once)
    except KeyboardInterrupt:  # between two steps of the clean-up
        status = 0
    if not once.came:
        for number, handler in before.items():
            signal.signal(number, handler)
    else:
        # Python itself would give them back to the system on its way out, and a last Ctrl-C would be the process's death.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    if _stuck:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)  # Python would wait for the thread, or abort over it
    return status


def _run(name: str, work: Callable[[], None], args: Sequence[str] | None, once: _InterruptOnce) -> int:
    try:
        rclpy.init(args=args)  # its own handlers call the one that was there before
    except RuntimeError as error:  # the classes of malformed --ros-args are private to rclpy
        if once.came:
            return 0
        print(f"{name}: {_one_line(error)}.", file=sys.stderr)
        return EXIT_USER_ERROR
    try:
        if not once.came:
            work()
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except CslTrackerError as error:
        if once.came:  # what was under way then failed in a way of its own
            return 0
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ParameterException as error:
        print(f"{name}: {str(error).rstrip('.')}; see the parameter's description.", file=sys.stderr)
        return EXIT_USER_ERROR
    except Exception:
        # A signal between two calls invalidates the context, and the next call fails in one of many ways.
        if rclpy.ok() and not once.came:
            raise
        return 0
    finally:
        once.armed = False
        rclpy.try_shutdown()
        uninstall_signal_handlers()
    return 0


def _one_line(error: RuntimeError) -> str:
    """What rcl says of a command line that it does not take, without the places in its source."""
    return str(error).splitlines()[0].partition(", at ")[0].rstrip(".")


def spin(node: Node) -> None:
    """Let a node work until the end of ROS; an error in a callback is logged, and the node lives.

    Raises:
        ExternalShutdownException: ROS was shut down.
    """
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    try:
        while node.context.ok():
            try:
                executor.spin_once()
            except ExternalShutdownException:
                raise
            except Exception as error:
                if not node.context.ok():
                    raise
                node.get_logger().error(f"A callback failed ({type(error).__name__}: {error}); the node goes on.")
    finally:
        executor.remove_node(node)
        executor.shutdown(timeout_sec=0)


def leave_stuck_threads() -> None:
    """A thread is at work that will not end: :func:`run` then ends the process without it."""
    global _stuck
    _stuck = True


class _InterruptOnce:
    """A handler that raises ``KeyboardInterrupt`` for the first SIGINT alone; SIGTERM is left to rclpy, which ends ``spin``.

    ``ros2 launch`` and the terminal each send one. The second would break the clean-up that the first began, and a thread that
    is left at work when the interpreter ends aborts the process.
    """

    def __init__(self) -> None:
        self.came = False
        self.armed = True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        first, self.came = not self.came, True
        # Where Python calls back from C an exception cannot be passed on, and would be printed.
        sys.unraisablehook = lambda unraisable: None
        if first and self.armed and number == signal.SIGINT:
            raise KeyboardInterrupt
