"""Removes the working directory from ``sys.path``: a file placed there could otherwise run code in this program.

Python adds it for ``python -m`` and ``python -c``, and for an empty entry of ``PYTHONPATH``, as left by
``export PYTHONPATH=$PYTHONPATH:/more``. From Python 3.11 on, ``-P`` prevents the first case; this module also covers Python
3.10 and the second case.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The folder that holds this package."""

_PROGRAMS = ("csl-tracker", "tracker_node", "replay_node", "stereo_node")
"""Installed entry points; each is a short script that imports this package first."""

_RUN_CODE = "import sys; del sys.path[0]; exec(sys.argv.pop(1))"
_RUN_MODULE = (
    "import sys; del sys.path[0]; import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
"""For Python 3.10; ``sys`` is built into the interpreter."""


def runs_a_program() -> bool:
    """Whether this process runs an entry point of this package; as a library it must not change ``sys.path``."""
    first = next(iter(getattr(sys, "argv", ())), "")
    # argv[0] is "-m" only while "python -m csl_tracker.MODULE" locates its module.
    return first == "-m" or os.path.basename(first) in _PROGRAMS


def leave_out_working_directory() -> None:
    """Remove the working directory from ``sys.path`` unless it contains this package or ``PYTHONPATH`` names it.

    Call it once in a program, before other imports. Child processes, such as those of ``multiprocessing``, inherit it.
    """
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:  # deleted
        return
    if os.path.realpath(_ROOT) == here:  # a checkout of this package
        return
    named = {os.path.realpath(entry) for entry in _named_entries(os.environ)}
    sys.path[:] = [entry for entry in sys.path if entry and (os.path.realpath(entry) != here or here in named)]
    os.environ.update(safe_environment())


def safe_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables with which a child Python omits the working directory and finds this package.

    Args:
        environ: Base environment; None for that of this process.

    Returns:
        ``PYTHONSAFEPATH`` (Python 3.11 and later), and ``PYTHONPATH`` without empty entries if that changes it.
    """
    base = os.environ if environ is None else environ
    entries = _named_entries(base)
    if _ROOT not in {os.path.abspath(entry) for entry in (*entries, *_site_folders())}:
        entries.append(_ROOT)
    changed = os.pathsep.join(entries)
    return {"PYTHONSAFEPATH": "1", **({"PYTHONPATH": changed} if changed != base.get("PYTHONPATH", "") else {})}


def python_command(kind: str, what: str, *arguments: str) -> list[str]:
    """Command line of a Python process that does not import from the working directory.

    Args:
        kind: ``-m`` for a module, ``-c`` for code.
        what: The module or the code.
        arguments: ``sys.argv[1:]`` of the process.
    """
    if sys.version_info >= (3, 11):
        return [sys.executable, "-P", kind, what, *arguments]
    return [sys.executable, "-c", _RUN_MODULE if kind == "-m" else _RUN_CODE, what, *arguments]


def _named_entries(environ: Mapping[str, str]) -> list[str]:
    return [entry for entry in environ.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _site_folders() -> list[str]:
    """Folders of installed packages on ``sys.path``."""
    return [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
