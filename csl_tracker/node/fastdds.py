"""A Fast DDS profile with room for camera images. This module imports no ROS."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

PROFILE_NAME = "fastdds_large_shm.xml"
SEGMENT_BYTES = 32 * 1024 * 1024
"""Size of the profile's shared-memory segment; Fast DDS's own default is 0.5 MB, less than one frame."""

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Jazzy's library (2.14) reads the first, newer ones the second."""

_LOCAL_PROFILES = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")


def find_profile(environ: Mapping[str, str] | None = None) -> Path | None:
    """The profile that comes with the package, in the source tree or in an installed workspace; None when it is in neither."""
    source = Path(__file__).resolve().parents[2] / "config" / PROFILE_NAME
    prefixes = (os.environ if environ is None else environ).get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    installed = [Path(prefix) / "share" / "csl_tracker" / "config" / PROFILE_NAME for prefix in prefixes if prefix]
    return next((path for path in (source, *installed) if path.is_file()), None)


def large_image_environment(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> dict[str, str]:
    """Variables that make Fast DDS use the profile, to be added to the environment of a node's process.

    Args:
        environ: The environment as it is; None takes this process's.
        directory: Working directory of the node; None takes this process's.

    Returns:
        Both variables; nothing where the user has a profile of their own (named by either variable, or a default profile in
        the working directory) or has chosen another RMW.
    """
    environ = os.environ if environ is None else environ
    rmw = environ.get("RMW_IMPLEMENTATION", "")
    if rmw and not rmw.startswith("rmw_fastrtps"):
        return {}
    folder = Path.cwd() if directory is None else directory
    if any(environ.get(name) for name in PROFILE_VARIABLES) or any((folder / name).exists() for name in _LOCAL_PROFILES):
        return {}
    profile = find_profile(environ)
    if profile is None:
        logger.warning("The Fast DDS profile %s is not installed; large images may arrive late.", PROFILE_NAME)
        return {}
    return dict.fromkeys(PROFILE_VARIABLES, str(profile))
