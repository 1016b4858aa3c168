"""A short one of ``benchmark/random_walk.py``, and the end of scripts that start nodes."""

import json
import signal
import subprocess
import sys
import time
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


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("script", "arguments", "number"),
    [
        ("random_walk", ["--calls", "100000"], signal.SIGTERM),
        ("random_walk", ["--calls", "100000"], signal.SIGINT),
        ("soak", ["--minutes", "10"], signal.SIGTERM),
        ("lease", ["--trials", "100"], signal.SIGTERM),
    ],
)
def test_a_script_that_is_stopped_stops_its_node(ros_environment, tmp_path, script, arguments, number):
    output = tmp_path / "out.json"
    command = [sys.executable, str(ROOT / "benchmark" / f"{script}.py"), *arguments, "--json", str(output)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        end = time.monotonic() + 60
        while not (nodes := children(process.pid)):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(4.0)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert f"{script}: stopped." in error
    assert "Traceback" not in error
    assert not any(Path(f"/proc/{node}").exists() for node in nodes)
    assert not output.exists()
