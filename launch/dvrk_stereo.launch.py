"""A tracker for each camera of a da Vinci's endoscope, and the stereo node: ``ros2 launch csl_tracker dvrk_stereo.launch.py``.

The cameras are those of the newer dVRK video stack, ``/stereo_source/left/image_raw`` and ``camera_info``; with
``rig:=NAME`` those of the older one, ``/NAME/left/image_raw``.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

TRACKER = str(Path(__file__).with_name("tracker.launch.py"))
RVIZ = str(Path(__file__).with_name("rviz.launch.py"))
NEW_STACK = "stereo_source"
SIDES = ("left", "right")
OF_THE_TRACKERS = ("weights", "device", "image_transport")
AS_PARAMS_FILE = " (default: as params_file says)"


def start_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    namespace, rig = value("namespace").strip("/"), value("rig").strip("/")
    images = {side: value(f"{side}_image") or f"/{rig}/{side}/{value('image')}" for side in SIDES}
    infos = {side: value(f"{side}_camera_info") or f"{images[side].rpartition('/')[0]}/camera_info" for side in SIDES}
    shared = {name: value(name) for name in (*OF_THE_TRACKERS, "params_file", "log_level")}
    nodes: list[LaunchDescriptionEntity] = []
    for side in SIDES:
        given = {
            **shared,
            "namespace": f"{namespace}/{side}" if namespace else side,
            "image": images[side],
            "camera_info": infos[side],
            "rviz": "false",  # one for all three nodes, below
        }
        source = PythonLaunchDescriptionSource(TRACKER)
        # In a group: what is set for one tracker would hold for the next.
        nodes.append(GroupAction([IncludeLaunchDescription(source, launch_arguments=list(given.items()))]))
    own = {"hand_eye": value("hand_eye")} if value("hand_eye") else {}
    if images["left"].rpartition("/")[2].startswith("image_rect"):
        own["pose_frame"] = "rectified"  # what was seen in a rectified image is not to be rectified again
    nodes.append(
        Node(
            package="csl_tracker",
            executable="stereo_node",
            name="stereo_node",
            namespace=namespace,
            parameters=[value("params_file"), *([own] if own else [])],
            remappings=[
                *((f"{side}/poses", f"{side}/tracker_node/poses") for side in SIDES),
                *((f"{side}/camera_info", infos[side]) for side in SIDES),
            ],
            arguments=["--ros-args", "--log-level", value("log_level")],
            output="screen",
            emulate_tty=True,
        )
    )
    if value("rviz").lower() in ("true", "1"):
        prefix = f"/{namespace}" if namespace else ""
        seen = {"tracker": f"{prefix}/left/tracker_node", "stereo": f"{prefix}/stereo_node", "frame": value("rviz_frame")}
        nodes.append(IncludeLaunchDescription(PythonLaunchDescriptionSource(RVIZ), launch_arguments=list(seen.items())))
    return nodes


def generate_launch_description() -> LaunchDescription:
    parameters = PathJoinSubstitution([FindPackageShare("csl_tracker"), "config", "dvrk.yaml"])
    names = [
        DeclareLaunchArgument(f"{side}_{kind}", default_value="", description=f"{what} of the {side} camera {default}")
        for side in SIDES
        for kind, what, default in (
            ("image", "topic of the images", "(default: /RIG/SIDE/IMAGE)"),
            ("camera_info", "topic of the calibration", "(default: the image's sibling)"),
        )
    ]
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "rig", default_value=NEW_STACK, description="name of the cameras: stereo_source, or the older stack's rig name"
            ),
            DeclareLaunchArgument("image", default_value="image_raw", description="name of the images below RIG/SIDE"),
            *names,
            DeclareLaunchArgument("namespace", default_value="", description="namespace around all three nodes"),
            DeclareLaunchArgument(
                "weights",
                default_value="",
                description="weights file, .safetensors, or csl_lite0 or csl_accurate" + AS_PARAMS_FILE,
            ),
            DeclareLaunchArgument("device", default_value="", description="auto, cpu, cuda or cuda:N" + AS_PARAMS_FILE),
            DeclareLaunchArgument("image_transport", default_value="", description="raw or compressed" + AS_PARAMS_FILE),
            DeclareLaunchArgument(
                "hand_eye", default_value="", description="file with the camera's pose in an arm's frame" + AS_PARAMS_FILE
            ),
            DeclareLaunchArgument("params_file", default_value=parameters, description="YAML file with the nodes' parameters"),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
            DeclareLaunchArgument(
                "rviz", default_value="false", description="true opens RViz on the left camera and the markers"
            ),
            DeclareLaunchArgument(
                "rviz_frame", default_value="", description="frame to draw the markers in, such as the left camera's"
            ),
            OpaqueFunction(function=start_nodes),
        ]
    )
