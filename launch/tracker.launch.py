"""Start the tracker node on a camera's images: ``ros2 launch csl_tracker tracker.launch.py image:=/camera/image_raw``.

The managed node configures and activates itself; with ``autostart:=false`` it waits for ``ros2 lifecycle set``. All parameters
of the node are arguments. The launch ends with its node, unless another launch file includes this one.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from csl_tracker.node.launching import (
    AS_PARAMS_FILE,
    USE_SIM_TIME,
    boolean,
    environment_of,
    existing_file,
    parameters_of,
    started_alone,
    warn_of_unknown,
    when_it_ends,
)
from csl_tracker.node.tracker_parameters import PARAMETERS

DEFAULTS = {**{name: parameter.default for name, parameter in PARAMETERS.items()}, "use_sim_time": False}


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Create the node; empty arguments leave their parameters to the parameter file."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    image = value("image")
    camera_info = value("camera_info") or image.rpartition("/")[0] + "/" * ("/" in image) + "camera_info"
    given = parameters_of({name: value(name) for name in DEFAULTS}, DEFAULTS)
    node = Node(
        package="csl_tracker",
        executable="tracker_node",
        name="tracker_node",
        namespace=value("namespace"),
        parameters=[existing_file("params_file", value("params_file")), *([given] if given else [])],
        remappings=[("image", image), ("image/compressed", f"{image}/compressed"), ("camera_info", camera_info)],
        arguments=["--ros-args", "--log-level", value("log_level")],
        additional_env=environment_of(__file__, context.launch_configurations),
        output="screen",
        emulate_tty=True,
    )
    return [when_it_ends(node, started_alone(__file__)), node]


def start_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Start RViz for this tracker's pictures if requested."""
    if not boolean("rviz", LaunchConfiguration("rviz").perform(context)):
        return []
    namespace = LaunchConfiguration("namespace").perform(context).strip("/")
    prefix = f"/{namespace}" if namespace else ""
    given = [(name, f"{prefix}/{name}_node") for name in ("tracker", "stereo")]
    source = PythonLaunchDescriptionSource(str(Path(__file__).with_name("rviz.launch.py")))
    return [IncludeLaunchDescription(source, launch_arguments=given)]


def generate_launch_description() -> LaunchDescription:
    """Arguments and node."""
    parameters = PathJoinSubstitution([FindPackageShare("csl_tracker"), "config", "tracker.yaml"])
    arguments = [
        DeclareLaunchArgument("image", default_value="image", description="image topic, without /compressed"),
        DeclareLaunchArgument(
            "camera_info", default_value="", description="calibration topic (default: camera_info next to the image topic)"
        ),
        *(
            DeclareLaunchArgument(
                name,
                default_value="",
                description=parameter.description
                + (f" One of: {', '.join(parameter.choices)}." if parameter.choices else "")
                + AS_PARAMS_FILE,
            )
            for name, parameter in PARAMETERS.items()
        ),
        DeclareLaunchArgument("use_sim_time", default_value="", description=USE_SIM_TIME + AS_PARAMS_FILE),
        DeclareLaunchArgument("params_file", default_value=parameters, description="YAML file with the node's parameters"),
        DeclareLaunchArgument("namespace", default_value="", description="namespace of the node"),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
        DeclareLaunchArgument("rviz", default_value="false", description="true opens RViz on the tracker's pictures"),
    ]
    return LaunchDescription(
        [
            *arguments,
            warn_of_unknown(__file__, [argument.name for argument in arguments]),
            OpaqueFunction(function=start_node),
            OpaqueFunction(function=start_rviz),
        ]
    )
