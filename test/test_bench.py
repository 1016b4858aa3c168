"""The benchmark: its arithmetic, and a small run with the real node."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmark.bench import dds, figures, plots, tables  # noqa: E402
from csl_tracker.bags import topics  # noqa: E402
from csl_tracker.bags.writer import sequence_frames, write_frames  # noqa: E402
from csl_tracker.datasets.synthetic import SyntheticSequence  # noqa: E402


def test_spread_is_numpys() -> None:
    values = list(range(1, 1002))
    found = figures.spread(values)
    assert found["p50"] == 501
    assert found["p99.9"] == pytest.approx(1000)
    assert found["max"] == 1001
    assert found["std"] == pytest.approx(np.std(values))


def test_figures_of_a_process() -> None:
    memory = figures.memory_mb(os.getpid())
    assert 1 < memory["pss"] <= memory["peak_rss"]
    before = figures.cpu_s(os.getpid())
    while figures.cpu_s(os.getpid()) == before:
        sum(range(10_000))


@pytest.mark.parametrize(("capacity", "expected"), [(1e9, 120.0), (40.0, 40.0), (0.5, 0.0)])
def test_the_peak_rate_is_found_by_halving(capacity: float, expected: float) -> None:
    class Fake(dds.Session):
        def __init__(self) -> None:
            pass

        def measure(self, rate_hz: float, frames: int, title: str) -> dict:
            dropped = round(frames * max(0.0, 1 - capacity / rate_hz))
            return {"dropped": dropped, "played_hz": rate_hz}

    found = Fake().peak_rate(1000, 120.0, 9, "")
    assert found["peak_hz"] == pytest.approx(expected, rel=0.07, abs=1.0)
    assert found["above"] == (capacity > 120)


def test_times_at_the_doors(tmp_path: Path) -> None:
    frames = [{"stamp": k, "in": 0, "begun": 1_000_000, "network": 8_000_000, "out": 11_000_000} for k in range(5)]
    (tmp_path / "t.json").write_text(json.dumps([*frames, {**frames[0], "stamp": 99, "out": 99_000_000}]), encoding="utf-8")
    found = dds.doors(tmp_path / "t.json", range(5))
    assert found is not None
    assert (found["frames"], found["queue_ms"]["p50"], found["overhead_ms"]["max"]) == (5, 1.0, pytest.approx(3.0))
    assert dds.doors(tmp_path / "t.json", [7]) is None
    assert dds.doors(tmp_path / "missing.json", [1]) is None


@pytest.mark.ros
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_serialised_image_gets_another_stamp(order: str) -> None:
    from benchmark.bench.player import stamped

    data = bytes([0, order == "<", 0, 0]) + struct.pack(f"{order}iI", 5, 6) + b"rest"
    changed = stamped(data, 3_000_000_007)
    assert struct.unpack(f"{order}iI", changed[4:12]) == (3, 7)
    assert (changed[:4], changed[12:], len(changed)) == (data[:4], b"rest", len(data))


@pytest.mark.ros
@pytest.mark.slow
def test_a_node_is_measured(tmp_path: Path, random_weights: Path) -> None:
    """The real node, player and subscriber over DDS; two runs, the second of which finds all parts finished."""
    bag = tmp_path / "b.mcap"
    write_frames(bag, sequence_frames(SyntheticSequence(3, 4, size=(96, 128))), 4)
    command = [
        *(sys.executable, "-m", "benchmark.bench", "--bag", str(bag), "--weights", str(random_weights), "--out"),
        *(str(tmp_path / "out"), "--engine", "torch", "--frames", "30", "--runs", "1", "--rates", "10", "--trials", "1"),
        *("--only", "ours"),
    ]
    for attempt in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        report = json.loads((tmp_path / "out" / "bench.json").read_text(encoding="utf-8"))
        if attempt == 0:
            first = report
    assert report == first
    assert [group["segmentation"] for group in report["nodes"]] == [False, True]
    (at,) = report["nodes"][0]["rates"]
    assert at["frames"] == 30
    assert 0 < at["inside"]["overhead_ms"]["p50"] < at["latency_ms"]["max"]
    assert at["inside"]["network_ms"]["p50"] > 0
    assert report["nodes"][0]["peak"]["trials"]
    assert tables.nodes(report) in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert {f"{name}.{kind}" for name in ("latency", "drops") for kind in ("png", "svg")} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    assert plots.title(report["nodes"][1]).endswith("with ~/segmentation")
    assert topics.POSES.startswith("/")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bag", "missing.mcap"], "missing.mcap does not exist"),
        (["--frames", "3"], "--frames of 30 or more"),
        (["--table", "--only", "networks", "--out", "empty"], "Nothing is finished"),
    ],
)
def test_mistakes_get_a_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.bench", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
