"""The real ``ros2`` command sees node, topics, parameters and messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ros2cli", reason="ros2cli cannot be imported: source a ROS 2")
pytest.importorskip("ros2node", reason="ros2node cannot be imported: source a ROS 2")
pytest.importorskip("ros2topic", reason="ros2topic cannot be imported: source a ROS 2")
pytest.importorskip("ros2param", reason="ros2param cannot be imported: source a ROS 2")
pytest.importorskip("ros2interface", reason="ros2interface cannot be imported: source a ROS 2")
pytest.importorskip("ros2pkg", reason="ros2pkg cannot be imported: source a ROS 2")
pytest.importorskip("ros2run", reason="ros2run cannot be imported: source a ROS 2")
pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2")

from csl_tracker.node.tracker_node import PARAMETERS

pytestmark = pytest.mark.upstream

DIRECT = ("--no-daemon", "--spin-time", "3")


@pytest.fixture
def node(ros2: Any, tiny_weights: Path, wait_for_text: Callable[..., str]) -> Iterator[Path]:
    """The tracker, started with ``ros2 run``."""
    parameters = [f"weights:={tiny_weights}", "device:=cpu"]
    given = [word for parameter in parameters for word in ("-p", parameter)]
    with ros2.running("run", "csl_tracker", "tracker_node", "--ros-args", *given, "-r", "image:=/endoscope/image") as log:
        wait_for_text(log, "ready: model tiny@")
        yield log


def test_the_executables_are_listed(ros2: Any) -> None:
    listing = ros2("pkg", "executables", "csl_tracker").splitlines()
    assert {"csl_tracker tracker_node", "csl_tracker replay_node"} <= set(listing)


@pytest.mark.parametrize("name", ["Landmark", "InstrumentPose", "InstrumentPoseArray"])
def test_the_messages_are_shown(ros2: Any, name: str) -> None:
    lines = [line.strip() for line in ros2("interface", "show", f"csl_tracker_msgs/msg/{name}").splitlines()]
    assert any(line.startswith(("string name", "Landmark[] landmarks", "InstrumentPose[] poses")) for line in lines)


def test_node_topics_and_parameters_are_seen(ros2: Any, node: Path) -> None:
    assert "/tracker_node" in ros2("node", "list", *DIRECT).splitlines()
    topics = set(ros2("topic", "list", "--show-types", *DIRECT).splitlines())
    assert {
        "/endoscope/image [sensor_msgs/msg/Image]",
        "/tracker_node/poses [csl_tracker_msgs/msg/InstrumentPoseArray]",
        "/tracker_node/pose [csl_tracker_msgs/msg/InstrumentPose]",
        "/tracker_node/segmentation [sensor_msgs/msg/Image]",
        "/tracker_node/segmentation/color [sensor_msgs/msg/Image]",
        "/tracker_node/overlay [sensor_msgs/msg/Image]",
    } <= topics
    parameters = {line.strip() for line in ros2("param", "list", "/tracker_node", *DIRECT).splitlines()}
    assert set(PARAMETERS) <= parameters
    information = ros2("node", "info", "/tracker_node", *DIRECT)
    assert "/endoscope/image: sensor_msgs/msg/Image" in information
    quality = ros2("topic", "info", "--verbose", "/endoscope/image", *DIRECT)
    assert "Reliability: BEST_EFFORT" in quality


def test_poses_are_echoed(ros2: Any, node: Path, tmp_path: Path) -> None:
    image = "{header: {frame_id: scope}, height: 2, width: 2, encoding: mono8, step: 2, data: [0, 9, 0, 9]}"
    with ros2.running("topic", "pub", "--rate", "5", "/endoscope/image", "sensor_msgs/msg/Image", image):
        text = ros2("topic", "echo", "--once", "/tracker_node/poses", "csl_tracker_msgs/msg/InstrumentPoseArray", timeout_s=60)
    assert "frame_id: scope" in text
    assert "image_width: 2" in text
    assert "model: tiny@" in text
