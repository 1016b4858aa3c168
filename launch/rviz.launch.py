"""RViz with the pictures of a tracker and the markers of a stereo node: ``ros2 launch csl_tracker rviz.launch.py``."""

from __future__ import annotations

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from csl_tracker.node.launching import warn_of_unknown

TOPICS = {"tracker": ("overlay", "segmentation/color"), "stereo": ("markers",)}
"""Topics in config/tracker.rviz, below the names of the two nodes."""


def start_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        return [LogInfo(msg="RViz is not installed and not started: install it with 'sudo apt install ros-$ROS_DISTRO-rviz2'.")]
    remappings = [
        (f"/{node}_node/{topic}", f"/{LaunchConfiguration(node).perform(context).strip('/')}/{topic}")
        for node, topics in TOPICS.items()
        for topic in topics
    ]
    frame = LaunchConfiguration("frame").perform(context)
    config = PathJoinSubstitution([FindPackageShare("csl_tracker"), "config", "tracker.rviz"])
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz",
            arguments=["-d", config, *(["-f", frame] if frame else [])],
            remappings=[pair for pair in remappings if pair[0] != pair[1]],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    arguments = [
        DeclareLaunchArgument("tracker", default_value="/tracker_node", description="full name of the tracker node"),
        DeclareLaunchArgument("stereo", default_value="/stereo_node", description="full name of the stereo node"),
        DeclareLaunchArgument(
            "frame",
            default_value="",
            description="frame in which to draw the markers, such as the left camera's (default: camera)",
        ),
    ]
    unknown = warn_of_unknown(__file__, [argument.name for argument in arguments])
    return LaunchDescription([*arguments, unknown, OpaqueFunction(function=start_rviz)])
