import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("csl_tracker_msgs")

pytestmark = [pytest.mark.ros, pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "benchmark" / "soak.py"


def test_a_quarter_of_a_minute_of_it(tiny_weights, ros_environment, tmp_path):
    output = tmp_path / "soak.json"
    command = [sys.executable, str(SCRIPT), "--minutes", "0.25", "--rate", "10", "--json", str(output)]
    done = subprocess.run(
        [*command, "--weights", str(tiny_weights), "--device", "cpu"], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(output.read_text())
    assert found["exit_status"] == 0
    assert found["frames_shown"] == pytest.approx(150, rel=0.1)
    assert found["pose_arrays"] > 15
    memory = found["memory_mb"]
    assert len(memory["samples"]) == 15
    assert memory["last"] < memory["samples"][5] + 50
    assert sum(found["diagnostics"]["levels"].values()) > 5
    assert found["diagnostics"]["last"]["model"].startswith("tiny@")


def test_the_slope_is_that_of_the_later_samples():
    slope = runpy.run_path(str(SCRIPT))["slope_mb_per_hour"]
    times = [float(second) for second in range(3600)]
    assert slope(times, [0.0 if t < 300 else 100 + t / 3600 * 5 for t in times]) == pytest.approx(5.0)
    assert slope(times, [500.0] * 3600) == pytest.approx(0.0, abs=1e-6)
