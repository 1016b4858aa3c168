"""What the launch files share: arguments with types, files that have to be there, and what follows when a node ends.

``launch`` is imported only where it is needed, since no wheel brings it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from csl_tracker.node.fastdds import large_image_environment
from csl_tracker.node.hints import CAMERA, IMAGE_ARGUMENT, LAUNCHED, unknown

AS_PARAMS_FILE = " (default: as params_file says)"

USE_SIM_TIME = "true takes the time of /clock, as of a bag or a simulation"

_TRUE = ("true", "1", "yes", "on", "y")
_FALSE = ("false", "0", "no", "off", "n")

_OWN = "csl_tracker_"
_OUTER = f"{_OWN}arguments"
"""Launch configuration: names of the arguments of the launch file of ours that includes another one."""

_HINTS = {LAUNCHED: f"{_OWN}file", IMAGE_ARGUMENT: f"{_OWN}image_argument", CAMERA: f"{_OWN}camera"}
"""Launch configurations by which a launch file of ours tells one that it includes how the user named things."""

_OF_ROS = ("ros_namespace", "global_params", "ros_remaps", "ros_params", "use_sim_time", "log_level")
"""Launch configurations that ROS's own actions and launch files set."""


def boolean(name: str, text: str) -> bool:
    """A launch argument that is true or false, in any of ROS's spellings.

    Raises:
        RuntimeError: It is neither.
    """
    if text.strip().lower() in _TRUE:
        return True
    if text.strip().lower() in _FALSE:
        return False
    raise RuntimeError(f"{name}:={text} is neither true nor false; give {name}:=true or {name}:=false.")


def typed(name: str, text: str, default: Any) -> Any:
    """A launch argument, which is text, as the type of its parameter's default.

    Raises:
        RuntimeError: It is not of that type.
    """
    kind = type(default)
    if kind is bool:
        return boolean(name, text)
    try:
        return kind(text)
    except ValueError:
        what = {int: "integer", float: "number"}.get(kind, kind.__name__)
        raise RuntimeError(f"{name}:={text} is no {what}; give one, such as {name}:={default}.") from None


def existing_file(name: str, text: str) -> str:
    """A file that a launch argument names; ``~`` is the home folder.

    Raises:
        RuntimeError: There is no such file.
    """
    path = Path(text).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise RuntimeError(f"{name}:={text} {what}: no node is started without it; give a file that exists.")
    return str(path)


def parameters_of(values: Mapping[str, str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Launch arguments as parameters of a node; one that was left empty leaves its parameter to the file of parameters.

    Args:
        values: Launch arguments.
        defaults: Parameters and their defaults, whose types they have.

    Returns:
        What to give to ``launch_ros.actions.Node``.

    Raises:
        RuntimeError: A value is not of its parameter's type.
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
    """Arguments for an included file of ours, so that its node's advice is in the words of the file that the user started.

    Args:
        file: Path of the launch file that includes it.
        image_argument: Its argument that names the node's images; empty where none does.
        camera: Name that ``{camera}`` stands for in that argument; empty without.
    """
    return dict(zip(_HINTS.values(), (Path(file).name, image_argument, camera), strict=True))


def environment_of(file: str, given: Mapping[str, Any]) -> dict[str, str]:
    """Variables for a node that a launch file starts: room for large images, and how the user can set something.

    Args:
        file: Path of the launch file.
        given: The launch configurations of the context.
    """
    own = {LAUNCHED: Path(file).name, IMAGE_ARGUMENT: "image", CAMERA: ""}
    return {**large_image_environment(), **{key: str(given.get(name, own[key])) for key, name in _HINTS.items()}}


def unknown_arguments(given: Mapping[str, Any], declared: Iterable[str]) -> list[str]:
    """A sentence for the arguments that a launch file does not know and would ignore in silence.

    Args:
        given: The launch configurations of the context.
        declared: Names that the launch file declares.
    """
    names = list(declared)
    around = str(given.get(_OUTER, "")).split(",")
    skipped = {*names, *around, *_OF_ROS}
    strange = sorted(name for name in given if name not in skipped and "-" not in name and not name.startswith(_OWN))
    if not strange:
        return []
    return [
        f"Launch arguments that are not known here are ignored: {unknown(strange, names)}; 'ros2 launch ... --show-args' lists"
        " what is."
    ]


def warn_of_unknown(file: str, declared: Iterable[str]) -> Any:
    """An action that names unknown arguments in a warning, and lets included files of ours know those of this one.

    Args:
        file: Path of the launch file.
        declared: Names that it declares.
    """
    from launch.actions import OpaqueFunction
    from launch.logging import get_logger

    names = list(declared)

    def look(context: Any) -> None:
        for sentence in unknown_arguments(context.launch_configurations, names):
            get_logger(Path(file).name).warning(sentence)
        around = str(context.launch_configurations.get(_OUTER, ""))
        known = {*around.split(","), *names, *context.launch_configurations} - {"", _OUTER}
        context.launch_configurations[_OUTER] = ",".join(sorted(known))

    return OpaqueFunction(function=look)


def started_alone(file: str, arguments: Iterable[str] | None = None) -> bool:
    """Whether this very launch file was asked for, and no other that includes it.

    Args:
        file: Path of the launch file.
        arguments: Command line of ``ros2 launch``; the process's own when None.
    """
    words = sys.argv if arguments is None else arguments
    return any(Path(word).name == Path(file).name for word in words if ":=" not in word)


def when_it_ends(node: Any, alone: bool) -> Any:
    """An action that makes the launch end with its only node, or a rig go on without one of its nodes.

    Args:
        node: The action that starts the node.
        alone: Whether it is the only one that matters: then the launch ends with it, with status 1 where it failed.
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
            get_logger("csl_tracker").error(f"{name} is gone (exit status {status}); the other nodes go on without it.")
            return None
        if status != 0:
            raise RuntimeError(f"{name} has failed with exit status {status}; what it said last tells why.")
        return [Shutdown(reason=f"{name} has ended")]

    return after
