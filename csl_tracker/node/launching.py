"""Helpers of the launch files: typed arguments, required files, and the reaction to a node's exit.

``launch`` is imported inside functions because it is not on PyPI.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from csl_tracker.node.fastdds import large_image_environment
from csl_tracker.node.hints import CAMERA, IMAGE_ARGUMENT, LAUNCHED, unknown

AS_PARAMS_FILE = " (default: as params_file says)"

USE_SIM_TIME = "true uses the time of /clock, from a bag or a simulation"

_TRUE = ("true", "1", "yes", "on", "y")
_FALSE = ("false", "0", "no", "off", "n")

_OWN = "csl_tracker_"
_OUTER = f"{_OWN}arguments"
"""Launch configuration: argument names of the including launch file of this package."""

_HINTS = {LAUNCHED: f"{_OWN}file", IMAGE_ARGUMENT: f"{_OWN}image_argument", CAMERA: f"{_OWN}camera"}
"""Launch configurations that tell an included launch file how the user named things."""

_OF_ROS = ("ros_namespace", "global_params", "ros_remaps", "ros_params", "use_sim_time", "log_level")
"""Launch configurations that ROS's own actions and launch files set."""


def boolean(name: str, text: str) -> bool:
    """Parse a boolean launch argument in any of ROS's spellings.

    Raises:
        RuntimeError: Not a boolean.
    """
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise RuntimeError(f"{name}:={text} is neither true nor false; give {name}:=true or {name}:=false.")


def typed(name: str, text: str, default: Any) -> Any:
    """Parse a launch argument as the type of its parameter's default.

    Raises:
        RuntimeError: Not of that type.
    """
    kind = type(default)
    if kind is bool:
        return boolean(name, text)
    try:
        return kind(text)
    except ValueError:
        expected = {int: "an integer", float: "a number"}.get(kind, kind.__name__)
        raise RuntimeError(f"{name}:={text} is not {expected}; give one, such as {name}:={default}.") from None


def existing_file(name: str, text: str) -> str:
    """Path of a file that a launch argument names; ``~`` is the home folder.

    Raises:
        RuntimeError: There is no such file.
    """
    path = Path(text).expanduser()
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise RuntimeError(f"{name}:={text} {problem}; name an existing file. No node was started.")
    return str(path)


def parameters_of(values: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Convert launch arguments to node parameters; empty ones are omitted, so that the parameter file decides.

    Args:
        values: Launch arguments.
        defaults: Default of each parameter, which defines its type.

    Returns:
        Parameters for ``launch_ros.actions.Node``.

    Raises:
        RuntimeError: A value does not have its parameter's type.
    """
    from launch_ros.parameter_descriptions import ParameterValue

    found: dict[str, Any] = {}
    for name, text in values.items():
        if not text:
            continue
        value = typed(name, text, defaults[name])
        found[name] = ParameterValue(value, value_type=str) if isinstance(value, str) else value  # '0012' stays text
    return found


def hints_for(file: str, image_argument: str, camera: str = "") -> dict[str, str]:
    """Arguments that make an included launch file give advice in terms of the including file.

    Args:
        file: Path of the including launch file.
        image_argument: Its argument that names the node's images; empty if there is none.
        camera: Value of ``{camera}`` in that argument; empty if unused.
    """
    return dict(zip(_HINTS.values(), (Path(file).name, image_argument, camera), strict=True))


def environment_of(file: str, given: Mapping[str, Any]) -> dict[str, str]:
    """Environment of a launched node: the Fast DDS profile and the launch file's names for :mod:`csl_tracker.node.hints`.

    Args:
        file: Path of the launch file.
        given: The launch configurations of the context.
    """
    own = {LAUNCHED: Path(file).name, IMAGE_ARGUMENT: "image", CAMERA: ""}
    return {**large_image_environment(), **{key: str(given.get(name, own[key])) for key, name in _HINTS.items()}}


def unknown_arguments(given: Mapping[str, Any], declared: Iterable[str]) -> list[str]:
    """A warning about launch arguments that no file declares, which ROS would silently ignore.

    Args:
        given: The launch configurations of the context.
        declared: Names that the launch file declares.
    """
    names = list(declared)
    outer = str(given.get(_OUTER, "")).split(",")
    known = {*names, *outer, *_OF_ROS}
    strangers = sorted(name for name in given if name not in known and "-" not in name and not name.startswith(_OWN))
    if not strangers:
        return []
    return [
        f"Unknown launch arguments are ignored: {unknown(strangers, names)}; list the valid ones with"
        " 'ros2 launch ... --show-args'."
    ]


def warn_of_unknown(file: str, declared: Iterable[str]) -> Any:
    """An action that warns of unknown arguments, and passes the known names to included launch files.

    Args:
        file: Path of the launch file.
        declared: Names that it declares.
    """
    from launch.actions import OpaqueFunction
    from launch.logging import get_logger

    names = list(declared)

    def warn(context: Any) -> None:
        for sentence in unknown_arguments(context.launch_configurations, names):
            get_logger(Path(file).name).warning(sentence)
        outer = str(context.launch_configurations.get(_OUTER, ""))
        known = {*outer.split(","), *names, *context.launch_configurations} - {"", _OUTER}
        context.launch_configurations[_OUTER] = ",".join(sorted(known))

    return OpaqueFunction(function=warn)


def started_alone(file: str, arguments: Iterable[str] | None = None) -> bool:
    """Whether the user started this launch file itself, rather than one that includes it.

    Args:
        file: Path of the launch file.
        arguments: Command line of ``ros2 launch``; None for this process's own.
    """
    words = sys.argv if arguments is None else arguments
    return any(Path(word).name == Path(file).name for word in words if ":=" not in word)


def when_it_ends(node: Any, alone: bool) -> Any:
    """An action for a node's exit: end the launch, or log an error and keep the other nodes running.

    Args:
        node: The action that starts the node.
        alone: Whether it is the only essential node; the launch then ends with it, with status 1 on failure.
    """
    from launch.actions import RegisterEventHandler
    from launch.event_handlers import OnProcessExit

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=_after(node, alone)))


def _after(node: Any, alone: bool) -> Callable[[Any, Any], list[Any] | None]:
    def after(event: Any, context: Any) -> list[Any] | None:
        from launch.actions import Shutdown
        from launch.logging import get_logger

        if context.is_shutdown:
            return None
        name, status = node.node_name, event.returncode
        if not alone:
            get_logger("csl_tracker").error(f"{name} has exited (status {status}); the other nodes keep running.")
            return None
        if status != 0:
            raise RuntimeError(f"{name} failed with exit status {status}; its last log message gives the reason.")
        return [Shutdown(reason=f"{name} has ended")]

    return after
