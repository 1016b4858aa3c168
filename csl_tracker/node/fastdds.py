"""A Fast DDS profile with enough shared memory for camera images. This module imports no ROS."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

PROFILE_NAME = "fastdds_large_shm.xml"
SEGMENT_BYTES = 32 * 1024 * 1024
"""Size of the profile's shared-memory segment. Fast DDS's default of 0.5 MB is less than one frame."""

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Jazzy's library (2.14) reads the first variable, newer versions the second."""

_LOCAL_PROFILES = ("DEFAULT_FASTRTPS_PROFILES.xml", "DEFAULT_FASTDDS_PROFILES.xml")


def find_profile(environ: Mapping[str, str] | None = None) -> Path | None:
    """The package's profile in the source tree or an installed workspace; None if missing."""
    source = Path(__file__).resolve().parents[2] / "config" / PROFILE_NAME
    prefixes = (os.environ if environ is None else environ).get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    installed = [Path(prefix) / "share" / "csl_tracker" / "config" / PROFILE_NAME for prefix in prefixes if prefix]
    return next((path for path in (source, *installed) if path.is_file()), None)


def large_image_environment(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> dict[str, str]:
    """Environment variables that make Fast DDS use the profile.

    Args:
        environ: Present environment; None for this process's own.
        directory: Working directory of the node; None for this process's own.

    Returns:
        Both variables; empty if another RMW is selected or if the user has a profile (in either variable or in the working
        directory).
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
