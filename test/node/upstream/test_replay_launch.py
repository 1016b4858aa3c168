"""The launch file of the replay under the real ``launch`` and ``launch_ros``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("launch", reason="launch cannot be imported: source a ROS 2")
pytest.importorskip("launch_ros", reason="launch_ros cannot be imported: source a ROS 2")
pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2")

from launch import LaunchContext, LaunchDescription
from launch.launch_description_sources import get_launch_description_from_python_launch_file
from launch_ros.actions import Node
from sensor_msgs.msg import Image

from csl_tracker.bags.frame_writer import RecordedFrame, write_frames
from csl_tracker.node.fastdds import PROFILE_VARIABLES
from csl_tracker.node.replay_parameters import PARAMETERS
from csl_tracker_msgs.msg import InstrumentPoseArray

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
    assert {name: type(value) for name, value in found.items()} == {name: type(PARAMETERS[name].default) for name in found}
    assert not make_node(description)._Node__expanded_parameter_arguments


@pytest.mark.parametrize("given", [{"rate": "fast"}, {"loop": "maybe"}, {"frames": "1.5"}])
def test_a_value_of_another_type_is_named(description: LaunchDescription, given: dict[str, str]) -> None:
    with pytest.raises(RuntimeError, match=f"^{next(iter(given))}:={next(iter(given.values()))} is (no|neither)"):
        make_node(description, **given)


def test_large_images_have_room(description: LaunchDescription, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROFILE_VARIABLES, "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    names = {"".join(part.perform(LaunchContext()) for part in name) for name, _ in make_node(description).additional_env or []}
    assert set(PROFILE_VARIABLES) <= names


def test_ctrl_c_is_the_normal_end_of_a_replay_that_loops(ros2: Any, peer: Any, tmp_path: Path) -> None:
    bag = tmp_path / "frames.mcap"
    write_frames(bag, [RecordedFrame(np.zeros((12, 16, 3), np.uint8), 10**9 + k * 40_000_000) for k in range(3)])
    images = peer.listen(Image, "/camera/image_raw")
    poses = peer.publisher(InstrumentPoseArray, "/tracker_node/poses")
    with ros2.running("launch", "csl_tracker", "replay.launch.py", f"bag:={bag}", "loop:=true", "rate:=1.0") as log:
        peer.wait_for(lambda: len(images) > 6, 120.0, "no loop")
        ros2.interrupt(3)
        ros2.wait()
    text = log.read_text()
    assert poses is not None
    assert "process has finished cleanly" in text
    for words in ("Traceback", "process has died", "has failed"):
        assert words not in text


def test_a_bag_that_is_not_there_ends_the_launch_with_a_sentence(ros2: Any) -> None:
    with ros2.running("launch", "csl_tracker", "replay.launch.py", "bag:=/nowhere.mcap") as log:
        assert ros2.wait() == 1
    assert "/nowhere.mcap does not exist" in log.read_text()
    assert "replay_node failed with exit status 2" in log.read_text()
