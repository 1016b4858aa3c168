"""The launch files that include tracker.launch.py, under the real ``launch`` and ``launch_ros``."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch", reason="launch cannot be imported: source a ROS 2")
pytest.importorskip("launch_ros", reason="launch_ros cannot be imported: source a ROS 2")
pytest.importorskip("ros2launch", reason="ros2launch cannot be imported: source a ROS 2")
pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2")

from ament_index_python.packages import get_packages_with_prefixes
from launch import LaunchContext, LaunchDescriptionEntity
from launch.actions import LogInfo
from launch.launch_description_sources import get_launch_description_from_python_launch_file
from launch_ros.actions import ComposableNodeContainer, LoadComposableNodes, Node
from launch_ros.utilities import evaluate_parameters
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from csl_tracker_msgs.msg import InstrumentPoseArray

pytestmark = pytest.mark.upstream

LAUNCH = Path(__file__).resolve().parents[3] / "launch"
ACTIONS = (Node, LoadComposableNodes, LogInfo)


def visit(entity: LaunchDescriptionEntity, context: LaunchContext) -> Iterator[LaunchDescriptionEntity]:
    """All that starts a process, loads a component or says something, in the order of ``launch``, without starting it."""
    if isinstance(entity, ACTIONS):
        if isinstance(entity, Node):
            entity._perform_substitutions(context)
        yield entity
        return
    for inner in entity.visit(context) or []:
        yield from visit(inner, context)


def started(file: str, **arguments: str) -> list[Any]:
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    return list(visit(get_launch_description_from_python_launch_file(str(LAUNCH / file)), context))


def names(nodes: list[Node]) -> list[str]:
    return [node.node_name for node in nodes]


def remappings(node: Node) -> dict[str, str]:
    return dict(node.expanded_remapping_rules or [])


@pytest.mark.parametrize(
    ("file", "own"),
    [("multi_camera.launch.py", {"cameras"}), ("rectified.launch.py", {"container"})],
)
def test_every_argument_has_a_description_and_a_default(file: str, own: set[str]) -> None:
    arguments = get_launch_description_from_python_launch_file(str(LAUNCH / file)).get_launch_arguments()
    assert own | {"weights", "device", "image", "namespace", "params_file", "log_level"} <= {one.name for one in arguments}
    assert all(one.description and one.default_value is not None for one in arguments)


@pytest.mark.parametrize(
    ("cameras", "words"),
    [
        ("left,left", "names a camera twice"),
        ("left,", "'' is not a valid camera name"),
        ("left right", "'left right' is not a valid camera name"),
        ("1,2", "'1' is not a valid camera name"),
    ],
)
def test_names_that_cannot_be_namespaces_are_refused(cameras: str, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):
        started("multi_camera.launch.py", cameras=cameras)


@pytest.mark.parametrize(
    ("given", "nodes"),
    [
        ({}, {"/left/tracker_node": "image_raw", "/right/tracker_node": "image_raw"}),
        ({"cameras": "scope"}, {"/scope/tracker_node": "image_raw"}),
        (
            {"cameras": "left, right", "namespace": "davinci"},
            {"/davinci/left/tracker_node": "image_raw", "/davinci/right/tracker_node": "image_raw"},
        ),
        (
            {"cameras": "a,b,c", "image": "/rig/{camera}/image"},
            {f"/{name}/tracker_node": f"/rig/{name}/image" for name in "abc"},
        ),
    ],
)
def test_each_camera_has_a_tracker_in_its_namespace(given: dict[str, str], nodes: dict[str, str]) -> None:
    trackers = [one for one in started("multi_camera.launch.py", **given) if one.node_executable == "tracker_node"]
    assert {name: remappings(node)["image"] for name, node in zip(names(trackers), trackers, strict=True)} == nodes
    for node in trackers:
        image = remappings(node)["image"]
        assert remappings(node)["camera_info"] == image.rpartition("/")[0] + "/" * ("/" in image) + "camera_info"


def test_what_is_given_goes_to_every_tracker() -> None:
    context = LaunchContext()
    context.launch_configurations.update({"weights": "/a/b.safetensors", "device": "cpu"})
    nodes = started("multi_camera.launch.py", weights="/a/b.safetensors", device="cpu")
    assert len(nodes) == 2
    for node in nodes:
        given = evaluate_parameters(context, node._Node__parameters or [])
        assert any(
            one.get("weights") == "/a/b.safetensors" and one.get("device") == "cpu" for one in given if isinstance(one, dict)
        )


@pytest.fixture
def neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place where ament finds packages of these names; what the launch files say of them is all that is looked at."""
    folder = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    folder.mkdir(parents=True)
    for name in ("image_proc", "rviz2"):
        (folder / name).touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}")


def test_without_image_proc_the_remedy_is_named() -> None:
    if "image_proc" in get_packages_with_prefixes():
        pytest.skip("image_proc is installed here")
    with pytest.raises(RuntimeError, match="needs image_proc, which is not installed: 'sudo apt install"):
        started("rectified.launch.py")


