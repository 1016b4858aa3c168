"""A short one of ``benchmark/random_walk.py``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

pytestmark = [pytest.mark.ros, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def test_no_command_kills_the_node(tiny_weights, ros_environment, tmp_path):
    output = tmp_path / "walk.json"
    command = [sys.executable, str(ROOT / "benchmark" / "random_walk.py"), "--calls", "150", "--largest", "300", "--seed", "3"]
    done = subprocess.run(
        [*command, "--weights", str(tiny_weights), "--engine", "torch", "--json", str(output)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(output.read_text())
    assert found["last_frame_tracked"]
    assert (found["exit_status"], found["tracebacks"]) == (0, 0), done.stderr[-6000:]
    assert sum(found["calls"].values()) == 150
    assert found["calls"]["transition, refused"] > 0
    assert set(found["states_after_transitions"]) == {"active", "inactive", "unconfigured"}
