"""Entry point of ``csl-tracker``.

Every sub-command is a module of this package with ``add_arguments(parser)`` and ``run(args) -> int``. Modules are imported on
demand, so that ``csl-tracker track`` does not need the training's packages.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from csl_tracker import __version__
from csl_tracker.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, CslTrackerError
from csl_tracker.installing import install_command
from csl_tracker.text import PrintableStream, printable

COMMANDS = {
    "track": "track instruments in a video, a folder of frames or a dataset sequence",
    "info": "describe a weights file",
    "export": "write a network for OpenVINO or ONNX Runtime, and check it against torch",
    "train": "train a network from a YAML configuration",
    "adapt": "adapt weights to unlabelled video, and refuse what would do harm",
    "experiment": "train and compare models by a protocol, with tables and figures",
    "evaluate": "evaluate weights on the labelled sequences of a dataset",
    "robustness": "measure weights on corrupted frames of a labelled sequence: blood, smoke, blur, grey, zoom and more",
    "evaluate-bag": "evaluate the poses of a recorded bag against its ground truth, with a report",
    "compare": "compare the results of evaluations",
    "dataset": "inspect a labelled dataset of any layout, or convert it to COCO keypoints",
    "label-suggest": "choose the frames of a video that are most worth labelling, with predicted labels",
    "synthesize": "write synthetic endoscopic sequences in the EndoVis 2015 layout",
    "render": "path-trace instruments, tissue and scenes into a bank of pictures for training",
    "demo": "run bag, node and evaluation on an embedded synthetic sequence or on your own input",
    "bag": "write a dataset or video to a bag, or describe a bag",
    "replay": "track the images of a bag, without ROS, into a bag of poses",
    "watch": "show rates, latency and poses of a running tracker node",
}
"""Sub-commands and their help; each is a module ``csl_tracker.cli.NAME`` with underscores for hyphens."""

_DRAWING = ("watch", "train", "adapt", "experiment")
"""Commands that move the cursor on stdout; they make names from files printable themselves."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser, with the arguments of ``command`` only, since they require importing its module."""
    parser = argparse.ArgumentParser(prog="csl-tracker", description="Tracking of surgical instruments with CSL networks.")
    parser.add_argument("--version", action="version", version=f"csl-tracker {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        sub = subparsers.add_parser(name, help=text, description=text)
        if name == command:
            module = importlib.import_module(f"csl_tracker.cli.{name.replace('-', '_')}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None, begin: Callable[[], None] = lambda: None) -> int:
    """Run one sub-command.

    Args:
        argv: Command line; None for this process's own.
        begin: Called after the imports, before the command starts.

    Returns:
        0 on success, 2 after a user error (with one sentence on stderr), 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    command = next((word for word in arguments if word in COMMANDS), None)
    debug = "--debug" in arguments
    stdout: Any = sys.stdout if command in _DRAWING else PrintableStream(sys.stdout)
    try:
        args = build_parser(command).parse_args(arguments)
        begin()
        with contextlib.redirect_stdout(stdout):
            return int(args.run(args))
    except CslTrackerError as error:
        if debug:
            raise
        print(f"csl-tracker: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        if debug or (error.name or "").startswith("csl_tracker"):
            raise
        print(
            f"csl-tracker: '{command}' needs the Python package {error.name!r}, which is not installed here; run"
            f" '{install_command(error.name or '')}'.",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("\ncsl-tracker: stopped.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            raise
        print(f"csl-tracker: {printable(_system_sentence(error))}", file=sys.stderr)
        return EXIT_USER_ERROR


class _PrintableFormatter(logging.Formatter):
    """Makes log messages printable, which contain names from files; keeps the lines of tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _system_sentence(error: OSError) -> str:
    """A message for an OSError: reason, files and remedy."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = "make room on the disk, or choose another place"
    elif error.errno in (errno.EEXIST, errno.ENOTDIR):
        remedy = "a file has the place of a folder, so choose another place"
    else:
        remedy = "check the path and its permissions"
    files = " and ".join(
        repr(os.fspath(name)) for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike)
    )
    if files:
        return f"The system refused {files} ({reason}); {remedy}."
    return f"The system refused a file or device ({reason}); 'csl-tracker --debug COMMAND ...' shows which."


if __name__ == "__main__":
    sys.exit(main())
