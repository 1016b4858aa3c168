"""Nothing is imported from the working directory: whoever can put a file there would run code as this program.

Python itself puts that directory first on its path for ``python -m`` and ``python -c``, and takes an empty entry of
``PYTHONPATH`` for it, which a shell leaves behind after ``export PYTHONPATH=$PYTHONPATH:/more``. From Python 3.11 on ``-P``
keeps the first from happening; what is here does it for 3.10 and for the second, too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder that holds this package."""

_PROGRAMS = ("csl-tracker", "tracker_node", "replay_node", "stereo_node")
"""What is installed to be run, each a few lines that import this package first."""

_RUN_CODE = "import sys; del sys.path[0]; exec(sys.argv.pop(1))"
_RUN_MODULE = (
    "import sys; del sys.path[0]; import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""For Python 3.10; ``sys`` is built into the interpreter."""


def runs_a_program() -> bool:
    """Whether this process runs a program of this package, by what Python itself notes: a library leaves the path as it is."""
    first = next(iter(getattr(sys, "argv", ())), "")
    # "-m" stands there only while "python -m csl_tracker.MODULE" looks for its module.
    return first == "-m" or os.path.basename(first) in _PROGRAMS


def leave_out_working_directory() -> None:
    """Take the working directory off the path of imports, unless it is where this package lies or stands there by its name.

    For programs, once, before they import anything. Processes that Python starts by itself, such as those of
    ``multiprocessing``, follow.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:  # it was deleted, and holds nothing
        return
    if os.path.realpath(_ROOT) == here:  # a checkout of this package, whose files are the program
        return
    named = {os.path.realpath(entry) for entry in _named_entries(os.environ)}
    sys.path[:] = [entry for entry in sys.path if entry and (os.path.realpath(entry) != here or here in named)]
    os.environ.update(safe_environment())


def safe_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables by which a Python that is started next leaves the working directory out, and finds this package.

    Args:
        environ: The environment as it is; None takes this process's.

    Returns:
        ``PYTHONSAFEPATH`` (Python 3.11 and later), and ``PYTHONPATH`` without empty entries where that changes it.
    """
    base = os.environ if environ is None else environ
    entries = _named_entries(base)
    if _ROOT not in {os.path.abspath(entry) for entry in (*entries, *_site_folders())}:
        entries.append(_ROOT)
    changed = os.pathsep.join(entries)
    return {"PYTHONSAFEPATH": "1", **({"PYTHONPATH": changed} if changed != base.get("PYTHONPATH", "") else {})}


def python_command(kind: str, what: str, *arguments: str) -> list[str]:
    """The command line of a new Python that does not look into the working directory.

    Args:
        kind: ``-m`` for a module, ``-c`` for code.
        what: The module or the code.
        arguments: What it finds in ``sys.argv``, from 1 on.
    """
    if sys.version_info >= (3, 11):
        return [sys.executable, "-P", kind, what, *arguments]
    return [sys.executable, "-c", _RUN_MODULE if kind == "-m" else _RUN_CODE, what, *arguments]


def _named_entries(environ: Mapping[str, str]) -> list[str]:
    return [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _site_folders() -> list[str]:
    """Where installed packages lie, by the names that Python gives these folders."""
    return [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
