"""Start and stop a node's process: one-sentence messages for user errors, and a clean exit after a signal."""

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
"""Whether a thread is running that will not end."""


def run(name: str, work: Callable[[], None], args: Sequence[str] | None = None) -> int:
    """Initialise ROS, do the work, and shut ROS down.

    SIGINT and SIGTERM are normal ends; ``work`` cleans up in a ``finally``.

    Args:
        name: Name of the program, for its error messages.
        work: Creates and spins the node.
        args: Command line; None for this process's own.

    Returns:
        0, also after a signal; 2 after a user error (with one sentence on stderr).
    """
    once = _InterruptOnce()
    # rclpy's handlers also call the previous ones; the handler of the start phase would exit at once.
    before = {number: signal.signal(number, once) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = _run(name, work, args, once)
    except KeyboardInterrupt:  # during the clean-up
        status = 0
    if not once.came:
        for number, handler in before.items():
            signal.signal(number, handler)
    else:
        # Python restores the default handlers at exit; a late Ctrl-C would then kill the process.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    if _stuck:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)  # a normal exit would wait for the thread, or abort
    return status


def _run(name: str, work: Callable[[], None], args: Sequence[str] | None, once: _InterruptOnce) -> int:
    try:
        rclpy.init(args=args)  # its signal handlers call the previous ones
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
        if once.came:  # the signal caused the error
            return 0
        print(f"{name}: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ParameterException as error:
        print(f"{name}: {str(error).rstrip('.')}; see the parameter's description.", file=sys.stderr)
        return EXIT_USER_ERROR
    except Exception:
        # A signal between two calls invalidates the context, and the next call may fail in many ways.
        if rclpy.ok() and not once.came:
            raise
        return 0
    finally:
        once.armed = False
        rclpy.try_shutdown()
        uninstall_signal_handlers()
    return 0


def _one_line(error: RuntimeError) -> str:
    """First line of rcl's error about a command line, without source locations."""
    return str(error).splitlines()[0].partition(", at ")[0].rstrip(".")


def spin(node: Node) -> None:
    """Spin a node until ROS shuts down; log errors in callbacks and continue.

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
                node.get_logger().error(f"A callback failed ({type(error).__name__}: {error}); the node continues.")
    finally:
        executor.remove_node(node)
        executor.shutdown(timeout_sec=0)


def leave_stuck_threads() -> None:
    """Make :func:`run` exit without waiting for a thread that will not end."""
    global _stuck
    _stuck = True


class _InterruptOnce:
    """Raises ``KeyboardInterrupt`` only for the first SIGINT; rclpy handles SIGTERM by ending ``spin``.

    ``ros2 launch`` and the terminal each send a SIGINT. The second one would interrupt the clean-up, and a thread that is still
    running when the interpreter exits aborts the process.
    """

    def __init__(self) -> None:
        self.came = False
        self.armed = True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        first, self.came = not self.came, True
        # An exception in a callback from C cannot propagate, and would be printed.
        sys.unraisablehook = lambda unraisable: None
        if first and self.armed and number == signal.SIGINT:
            raise KeyboardInterrupt
