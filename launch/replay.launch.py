"""Replay a bag to a running tracker: ``ros2 launch csl_tracker replay.launch.py bag:=frames.mcap rate:=1.0``.

The arguments are the parameters of replay_node. Fast DDS gets enough shared memory for large images.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from csl_tracker.node.launching import environment_of, parameters_of, started_alone, warn_of_unknown, when_it_ends
from csl_tracker.node.replay_parameters import PARAMETERS

NAME = "replay_node"


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Create the node; empty arguments keep the parameters' defaults."""
    given = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    parameters = parameters_of(given, {name: one.default for name, one in PARAMETERS.items()})
    node = Node(
        package="csl_tracker",
        executable=NAME,
        name=NAME,
        parameters=[parameters] if parameters else [],
        additional_env=environment_of(__file__, context.launch_configurations),
        output="screen",
        emulate_tty=True,
    )
    return [when_it_ends(node, started_alone(__file__)), node]


def generate_launch_description() -> LaunchDescription:
    """Arguments and node."""
    arguments = [
        DeclareLaunchArgument(name, default_value="", description=f"{one.description} (default: {one.default!r})")
        for name, one in PARAMETERS.items()
    ]
    return LaunchDescription([*arguments, warn_of_unknown(__file__, PARAMETERS), OpaqueFunction(function=start_node)])