@pytest.mark.parametrize(
    ("given", "raw", "info", "rectified"),
    [
        ({}, "image", "camera_info", "image_rect"),
        ({"image": "/scope/image_raw"}, "/scope/image_raw", "/scope/camera_info", "/scope/image_rect"),
        ({"image": "left/image_raw", "container": "/driver"}, "left/image_raw", "left/camera_info", "left/image_rect"),
    ],
)
@pytest.mark.usefixtures("neighbours")
def test_the_tracker_takes_what_the_rectifier_makes(given: dict[str, str], raw: str, info: str, rectified: str) -> None:
    loaded, tracker = started("rectified.launch.py", **given)
    if "container" in given:
        assert isinstance(loaded, LoadComposableNodes)
        (component,) = loaded._LoadComposableNodes__composable_node_descriptions
    else:
        assert isinstance(loaded, ComposableNodeContainer)
        (component,) = loaded._ComposableNodeContainer__composable_node_descriptions
    context = LaunchContext()

    def text(parts: Any) -> str:
        return "".join(part.perform(context) for part in parts)

    assert (text(component.package), text(component.node_plugin)) == ("image_proc", "image_proc::RectifyNode")
    assert {text(name): text(value) for name, value in component.remappings} == {
        "image": raw,
        "camera_info": info,
        "image_rect": rectified,
    }
    assert remappings(tracker)["image"] == rectified
    assert remappings(tracker)["camera_info"] == info


RVIZ_TOPICS = ("tracker_node/overlay", "tracker_node/segmentation/color", "stereo_node/markers")


@pytest.mark.parametrize(
    ("file", "given", "remapped"),
    [
        ("rviz.launch.py", {}, {}),
        ("tracker.launch.py", {"rviz": "true"}, {}),
        ("tracker.launch.py", {"rviz": "true", "namespace": "scope"}, {f"/{name}": f"/scope/{name}" for name in RVIZ_TOPICS}),
        (
            "rviz.launch.py",
            {"tracker": "/left/tracker_node"},
            {f"/{name}": f"/left/{name}" for name in RVIZ_TOPICS if name.startswith("tracker")},
        ),
        (
            "dvrk_stereo.launch.py",
            {"rviz": "true", "namespace": "scope"},
            {
                **{f"/{name}": f"/scope/left/{name}" for name in RVIZ_TOPICS if name.startswith("tracker")},
                "/stereo_node/markers": "/scope/stereo_node/markers",
            },
        ),
    ],
)
@pytest.mark.usefixtures("neighbours")
def test_rviz_is_opened_on_the_trackers_pictures(file: str, given: dict[str, str], remapped: dict[str, str]) -> None:
    (rviz,) = (node for node in started(file, **given) if node.node_executable == "rviz2")
    assert remappings(rviz) == remapped
    config = "".join(part.perform(LaunchContext()) for part in rviz.cmd[2])
    assert config.endswith("share/csl_tracker/config/tracker.rviz")


@pytest.mark.usefixtures("neighbours")
def test_the_frame_of_the_markers_can_be_chosen() -> None:
    (rviz,) = started("rviz.launch.py", frame="left_optical")
    words = ["".join(part.perform(LaunchContext()) for part in word) for word in rviz.cmd[1:5]]  # the first one is the program
    assert words[words.index("-f") + 1] == "left_optical"


def test_without_rviz2_the_tracker_runs_and_the_remedy_is_named() -> None:
    if "rviz2" in get_packages_with_prefixes():
        pytest.skip("rviz2 is installed here")
    tracker, said = started("tracker.launch.py", rviz="true")
    assert tracker.node_executable == "tracker_node"
    assert "'sudo apt install ros-$ROS_DISTRO-rviz2'" in "".join(part.perform(LaunchContext()) for part in said.msg)


def test_two_cameras_are_tracked_side_by_side(ros2: Any, peer: Any, tiny_weights: Path) -> None:
    publishers = {side: peer.publisher(Image, f"/{side}/image_raw") for side in ("left", "right")}
    poses = {side: peer.listen(InstrumentPoseArray, f"/{side}/tracker_node/poses") for side in publishers}

    def publish(side: str) -> None:
        image = Image(header=Header(frame_id=side), height=48, width=64, encoding="bgr8", step=192, data=bytes(48 * 192))
        publishers[side].publish(image)
        peer.spin_for(0.1)

    def answered() -> bool:
        for side in publishers:
            publish(side)
        return all(poses.values())

    with ros2.running("launch", "csl_tracker", "multi_camera.launch.py", f"weights:={tiny_weights}", "device:=cpu") as log:
        try:
            peer.wait_for(answered, 300.0, "no poses")
        except AssertionError as error:
            raise AssertionError(log.read_text()) from error
        # One tracker dies: the other goes on, and the launch says which is gone.
        pid = int(re.search(r"\[tracker_node-1\]: process started with pid \[(\d+)\]", log.read_text())[1])  # type: ignore[index]
        os.kill(pid, signal.SIGKILL)
        peer.wait_for(lambda: "/left/tracker_node has exited (status -9)" in log.read_text(), 60.0, "not told")
        poses["right"].clear()
        peer.wait_for(lambda: (publish("right"), poses["right"])[1], 60.0, "the other one is gone, too")
    for side, received in poses.items():
        assert {message.header.frame_id for message in received} == {side}
