"""The tracker node over DDS and the replay without ROS are one tracker: their poses agree to the last bit."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

from csl_tracker.bags.frame_writer import BagOptions, RecordedFrame, write_frames
from csl_tracker.bags.reader import BagReader
from csl_tracker.cli.main import main
from csl_tracker.clock import NS
from csl_tracker.messages import topics
from csl_tracker.node.processes import NodeProcess
from csl_tracker.weights import Preprocessing

pytestmark = pytest.mark.ros

STAMPS_MS = [0, 40, 80, 80, 120, 3000, 3040, 1000, 1040, 1080]
"""A stamp that comes twice, one after a pause in which identities end, and one that runs back."""


def write_bag(path: Path) -> None:
    coarse = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)
    picture = cv2.resize(coarse, (80, 64), interpolation=cv2.INTER_CUBIC)
    frames = [RecordedFrame(np.roll(picture, 5 * index, axis=1), NS + ms * 1_000_000) for index, ms in enumerate(STAMPS_MS)]
    write_frames(path, frames, options=BagOptions(jpeg=90, frame_id="endoscope"))


def arrays(path: Path) -> tuple[list[bytes], list[int]]:
    """The serialised pose arrays with the processing time set to nothing, and how many poses each has."""
    with BagReader(path) as bag:
        kept, counts = [], []
        for message in bag.messages([topics.POSES]):
            array = bag.deserialize(message)
            array.processing_time.sec = array.processing_time.nanosec = 0
            store = bag._store(topics.POSES, topics.POSES_TYPE)
            kept.append(bytes(store.serialize_cdr(array, topics.POSES_TYPE)))
            counts.append(len(array.poses))
    return kept, counts


def test_node_and_offline_replay_agree_to_the_last_bit(ros_environment, make_weights, tmp_path):
    """By a CSL network and the engine that is taken by default."""
    weights = make_weights(name="tiny", preprocessing=Preprocessing((127.0,) * 3, (128.0,) * 3, (64, 64)))
    bag = tmp_path / "frames.mcap"
    write_bag(bag)
    shared = {"weights": str(weights), "device": "cpu", "always_report": True}
    tracker = NodeProcess(
        "tracker_node",
        {**shared, "image_transport": "compressed", "warm_up_width": 80, "warm_up_height": 64},
        {"image": topics.IMAGE},
        ros_environment,
        tmp_path / "tracker.log",
    )
    replay = {"bag": str(bag), "output": str(tmp_path / "node.mcap"), "stamps": "original", "timeout_s": 30.0, "wait_s": 120.0}
    with tracker, NodeProcess("replay_node", replay, environment=ros_environment, log=tmp_path / "replay.log") as process:
        assert process.wait(180.0) == 0, process.output() + tracker.output()
    given = ["--weights", str(weights), "--device", "cpu", "--always-report"]
    assert main(["replay", str(bag), "--out", str(tmp_path / "offline.mcap"), *given]) == 0
    by_node, counts = arrays(tmp_path / "node.mcap")
    offline, _ = arrays(tmp_path / "offline.mcap")
    assert len(by_node) == len(STAMPS_MS)
    assert min(counts) > 0, "agreement on nothing proves nothing"
    assert by_node == offline
