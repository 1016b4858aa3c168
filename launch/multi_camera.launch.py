"""Several cameras with one tracker each: ``ros2 launch csl_tracker multi_camera.launch.py cameras:=left,right``.

Each camera has a namespace: the tracker of ``left`` is ``/left/tracker_node`` and uses ``/left/image_raw``. All other arguments
are those of tracker.launch.py and apply to every tracker. Settings of a single camera belong in params_file, under the full
name of its tracker.
"""

from __future__ import annotations

import re
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource, get_launch_description_from_python_launch_file
from launch.substitutions import LaunchConfiguration

from csl_tracker.node.launching import hints_for, warn_of_unknown

TRACKER = str(Path(__file__).with_name("tracker.launch.py"))
OWN = ("image", "camera_info", "namespace")
"""Arguments of tracker.launch.py that have another meaning here."""


def split_cameras(text: str) -> list[str]:
    """The cameras' names, checked to be valid namespaces."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*", name):
            raise RuntimeError(
                f"cameras is {text!r}, and {name!r} is not a valid camera name; write for example cameras:=left,right."
            )
    if len(set(names)) != len(names):
        raise RuntimeError(f"cameras is {text!r} and names a camera twice; name each one once.")
    return names


def start_trackers(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    rig = value("namespace").strip("/")
    trackers: list[LaunchDescriptionEntity] = []
    for camera in split_cameras(value("cameras")):
        given = {
            "namespace": f"{rig}/{camera}" if rig else camera,
            "image": value("image").replace("{camera}", camera),
            "camera_info": value("camera_info").replace("{camera}", camera),
            **hints_for(__file__, "image", camera),
        }
        source = PythonLaunchDescriptionSource(TRACKER)
        trackers.append(GroupAction([IncludeLaunchDescription(source, launch_arguments=list(given.items()))]))
    return trackers


def generate_launch_description() -> LaunchDescription:
    tracker = get_launch_description_from_python_launch_file(TRACKER)
    arguments = [
        DeclareLaunchArgument("cameras", default_value="left,right", description="names of the cameras, each a namespace"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace around all cameras, such as the rig's"),
        DeclareLaunchArgument(
            "image",
            default_value="image_raw",
            description="image topic: relative to the camera's namespace, or with {camera} in place of its name",
        ),
        DeclareLaunchArgument(
            "camera_info", default_value="", description="calibration topic, likewise (default: next to the image topic)"
        ),
        *(argument for argument in tracker.get_launch_arguments() if argument.name not in OWN),
    ]
    unknown = warn_of_unknown(__file__, [argument.name for argument in arguments])
    return LaunchDescription([*arguments, unknown, OpaqueFunction(function=start_trackers)])
