"""Replay a bag to a running tracker: ``ros2 launch csl_tracker replay.launch.py bag:=frames.mcap rate:=1.0``.

The arguments are the parameters of replay_node. It publishes large images, and gets room for them in Fast DDS's shared memory.
"""

from __future__ import annotations

from typing import Any

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from csl_tracker.node.fastdds import large_image_environment
from csl_tracker.node.replay_node import NAME, PARAMETERS

TRUTH = {"true": True, "1": True, "false": False, "0": False}


def parameter(name: str, text: str) -> Any:
    """A launch argument, which is text, as the type of its parameter."""
    kind = type(PARAMETERS[name][0])
    try:
        return TRUTH[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise RuntimeError(f"{name}:={text} is no {kind.__name__}; {PARAMETERS[name][1]}") from None


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node; an argument that was left empty leaves its parameter at its default."""
    given = {name: LaunchConfiguration(name).perform(context) for name in PARAMETERS}
    parameters = {name: parameter(name, text) for name, text in given.items() if text}
    return [
        Node(
            package="csl_tracker",
            executable=NAME,
            name=NAME,
            parameters=[parameters] if parameters else [],
            additional_env=large_image_environment(),
            output="screen",
            emulate_tty=True,
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments and node."""
    arguments = [
        DeclareLaunchArgument(name, default_value="", description=f"{text} (default: {default!r})")
        for name, (default, text) in PARAMETERS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start_node)])
