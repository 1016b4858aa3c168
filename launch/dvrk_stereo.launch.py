"""Two trackers and the stereo node for a da Vinci's endoscope: ``ros2 launch csl_tracker dvrk_stereo.launch.py``.

The default topics are those of the newer dVRK video stack, ``/stereo_source/left/image_raw`` and ``camera_info``; ``rig:=NAME``
selects those of the older one, ``/NAME/left/image_raw``.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource, get_launch_description_from_python_launch_file
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from csl_tracker.node.launching import (
    AS_PARAMS_FILE,
    boolean,
    environment_of,
    existing_file,
    hints_for,
    parameters_of,
    warn_of_unknown,
    when_it_ends,
)
from csl_tracker.node.stereo_parameters import PARAMETERS as STEREO_PARAMETERS
from csl_tracker.node.tracker_parameters import PARAMETERS as TRACKER_PARAMETERS

TRACKER = str(Path(__file__).with_name("tracker.launch.py"))
RVIZ = str(Path(__file__).with_name("rviz.launch.py"))
NEW_STACK = "stereo_source"
SIDES = ("left", "right")
OF_THE_TRACKERS = tuple(TRACKER_PARAMETERS)
OF_THE_STEREO_NODE = {**{name: one.default for name, one in STEREO_PARAMETERS.items()}, "use_sim_time": False}


def start_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    namespace, rig = value("namespace").strip("/"), value("rig").strip("/")
    images = {side: value(f"{side}_image") or f"/{rig}/{side}/{value('image')}" for side in SIDES}
    infos = {side: value(f"{side}_camera_info") or f"{images[side].rpartition('/')[0]}/camera_info" for side in SIDES}
    shared = {name: value(name) for name in (*OF_THE_TRACKERS, "use_sim_time", "params_file", "log_level")}
    nodes: list[LaunchDescriptionEntity] = []
    for side in SIDES:
        given = {
            **shared,
            "namespace": f"{namespace}/{side}" if namespace else side,
            "image": images[side],
            "camera_info": infos[side],
            "rviz": "false",  # one RViz for all three nodes, below
            **hints_for(__file__, f"{side}_image"),
        }
        source = PythonLaunchDescriptionSource(TRACKER)
        # In a group, so that the launch configurations of one tracker do not leak into the next.
        nodes.append(GroupAction([IncludeLaunchDescription(source, launch_arguments=list(given.items()))]))
    own = {name: value(name) for name in ("autostart", "hand_eye", "expected_rate", "pose_frame", "use_sim_time")}
    if own["hand_eye"]:
        own["hand_eye"] = str(Path(own["hand_eye"]).expanduser())
    if images["left"].rpartition("/")[2].startswith("image_rect"):
        own["pose_frame"] = "rectified"  # landmarks of a rectified image must not be rectified again
    given_to_it = parameters_of(own, OF_THE_STEREO_NODE)
    stereo = Node(
        package="csl_tracker",
        executable="stereo_node",
        name="stereo_node",
        namespace=namespace,
        parameters=[existing_file("params_file", value("params_file")), *([given_to_it] if given_to_it else [])],
        remappings=[
            *((f"{side}/poses", f"{side}/tracker_node/poses") for side in SIDES),
            *((f"{side}/camera_info", infos[side]) for side in SIDES),
        ],
        arguments=["--ros-args", "--log-level", value("log_level")],
        additional_env=environment_of(__file__, context.launch_configurations),
        output="screen",
        emulate_tty=True,
    )
    nodes += [when_it_ends(stereo, alone=False), stereo]
    if boolean("rviz", value("rviz")):
        prefix = f"/{namespace}" if namespace else ""
        shown = {"tracker": f"{prefix}/left/tracker_node", "stereo": f"{prefix}/stereo_node", "frame": value("rviz_frame")}
        nodes.append(IncludeLaunchDescription(PythonLaunchDescriptionSource(RVIZ), launch_arguments=list(shown.items())))
    return nodes


def generate_launch_description() -> LaunchDescription:
    parameters = PathJoinSubstitution([FindPackageShare("csl_tracker"), "config", "dvrk.yaml"])
    names = [
        DeclareLaunchArgument(f"{side}_{kind}", default_value="", description=f"{text} of the {side} camera {default}")
        for side in SIDES
        for kind, text, default in (
            ("image", "image topic", "(default: /RIG/SIDE/IMAGE)"),
            ("camera_info", "calibration topic", "(default: camera_info next to the image topic)"),
        )
    ]
    arguments = [
        DeclareLaunchArgument(
            "rig", default_value=NEW_STACK, description="name of the cameras: stereo_source, or the older stack's rig name"
        ),
        DeclareLaunchArgument("image", default_value="image_raw", description="name of the image topics below RIG/SIDE"),
        *names,
        DeclareLaunchArgument("namespace", default_value="", description="namespace around all three nodes"),
        *(
            argument
            for argument in get_launch_description_from_python_launch_file(TRACKER).get_launch_arguments()
            if argument.name in (*OF_THE_TRACKERS, "use_sim_time")
        ),
        DeclareLaunchArgument(
            "hand_eye", default_value="", description="file with the camera's pose in an arm's frame" + AS_PARAMS_FILE
        ),
        DeclareLaunchArgument("params_file", default_value=parameters, description="YAML file with the nodes' parameters"),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
        DeclareLaunchArgument("rviz", default_value="false", description="true opens RViz on the left camera and the markers"),
        DeclareLaunchArgument(
            "rviz_frame", default_value="", description="frame in which to draw the markers, such as the left camera's"
        ),
    ]
    unknown = warn_of_unknown(__file__, [argument.name for argument in arguments])
    return LaunchDescription([*arguments, unknown, OpaqueFunction(function=start_nodes)])
