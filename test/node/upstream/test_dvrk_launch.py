"""The launch file of a da Vinci's endoscope under the real ``launch`` and ``launch_ros``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("launch", reason="launch cannot be imported: source a ROS 2")
pytest.importorskip("launch_ros", reason="launch_ros cannot be imported: source a ROS 2")
pytest.importorskip("ros2cli", reason="ros2cli cannot be imported: source a ROS 2")
pytest.importorskip("ros2launch", reason="ros2launch cannot be imported: source a ROS 2")
pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2")

from diagnostic_msgs.msg import DiagnosticArray
from launch import LaunchContext
from launch.launch_description_sources import get_launch_description_from_python_launch_file
from launch_ros.actions import LifecycleNode, Node
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from csl_tracker.datasets.synthetic.stereo import endoscope_rig

pytestmark = pytest.mark.upstream

LAUNCH_FILE = Path(__file__).resolve().parents[3] / "launch" / "dvrk_stereo.launch.py"


def visit(entities: Any, context: LaunchContext) -> list[Node]:
    """The nodes that would be started, those of included files too."""
    nodes = []
    for entity in entities:
        if isinstance(entity, Node):
            entity._perform_substitutions(context)
            nodes.append(entity)
        else:
            nodes += visit(entity.visit(context) or [], context)
    return nodes


def launched(**arguments: str) -> dict[str, Node]:
    """The nodes by their full names."""
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    nodes = visit(get_launch_description_from_python_launch_file(str(LAUNCH_FILE)).entities, context)
    return {node.node_name: node for node in nodes if not isinstance(node, LifecycleNode) or node.node_name}


def overrides(node: Node) -> dict[str, Any]:
    """What of the parameters is given beside the file."""
    files = [Path(str(path)) for path, _ in node._Node__expanded_parameter_arguments]
    found: dict[str, Any] = {}
    for path in files[1:]:
        for section in yaml.safe_load(path.read_text()).values():
            found |= section["ros__parameters"]
    return found


@pytest.mark.parametrize(
    ("given", "names", "left", "left_info"),
    [
        ({}, "", "/stereo_source/left/image_raw", "/stereo_source/left/camera_info"),
        ({"rig": "jhu_daVinci"}, "", "/jhu_daVinci/left/image_raw", "/jhu_daVinci/left/camera_info"),
        ({"rig": "/lab/rig/", "image": "image_color"}, "", "/lab/rig/left/image_color", "/lab/rig/left/camera_info"),
        ({"left_image": "/a/image", "left_camera_info": "/b/info"}, "", "/a/image", "/b/info"),
        ({"namespace": "davinci"}, "/davinci", "/stereo_source/left/image_raw", "/stereo_source/left/camera_info"),
    ],
)
def test_names_and_topics(given: dict[str, str], names: str, left: str, left_info: str) -> None:
    nodes = launched(**given)
    assert sorted(nodes) == [f"{names}/left/tracker_node", f"{names}/right/tracker_node", f"{names}/stereo_node"]
    tracker = dict(nodes[f"{names}/left/tracker_node"].expanded_remapping_rules or [])
    assert (tracker["image"], tracker["camera_info"]) == (left, left_info)
    stereo = dict(nodes[f"{names}/stereo_node"].expanded_remapping_rules or [])
    assert stereo["left/camera_info"] == left_info
    assert (stereo["left/poses"], stereo["right/poses"]) == ("left/tracker_node/poses", "right/tracker_node/poses")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"hand_eye": "/a/hand_eye.yaml"}, {"hand_eye": "/a/hand_eye.yaml"}),
        ({"image": "image_rect_color"}, {"pose_frame": "rectified"}),
    ],
)
def test_only_what_was_given_overrides_the_file_of_parameters(given: dict[str, str], expected: dict[str, str]) -> None:
    assert overrides(launched(**given)["/stereo_node"]) == expected


def test_the_launched_nodes_pair_what_two_cameras_see(ros2: Any, peer: Any, tiny_weights: Path) -> None:
    rig = endoscope_rig()
    publishers = {}
    for side, camera in (("left", rig.left), ("right", rig.right)):
        info = CameraInfo(width=camera.width, height=camera.height, distortion_model=camera.model, d=camera.d.tolist())
        info.k, info.r, info.p = camera.k.ravel(), camera.r.ravel(), camera.p.ravel()
        size = camera.width * camera.height
        image = Image(height=camera.height, width=camera.width, encoding="mono8", step=camera.width, data=bytes(size))
        publishers[side] = (
            (peer.publisher(CameraInfo, f"/stereo_source/{side}/camera_info"), info),
            (peer.publisher(Image, f"/stereo_source/{side}/image_raw"), image),
        )
    reports = peer.listen(DiagnosticArray, "/diagnostics")

    def paired() -> bool:
        stamp = peer.node.get_clock().now().to_msg()
        for pair in publishers.values():
            for publisher, message in pair:
                message.header = Header(stamp=stamp, frame_id="stereo")
                publisher.publish(message)
        peer.spin_for(0.3)
        own = [status for report in reports for status in report.status if status.name == "/stereo_node: stereo"]
        return bool(own) and own[-1].message == "poses are paired"

    with ros2.running("launch", "csl_tracker", LAUNCH_FILE.name, f"weights:={tiny_weights}", "device:=cpu") as log:
        try:
            peer.wait_for(paired, 120.0, "no pair of poses")
        except AssertionError as error:
            raise AssertionError(log.read_text()) from error
        # Values of config/dvrk.yaml that are not the defaults: its sections find both kinds of node.
        for node, name, value in (("/stereo_node", "tolerance", "0.008"), ("/left/tracker_node", "warm_up_width", "1280")):
            assert value in ros2("param", "get", node, name, "--no-daemon", "--spin-time", "5")
        assert "px focal length, 5.00 mm apart" in log.read_text()


def test_ros2_launch_shows_the_arguments(ros2: Any) -> None:
    text = ros2("launch", "csl_tracker", LAUNCH_FILE.name, "--show-args")
    for name in ("rig", "image", "left_image", "right_camera_info", "namespace", "hand_eye", "params_file", "weights"):
        assert f"'{name}'" in text
