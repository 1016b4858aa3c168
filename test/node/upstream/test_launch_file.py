"""The launch file under the real ``launch`` and ``launch_ros``."""

from __future__ import annotations

import os
import re
import signal
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
from csl_tracker.node.hints import LAUNCHED
from csl_tracker.node.tracker_parameters import PARAMETERS
from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.upstream

ROOT = Path(__file__).resolve().parents[3]
LAUNCH_FILE = ROOT / "launch" / "tracker.launch.py"
DOCUMENTED = (*PARAMETERS, "image", "camera_info", "use_sim_time", "params_file", "namespace", "log_level", "rviz")


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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"device": "cpu"}, {"device": "cpu"}),
        (
            {"weights": "/a/b.safetensors", "image_transport": "compressed"},
            {"weights": "/a/b.safetensors", "image_transport": "compressed"},
        ),
        ({"weights": "0012"}, {"weights": "0012"}),
        ({"max_instruments": "3", "expected_rate": "15"}, {"max_instruments": 3, "expected_rate": 15.0}),
        ({"pose_frame": "rectified", "warm_up_width": "640"}, {"pose_frame": "rectified", "warm_up_width": 640}),
        ({"use_sim_time": "True", "overlay": "off"}, {"use_sim_time": True, "overlay": False}),
    ],
)
def test_only_what_was_given_overrides_the_file_of_parameters(
    description: LaunchDescription, given: dict[str, str], expected: dict[str, Any]
) -> None:
    files = [Path(str(path)) for path, _ in make_node(description, **given)._Node__expanded_parameter_arguments]
    overrides = [node["ros__parameters"] for path in files[1:] for node in yaml.safe_load(path.read_text()).values()]
    assert files[0].name == "tracker.yaml"
    assert overrides == ([expected] if expected else [])
    assert {name: type(value) for one in overrides for name, value in one.items()} == {k: type(v) for k, v in expected.items()}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"autostart": "maybe"}, "autostart:=maybe is neither true nor false"),
        ({"rviz": "please"}, "rviz:=please is neither true nor false"),
        ({"use_sim_time": "2"}, "use_sim_time:=2 is neither true nor false"),
        ({"max_instruments": "two"}, "max_instruments:=two is not an integer"),
        ({"expected_rate": "fast"}, "expected_rate:=fast is not a number"),
        ({"params_file": "/nowhere/mine.yaml"}, "params_file:=/nowhere/mine.yaml does not exist"),
        ({"params_file": "/"}, "params_file:=/ is a folder"),
    ],
)
def test_what_cannot_be_stops_the_launch(description: LaunchDescription, given: dict[str, str], words: str) -> None:
    with pytest.raises(RuntimeError, match=f"^{words}"):
        make_node(description, **given)


def test_unknown_arguments_are_named(ros2: Any, tmp_path: Path, wait_for_text: Callable[..., str]) -> None:
    outer = tmp_path / "rig.launch.py"
    outer.write_text(
        "from launch import LaunchDescription\n"
        "from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource\n"
        "def generate_launch_description():\n"
        f"    source = PythonLaunchDescriptionSource({str(LAUNCH_FILE)!r})\n"
        "    given = [('weights', '/nowhere'), ('devise', 'cpu')]\n"
        "    return LaunchDescription([DeclareLaunchArgument('robot', default_value='psm'),"
        " IncludeLaunchDescription(source, launch_arguments=given)])\n"
    )
    with ros2.running("launch", str(outer)) as log:
        text = wait_for_text(log, "tracker_node has exited (status 2)")
    assert "ignored: 'devise' (did you mean device?), 'robot';" in text
    assert "[WARNING] [tracker.launch.py]" in text


@pytest.mark.parametrize("text", ["true", "false", "True", "FALSE", "1", "0", "on", "no"])
def test_autostart_is_a_boolean(description: LaunchDescription, text: str) -> None:
    files = [Path(str(path)) for path, _ in make_node(description, autostart=text)._Node__expanded_parameter_arguments]
    (override,) = (node["ros__parameters"] for node in yaml.safe_load(files[1].read_text()).values())
    assert override == {"autostart": text.lower() in ("true", "1", "on")}


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
    assert {name for name in names if not name.startswith("CSL_TRACKER_")} == (set(PROFILE_VARIABLES) if expected else set())
    assert LAUNCHED in names, "so that advice is in the words of the launch file"


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
        text = wait_for_text(log, "tracker_node failed with exit status 2")
        assert ros2.wait() == 1
    assert "/nowhere/model.safetensors" in text
    assert "exit code 2" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("clicks", [1, 3])
def test_ctrl_c_ends_node_and_launch_without_a_word_of_failure(
    ros2: Any, tiny_weights: Path, wait_for_text: Callable[..., str], clicks: int
) -> None:
    with ros2.running("launch", "csl_tracker", "tracker.launch.py", f"weights:={tiny_weights}", "device:=cpu") as log:
        wait_for_text(log, "ready: model tiny@")
        ros2.interrupt(clicks)
        assert ros2.wait() in (0, 1)
    text = log.read_text()
    assert "process has finished cleanly" in text
    for words in ("Traceback", "process has died", "has failed", "is gone"):
        assert words not in text


def test_the_launch_ends_with_its_node(ros2: Any, tiny_weights: Path, wait_for_text: Callable[..., str]) -> None:
    with ros2.running("launch", "csl_tracker", "tracker.launch.py", f"weights:={tiny_weights}", "device:=cpu") as log:
        text = wait_for_text(log, "ready: model tiny@")
        pid = int(re.search(r"process started with pid \[(\d+)\]", text)[1])  # type: ignore[index]
        os.kill(pid, signal.SIGINT)
        assert ros2.wait() == 0


def test_ros2_launch_shows_the_arguments(ros2: Any) -> None:
    text = ros2("launch", "csl_tracker", "tracker.launch.py", "--show-args")
    assert all(f"'{name}'" in text for name in DOCUMENTED)
