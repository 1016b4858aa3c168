"""``csl-tracker watch``: show rates, latency and poses of a running tracker node in a terminal."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

from csl_tracker.errors import ConfigError, CslTrackerError
from csl_tracker.messages import topics
from csl_tracker.messages.watch import View
from csl_tracker.node.missing import MissingPackageError, explain
from csl_tracker.reporting.watch_screen import line, screen

if TYPE_CHECKING:
    from csl_tracker.node.watcher import Watcher

SCREEN_PERIOD_S = 0.2
LINE_PERIOD_S = 1.0

# ECMA-48: alternate screen, cursor, and erasing to the end of the line and of the screen.
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME, _ERASE_LINE, _ERASE_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--node", default=f"/{topics.TRACKER_NODE}", metavar="NAME", help="full name of the tracker node (%(default)s)"
    )
    parser.add_argument("--once", action="store_true", help="show the first poses and exit")
    parser.add_argument("--lines", type=int, metavar="N", help="write N plain lines, one per second, and exit")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="with --once: how long to wait for poses, s (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Watch until Ctrl-C: a refreshed view if stdout is a terminal, otherwise lines."""
    if args.lines is not None and args.lines < 1:
        raise ConfigError(f"--lines is {args.lines}; give 1 or more.")
    if args.timeout <= 0:
        raise ConfigError(f"--timeout is {args.timeout:g}; give a positive number of seconds.")
    try:
        from csl_tracker.node.watcher import Watcher
    except ImportError as error:
        raise MissingPackageError(explain(error)) from error
    with Watcher(args.node) as watcher:
        if args.once:
            return _once(watcher, args.timeout)
        if args.lines is not None or not sys.stdout.isatty():
            return _write_lines(watcher, args.lines)
        return _draw(watcher)


def _once(watcher: Watcher, timeout_s: float) -> int:
    end = time.monotonic() + timeout_s
    while not watcher.watch.received:
        watcher.spin(SCREEN_PERIOD_S)
        if time.monotonic() > end and not watcher.watch.received:
            problems = " ".join(watcher.view().problems)
            raise CslTrackerError(f"No poses arrived within {timeout_s:g} s. {problems}")
    watcher.spin(SCREEN_PERIOD_S)
    print("\n".join(screen(watcher.view(), _columns(), color=False)))
    return 0


def _write_lines(watcher: Watcher, limit: int | None) -> int:
    written = 0
    while limit is None or written < limit:
        watcher.spin(LINE_PERIOD_S)
        print(line(watcher.view()), flush=True)
        written += 1
    return 0


def _draw(watcher: Watcher) -> int:
    began = time.monotonic()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # restore the terminal after either signal
    sys.stdout.write(_ENTER)
    try:
        while True:
            watcher.spin(SCREEN_PERIOD_S)
            _show(watcher.view())
    except KeyboardInterrupt:
        return 0  # the normal end
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, before)
        print(f"{watcher.watch.node}: {watcher.watch.received} pose arrays in {time.monotonic() - began:.1f} s")


def _show(view: View) -> None:
    """Overwrite the screen line by line, which avoids flicker."""
    rows = shutil.get_terminal_size().lines
    lines = [*screen(view, _columns(), color=True), "", "Ctrl-C ends"]
    if len(lines) > rows:
        lines = [*lines[: rows - 1], "... (a taller terminal shows more)"]
    sys.stdout.write(_HOME + f"{_ERASE_LINE}\n".join(lines) + _ERASE_LINE + _ERASE_BELOW)
    sys.stdout.flush()


def _columns() -> int:
    return shutil.get_terminal_size().columns
