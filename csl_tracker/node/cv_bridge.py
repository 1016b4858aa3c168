"""Find ROS 2's ``cv_bridge`` if it is installed and works."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from csl_tracker.import_path import python_command, safe_environment

logger = logging.getLogger(__name__)

# Runs in a separate process: a cv_bridge built against another NumPy can crash the interpreter.
_PROBE = """
import importlib.util, sys
if importlib.util.find_spec("cv_bridge").origin != sys.argv[1]:
    sys.exit("another cv_bridge precedes it on the path")
import cv_bridge
from sensor_msgs.msg import Image
message = Image(height=1, width=2, encoding="bgr8", step=6, data=bytes([1, 2, 3, 4, 5, 6]))
rgb = cv_bridge.CvBridge().imgmsg_to_cv2(message, desired_encoding="rgb8")
if rgb.tolist() != [[[3, 2, 1], [6, 5, 4]]]:
    sys.exit("it converts bgr8 wrongly")
"""


def _locate_cv_bridge() -> str:
    """File of the importable ``cv_bridge`` if it belongs to ROS 2, otherwise empty. Does not import it.

    The ament index registers only ROS 2 packages, which excludes ROS 1's (Debian's python3-cv-bridge) and others of that name.
    """
    try:
        spec = importlib.util.find_spec("cv_bridge")
    except (ImportError, ValueError):
        return ""
    if spec is None or spec.origin is None:
        return ""
    marker = "share/ament_index/resource_index/packages/cv_bridge"
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if os.path.isabs(prefix)]
    file = Path(spec.origin).resolve()
    ours = any((prefix / marker).exists() and file.is_relative_to(prefix.resolve()) for prefix in prefixes)
    return spec.origin if ours else ""


@lru_cache(maxsize=1)
def find_cv_bridge(timeout_s: float = 20.0) -> Any | None:
    """Find a working ROS 2 ``cv_bridge``; tested once, in a separate process.

    Args:
        timeout_s: Time limit of the test, s.

    Returns:
        A ``CvBridge``, or None.
    """
    origin = _locate_cv_bridge()
    if not origin:
        logger.info("cv_bridge is not used: it is not a package of the ROS 2 in AMENT_PREFIX_PATH.")
        return None
    try:
        probe = subprocess.run(
            python_command("-c", _PROBE, origin),
            env={**os.environ, **safe_environment()},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        logger.info("cv_bridge is not used: it did not answer within %.0f s.", timeout_s)
        return None
    if probe.returncode != 0:
        reason = (probe.stderr.strip().splitlines() or [f"the test exited with status {probe.returncode}"])[-1]
        logger.info("cv_bridge is not used: %s.", reason)
        return None
    from cv_bridge import CvBridge  # type: ignore[import-not-found]

    return CvBridge()
