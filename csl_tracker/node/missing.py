"""Explain packages that a node cannot import. This module imports ROS only on request."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from csl_tracker.errors import ConfigError
from csl_tracker.installing import install_command

MESSAGES = "csl_tracker_msgs"

BUILD_BOTH = f"colcon build --base-paths src src/csl_tracker/{MESSAGES}"
"""Builds the package and its messages in a workspace; colcon does not search for packages inside a package."""

_ROS_PACKAGES = ("rclpy", "rosidl_generator_py", "rpyutils", "ament_index_python")
_ROS_SUFFIXES = ("_msgs", "_srvs", "_interfaces")


class MissingPackageError(ConfigError):
    """A package that a node needs cannot be imported."""


def import_node(name: str) -> ModuleType:
    """Import a node's module.

    Args:
        name: Name of a module in ``csl_tracker.node``.

    Raises:
        MissingPackageError: ROS 2, the messages, or another package cannot be imported.
    """
    demand_ros()
    try:
        return importlib.import_module(f"csl_tracker.node.{name}")
    except ImportError as error:
        raise MissingPackageError(explain(error)) from error


def demand_ros() -> None:
    """Import ROS 2 and this package's messages.

    Raises:
        MissingPackageError: Missing, or built for another Python version.
    """
    try:
        importlib.import_module("rclpy")
        importlib.import_module(f"{MESSAGES}.msg")
        type_support = importlib.import_module("rosidl_generator_py")
    except ImportError as error:
        raise MissingPackageError(explain(error)) from error
    try:
        type_support.import_type_support(MESSAGES)
    except Exception as error:  # the class is private to rosidl
        raise MissingPackageError(
            f"The messages {MESSAGES} cannot be loaded by Python {sys.version_info.major}.{sys.version_info.minor}"
            f" ({_first_line(error)}): build them with the Python that runs the node, as in 'python -m {BUILD_BOTH}'."
        ) from error


def explain(error: ImportError) -> str:
    """A sentence with the missing package and how to install it."""
    package = (error.name or "").partition(".")[0]
    if package == MESSAGES:
        return (
            f"The messages of this package, {MESSAGES}, cannot be imported ({_first_line(error)}): run '{BUILD_BOTH}' in your"
            " workspace and 'source install/setup.bash', or use 'make setup'."
        )
    if package in _ROS_PACKAGES or package.endswith(_ROS_SUFFIXES):
        return (
            f"ROS 2's package {package} cannot be imported ({_first_line(error)}): source the setup.bash of a ROS 2 that was"
            f" built for Python {sys.version_info.major}.{sys.version_info.minor}, or use 'make setup'."
        )
    if not package:
        return f"A Python package that the node needs cannot be imported ({_first_line(error)}); install it."
    return (
        f"The Python package {package} cannot be imported ({_first_line(error)}): install it with '{install_command(package)}'."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
