"""Start the tracker node on a camera's images: ``ros2 launch csl_tracker tracker.launch.py image:=/camera/image_raw``.

The node is a managed one. It configures and activates itself; with ``autostart:=false`` it waits for ``ros2 lifecycle set``.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from csl_tracker.node.fastdds import large_image_environment

AS_PARAMS_FILE = " (default: as params_file says)"


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node; an argument that was left empty leaves its parameter to the file of parameters."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    image = value("image")
    camera_info = value("camera_info") or image.rpartition("/")[0] + "/" * ("/" in image) + "camera_info"
    given: dict[str, str | bool] = {name: value(name) for name in ("weights", "device", "image_transport") if value(name)}
    if value("autostart"):
        given["autostart"] = value("autostart").lower() in ("true", "1")
    return [
        Node(
            package="csl_tracker",
            executable="tracker_node",
            name="tracker_node",
            namespace=value("namespace"),
            parameters=[value("params_file"), *([given] if given else [])],
            remappings=[("image", image), ("image/compressed", f"{image}/compressed"), ("camera_info", camera_info)],
            arguments=["--ros-args", "--log-level", value("log_level")],
            additional_env=large_image_environment(),
            output="screen",
            emulate_tty=True,
        )
    ]


def start_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz on this tracker's pictures, when it is asked for."""
    if LaunchConfiguration("rviz").perform(context).lower() not in ("true", "1"):
        return []
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    prefix = f"/{namespace}" if namespace else ""
    given = [(name, f"{prefix}/{name}_node") for name in ("tracker", "stereo")]
    source = PythonLaunchDescriptionSource(str(Path(__file__).with_name("rviz.launch.py")))
    return [IncludeLaunchDescription(source, launch_arguments=given)]


def generate_launch_description() -> LaunchDescription:
    """Arguments and node."""
    parameters = PathJoinSubstitution([FindPackageShare("csl_tracker"), "config", "tracker.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "weights",
                default_value="",
                description="weights file, .safetensors, or csl_lite0 or csl_accurate" + AS_PARAMS_FILE,
            ),
            DeclareLaunchArgument("device", default_value="", description="auto, cpu, cuda or cuda:N" + AS_PARAMS_FILE),
            DeclareLaunchArgument("image", default_value="image", description="topic of the images, without /compressed"),
            DeclareLaunchArgument(
                "camera_info", default_value="", description="topic of the camera's calibration (default: the image's sibling)"
            ),
            DeclareLaunchArgument("image_transport", default_value="", description="raw or compressed" + AS_PARAMS_FILE),
            DeclareLaunchArgument(
                "autostart", default_value="", description="false waits for 'ros2 lifecycle set'" + AS_PARAMS_FILE
            ),
            DeclareLaunchArgument("params_file", default_value=parameters, description="YAML file with the node's parameters"),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            DeclareLaunchArgument("rviz", default_value="false", description="true opens RViz on the tracker's pictures"),
            OpaqueFunction(function=start_node),
            OpaqueFunction(function=start_rviz),
        ]
    )
