"""The launch file under the real ``launch`` and ``launch_ros``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("launch", reason="launch cannot be imported: source a ROS 2")
pytest.importorskip("launch_ros", reason="launch_ros cannot be imported: source a ROS 2")
pytest.importorskip("ros2cli", reason="ros2cli cannot be imported: source a ROS 2")
pytest.importorskip("ros2launch", reason="ros2launch cannot be imported: source a ROS 2")
pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2")

from launch import LaunchContext, LaunchDescription
from launch.launch_description_sources import get_launch_description_from_python_launch_file
from launch_ros.actions import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from csl_tracker.node.fastdds import PROFILE_VARIABLES
from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.upstream

ROOT = Path(__file__).resolve().parents[3]
LAUNCH_FILE = ROOT / "launch" / "tracker.launch.py"
DOCUMENTED = (
    *("weights", "device", "image", "camera_info", "image_transport", "autostart"),
    *("params_file", "namespace", "log_level", "rviz"),
)


@pytest.fixture
def description() -> LaunchDescription:
    return get_launch_description_from_python_launch_file(str(LAUNCH_FILE))


def make_node(description: LaunchDescription, **arguments: str) -> Node:
    """The node's action after the arguments were declared, as ``ros2 launch`` does it."""
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    nodes = []
    for entity in description.entities:
        nodes += [found for found in entity.visit(context) or [] if isinstance(found, Node)]
    (node,) = nodes
    node._perform_substitutions(context)
    return node


def test_the_arguments_are_the_documented_ones(description: LaunchDescription) -> None:
    arguments = description.get_launch_arguments()
    assert sorted(argument.name for argument in arguments) == sorted(DOCUMENTED)
    assert all(argument.description for argument in arguments)
    assert all(argument.default_value is not None for argument in arguments), "no argument has to be given"


@pytest.mark.parametrize(
    ("given", "image", "camera_info"),
    [
        ({}, "image", "camera_info"),
        ({"image": "/davinci/left/image_raw"}, "/davinci/left/image_raw", "/davinci/left/camera_info"),
        ({"image": "left/image_raw"}, "left/image_raw", "left/camera_info"),
        ({"image": "/image"}, "/image", "/camera_info"),
        ({"image": "/a/image", "camera_info": "/b/info"}, "/a/image", "/b/info"),
    ],
)
def test_topics(description: LaunchDescription, given: dict[str, str], image: str, camera_info: str) -> None:
    remappings = dict(make_node(description, **given).expanded_remapping_rules or [])
    assert remappings == {"image": image, "image/compressed": f"{image}/compressed", "camera_info": camera_info}


@pytest.mark.parametrize("given", [{}, {"device": "cpu"}, {"weights": "/a/b.safetensors", "image_transport": "compressed"}])
def test_only_what_was_given_overrides_the_file_of_parameters(description: LaunchDescription, given: dict[str, str]) -> None:
    files = [Path(str(path)) for path, _ in make_node(description, **given)._Node__expanded_parameter_arguments]
    overrides = [node["ros__parameters"] for path in files[1:] for node in yaml.safe_load(path.read_text()).values()]
    assert files[0].name == "tracker.yaml"
    assert overrides == ([given] if given else [])


@pytest.mark.parametrize("text", ["true", "false"])
def test_autostart_is_a_boolean(description: LaunchDescription, text: str) -> None:
    files = [Path(str(path)) for path, _ in make_node(description, autostart=text)._Node__expanded_parameter_arguments]
    (override,) = (node["ros__parameters"] for node in yaml.safe_load(files[1].read_text()).values())
    assert override == {"autostart": text == "true"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, True), ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, False), ({PROFILE_VARIABLES[1]: "/mine.xml"}, False)],
)
def test_the_profile_for_large_images_is_set_where_it_may_be(
    description: LaunchDescription, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    for name in (*PROFILE_VARIABLES, "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    extra = make_node(description).additional_env or []
    names = {"".join(part.perform(LaunchContext()) for part in name) for name, _ in extra}
    assert names == (set(PROFILE_VARIABLES) if expected else set())


@pytest.mark.parametrize("namespace", ["", "left_arm"])
def test_the_launched_node_publishes_a_pose_for_an_image(ros2: Any, peer: Any, tiny_weights: Path, namespace: str) -> None:
    prefix = f"/{namespace}" if namespace else ""
    arguments = [f"weights:={tiny_weights}", "device:=cpu", "image:=/endoscope/image_raw", f"namespace:={namespace}"]
    publisher = peer.publisher(Image, "/endoscope/image_raw")
    poses = peer.listen(InstrumentPoseArray, f"{prefix}/tracker_node/poses")
    message = Image(header=Header(frame_id="endoscope"), height=48, width=64, encoding="bgr8", step=192, data=bytes(48 * 192))
    message.header.stamp.sec = 42

    def answered() -> Any:
        publisher.publish(message)
        peer.spin_for(0.2)
        return poses

    with ros2.running("launch", "csl_tracker", "tracker.launch.py", *[a for a in arguments if not a.endswith(":=")]) as log:
        try:
            peer.wait_for(answered, 90.0, "no pose")
        except AssertionError as error:
            raise AssertionError(log.read_text()) from error
    assert poses[0].header == message.header
    assert (poses[0].image_width, poses[0].image_height) == (64, 48)
    assert "process has finished cleanly" in log.read_text()


def test_a_file_of_parameters_of_the_user_is_taken(ros2: Any, peer: Any, tiny_weights: Path, tmp_path: Path) -> None:
    parameters = tmp_path / "mine.yaml"
    parameters.write_text(f"/**:\n  ros__parameters:\n    weights: {tiny_weights}\n    device: cpu\n    max_instruments: 3\n")
    with ros2.running("launch", "csl_tracker", "tracker.launch.py", f"params_file:={parameters}") as log:
        peer.wait_for(lambda: "ready: model tiny@" in log.read_text(), 90.0, "the node is not ready")
        assert "3" in ros2("param", "get", "/tracker_node", "max_instruments", "--no-daemon", "--spin-time", "3")


def test_weights_that_are_not_there_end_the_launch_with_a_sentence(ros2: Any, wait_for_text: Callable[..., str]) -> None:
    with ros2.running("launch", "csl_tracker", "tracker.launch.py", "weights:=/nowhere/model.safetensors") as log:
        text = wait_for_text(log, "process has died")
    assert "/nowhere/model.safetensors" in text
    assert "exit code 2" in text
    assert "Traceback" not in text


def test_ros2_launch_shows_the_arguments(ros2: Any) -> None:
    text = ros2("launch", "csl_tracker", "tracker.launch.py", "--show-args")
    assert all(f"'{name}'" in text for name in DOCUMENTED)
