"""Lets every Python of the virtual environment see the ROS 2 packages that ``make setup`` built.

A copy of this file lies in the environment's site-packages, and a ``.pth`` file calls :func:`activate` whenever that Python
starts, before the ROS wheels' own bootstrapper. So ``csl-tracker``, ``python -m csl_tracker.node.tracker_node`` and the tests
need no sourced ``setup.bash``. It uses nothing but the standard library and is quick, since it runs at each start.
"""

from __future__ import annotations

import glob
import os
import sys

PACKAGES = ("csl_tracker", "csl_tracker_msgs")
SWITCH_OFF = "CSL_TRACKER_NO_OVERLAY"
"""Set this to anything to start a Python without the overlay, for instance to build another workspace."""

_GUARD = "_CSL_TRACKER_OVERLAY_PID"
_OWNER = "_CSL_TRACKER_OVERLAY"
_WHEELS_GUARD = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"


def wheels_library_paths(prefix: str, site_packages: str) -> list[str]:
    """Folders of shared libraries that the ROS wheels brought, none in a sourced ROS 2."""
    bundled = sorted(glob.glob(os.path.join(site_packages, "ros_*.libs")))
    return [os.path.join(prefix, "lib"), *bundled] if bundled else []


def has_package(prefix: str, package: str) -> bool:
    """Whether an ament prefix holds the package."""
    return os.path.exists(os.path.join(prefix, "share", "ament_index", "resource_index", "packages", package))


def merged(first: list[str], value: str | None, foreign: list[str]) -> str:
    """A path variable with ``first`` in front; what it holds already keeps its place, what lies under ``foreign`` goes."""
    present = [part for part in (value or "").split(os.pathsep) if part]
    kept = [part for part in present if not any(part == root or part.startswith(root + os.sep) for root in foreign)]
    return os.pathsep.join([*(part for part in first if part not in kept), *kept])


def overlay_environment(
    overlay: str, environ: dict[str, str], prefix: str, site_packages: str, python: str
) -> tuple[dict[str, str], list[str]]:
    """What has to be set, given the environment as it is.

    Args:
        overlay: The ``install`` folder of colcon.
        environ: The present environment.
        prefix: ``sys.prefix`` of the virtual environment.
        site_packages: Its site-packages.
        python: Name of its library folder, such as ``python3.11``.

    Returns:
        The variables to set, only those that change, and the folders to append to ``sys.path``. A workspace that the user
        has sourced wins: then nothing of this overlay is added. What another environment's hook had set is taken out, since
        children inherit it.
    """
    owner = os.pathsep.join((overlay, prefix))
    inherited = environ.get(_OWNER, "")
    foreign = inherited.split(os.pathsep) if inherited and inherited != owner else []
    ament = merged([], environ.get("AMENT_PREFIX_PATH"), foreign)
    mine = [os.path.join(overlay, name) for name in PACKAGES]
    sourced = any(has_package(part, "csl_tracker_msgs") for part in ament.split(os.pathsep) if part and part not in mine)
    prefixes = [] if sourced else [p for p in mine if os.path.isdir(p)]
    libraries = wheels_library_paths(prefix, site_packages)
    wanted = {
        "AMENT_PREFIX_PATH": merged(prefixes + ([prefix] if libraries else []), ament, []),
        "LD_LIBRARY_PATH": merged(
            [os.path.join(p, "lib") for p in prefixes] + libraries, environ.get("LD_LIBRARY_PATH"), foreign
        ),
        _OWNER: owner,
    }
    layouts = (("lib", python, "site-packages"), ("lib", "python3", "dist-packages"), ("local", "lib", python, "dist-packages"))
    modules = [
        folder
        for p in prefixes
        if p.endswith("csl_tracker_msgs")  # the package csl_tracker itself is installed as editable
        for layout in layouts
        if os.path.isdir(folder := os.path.join(p, *layout))
    ]
    return {name: value for name, value in wanted.items() if value != environ.get(name, "")}, modules


def activate(overlay: str) -> None:
    """Set the variables, and start Python once more where the library path had to change.

    The dynamic linker reads ``LD_LIBRARY_PATH`` at the start of a process only. The guard holds the process's own number,
    which the restart keeps, so that it can neither loop nor be inherited by a child.
    """
    if os.environ.get(SWITCH_OFF):
        return
    site_packages = os.path.dirname(os.path.abspath(__file__))
    python = os.path.basename(os.path.dirname(site_packages))
    changes, modules = overlay_environment(overlay, dict(os.environ), sys.prefix, site_packages, python)
    os.environ.update(changes)
    sys.path.extend(folder for folder in modules if folder not in sys.path)
    if "LD_LIBRARY_PATH" not in changes or os.environ.get(_GUARD) == str(os.getpid()) or not sys.executable:
        return
    os.environ[_GUARD] = str(os.getpid())
    os.environ[_WHEELS_GUARD] = "1"  # it would only restart a second time, with the folders in no fixed order
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ)
