"""Rectify a camera's images with image_proc and track in them: ``ros2 launch csl_tracker rectified.launch.py``.

image_proc's RectifyNode is a component. It runs in its own container or, with ``container:=NAME``, in the camera driver's,
where no images are copied. The tracker's poses and pictures are in pixels of the rectified image, whose camera matrix is the
left part of P in camera_info. All other arguments are those of tracker.launch.py.
"""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource, get_launch_description_from_python_launch_file
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import ComposableNodeContainer, LoadComposableNodes
from launch_ros.descriptions import ComposableNode

from csl_tracker.node.launching import hints_for, warn_of_unknown

TRACKER = str(Path(__file__).with_name("tracker.launch.py"))
OWN = ("image", "camera_info")
"""Arguments of tracker.launch.py for the rectified images; here they name the raw ones."""


def start_rectifier(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    try:
        get_package_prefix("image_proc")
    except PackageNotFoundError:
        raise RuntimeError(
            "rectified.launch.py needs image_proc, which is not installed: 'sudo apt install ros-$ROS_DISTRO-image-proc';"
            " or set the tracker's parameter pose_frame to get poses in rectified pixels."
        ) from None
    raw = value("image")
    folder, slash, _ = raw.rpartition("/")
    rectified = f"{folder}{slash}image_rect"
    rectifier = ComposableNode(
        package="image_proc",
        plugin="image_proc::RectifyNode",
        name="rectify_node",
        namespace=value("namespace"),
        remappings=[("image", raw), ("camera_info", f"{folder}{slash}camera_info"), ("image_rect", rectified)],
        extra_arguments=[{"use_intra_process_comms": True}],
    )
    if value("container"):
        loaded: LaunchDescriptionEntity = LoadComposableNodes(
            target_container=value("container"), composable_node_descriptions=[rectifier]
        )
    else:
        loaded = ComposableNodeContainer(
            package="rclcpp_components",
            executable="component_container",
            name="rectify_container",
            namespace=value("namespace"),
            composable_node_descriptions=[rectifier],
            output="screen",
        )
    tracker = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(TRACKER), launch_arguments=[("image", rectified), *hints_for(__file__, "").items()]
    )
    return [loaded, tracker]


def generate_launch_description() -> LaunchDescription:
    tracker = get_launch_description_from_python_launch_file(TRACKER)
    arguments = [
        DeclareLaunchArgument(
            "image",
            default_value="image",
            description="topic of the raw images; camera_info must be next to it, as image_proc expects",
        ),
        DeclareLaunchArgument(
            "container", default_value="", description="container to load the rectifier into (default: its own)"
        ),
        *(argument for argument in tracker.get_launch_arguments() if argument.name not in OWN),
    ]
    unknown = warn_of_unknown(__file__, [argument.name for argument in arguments])
    return LaunchDescription([*arguments, unknown, OpaqueFunction(function=start_rectifier)])
