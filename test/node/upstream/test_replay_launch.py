"""The launch file of the replay under the real ``launch`` and ``launch_ros``."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

pytest.importorskip("launch", reason="launch cannot be imported: source a ROS 2")
pytest.importorskip("launch_ros", reason="launch_ros cannot be imported: source a ROS 2")
pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2")

from launch import LaunchContext, LaunchDescription
from launch.launch_description_sources import get_launch_description_from_python_launch_file
from launch_ros.actions import Node

from csl_tracker.node.fastdds import PROFILE_VARIABLES
from csl_tracker.node.replay_node import PARAMETERS

pytestmark = pytest.mark.upstream

LAUNCH_FILE = Path(__file__).resolve().parents[3] / "launch" / "replay.launch.py"


@pytest.fixture
def description() -> LaunchDescription:
    return get_launch_description_from_python_launch_file(str(LAUNCH_FILE))


def make_node(description: LaunchDescription, **arguments: str) -> Node:
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    nodes = []
    for entity in description.entities:
        nodes += [found for found in entity.visit(context) or [] if isinstance(found, Node)]
    (node,) = nodes
    node._perform_substitutions(context)
    return node


def test_the_arguments_are_the_parameters(description: LaunchDescription) -> None:
    assert [argument.name for argument in description.get_launch_arguments()] == list(PARAMETERS)


def test_what_was_given_has_the_parameters_type(description: LaunchDescription) -> None:
    node = make_node(description, bag="/a/frames.mcap", rate="1", loop="true", frames="7")
    (path,) = [Path(str(path)) for path, _ in node._Node__expanded_parameter_arguments]
    (found,) = [section["ros__parameters"] for section in yaml.safe_load(path.read_text()).values()]
    assert found == {"bag": "/a/frames.mcap", "rate": 1.0, "loop": True, "frames": 7}
    assert {name: type(value) for name, value in found.items()} == {name: type(PARAMETERS[name][0]) for name in found}
    assert not make_node(description)._Node__expanded_parameter_arguments


@pytest.mark.parametrize("given", [{"rate": "fast"}, {"loop": "maybe"}, {"frames": "1.5"}])
def test_a_value_of_another_type_is_named(description: LaunchDescription, given: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match=f"{next(iter(given))}:={next(iter(given.values()))} is no"):
        make_node(description, **given)


def test_large_images_have_room(description: LaunchDescription, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROFILE_VARIABLES, "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    assert len(make_node(description).additional_env or []) == len(PROFILE_VARIABLES)
