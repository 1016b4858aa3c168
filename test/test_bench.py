"""The benchmark: its arithmetic, and a small run with the real node."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmark import roofline  # noqa: E402
from benchmark import training as training_speed  # noqa: E402
from benchmark.bench import __main__ as bench  # noqa: E402
from benchmark.bench import dds, figures, pareto, peers, plots, tables, train  # noqa: E402
from csl_tracker.bags.frame_writer import sequence_frames, write_frames  # noqa: E402
from csl_tracker.datasets.synthetic import SyntheticSequence  # noqa: E402
from csl_tracker.messages import topics  # noqa: E402
from csl_tracker.networks import NetworkConfig, build_network  # noqa: E402


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
def test_mistakes_get_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    assert bench.main() == 2
    error = capsys.readouterr().err
    assert error.startswith("bench: ")
    assert words in error
    assert error.count("\n") == 1


def test_the_front_is_what_nothing_faster_beats() -> None:
    points = [(3.0, 1.0), (1.0, 5.0), (2.0, 5.0), (2.0, 2.0), (4.0, 1.0), (1.0, 6.0)]
    assert pareto.front(points) == [1, 3, 0]
    for index, (time, loss) in enumerate(points):
        beaten = any(t <= time and e <= loss and (t, e) != (time, loss) for t, e in points)
        assert (index in pareto.front(points)) != beaten


def finished(folder: Path, model: str, dice: float, error: float, **changed: object) -> None:
    """A run of an experiment, as ``result.json`` has it."""
    sequence = {"dice": dice, "landmark_error_px": {"mean": error, "median": error / 2}, "threshold_score_20px": 0.9}
    data = {
        **{"model": model, "steps": 9, "batch_size": 8, "input_size": [64, 64], "input_sha256": {"a": "b"}, "preset": "modern"},
        **{"initialisation": "random initialisation", "seconds": 5.0},
        "sequences": {"Test1": sequence, "Test2": {**sequence, "dice": dice - 0.2}},
        **changed,
    }
    path = folder / "runs" / "all" / f"model{len(list(folder.rglob('result.json')))}" / "seed0" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_candidates_become_models_of_an_experiment_and_a_table(tmp_path: Path) -> None:
    from csl_tracker.training.plan import parse_model

    fast, slow = pareto.REFERENCE, pareto.CANDIDATES[-1]
    assert len({candidate.name for candidate in pareto.CANDIDATES}) == len(pareto.CANDIDATES) == 32
    settings = parse_model(fast.model).settings
    assert settings["input_size"] == settings["crop"] == [256, 320]
    assert settings["heatmap"]["sigma"] == 3.5
    times = {"p50": 10.0, "p95": 12.0}
    rows = [
        {"name": candidate.name, "gflop": 1.0, "parameters": 5, "frame_ms": {**times, "p50": at}, "network_ms": times}
        | {"frame_ratio": {"median": 1.0}}
        for candidate, at in ((fast, 10.0), (slow, 90.0))
    ]
    common = {"versions": {}, "load_after": 0.1, "rounds": 3, "source_size": [576, 720], "images_sha256": "c"}
    machine = {"cores": 2, "cpu": "a CPU"}
    (tmp_path / "time.json").write_text(json.dumps({"machine": machine, **common, "rows": rows}), encoding="utf-8")
    assert pareto.fast_enough(tmp_path, 28.0) == [fast]
    assert pareto.fast_enough(tmp_path, 99.0, ["none", "* up_projection 384x480"]) == [slow]
    wide = pareto.Candidate((192, 256), "efficientnet_lite0", "separable", 0.5)
    assert wide.name == "lite0 separable x0.5 192x256"
    assert parse_model(wide.model).settings["network"]["decoder_width"] == 0.5
    assert wide.build().network.config.decoder_width == 0.5
    finished(tmp_path / "train", fast.model, 0.9, 8.0)
    data = pareto.join(tmp_path, 28.0)
    assert data["rows"][0]["accuracy"]["dice"] == pytest.approx(0.8)
    assert data["rows"][1]["accuracy"] is None
    text = pareto.table(data)
    assert "| **0.800** | **8.0 / 4.0** | 0.900 |" in text
    assert "Too slow (GFLOP; p50/p95 ms): " in text
    pareto.picture(data, tmp_path / "picture")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize("transposed", [False, True])
def test_the_roofline_counts_operations_and_bytes(transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = kind(3, 4, 2, stride=2, bias=False)

        def forward(self, image: Tensor) -> Tensor:
            return self.first(image)  # type: ignore[no-any-return]

    found = roofline.count(Small(), (8, 6))  # type: ignore[arg-type]
    outputs = 16 * 12 if transposed else 4 * 3
    assert found["flop"] == 2 * 3 * 4 * 2 * 2 * (8 * 6 if transposed else 4 * 3)
    assert found["bytes"] == 2 * (3 * 8 * 6 + 3 * 4 * 2 * 2 + 4 * outputs)
    assert found["seconds"] == max(found["flop"] / roofline.PEAK_FLOPS, found["bytes"] / roofline.PEAK_BYTES)


@pytest.mark.parametrize("config", [config for _, config, _ in roofline.NETWORKS])
def test_the_rooflines_operations_are_those_that_torch_counts(config: NetworkConfig) -> None:
    network = build_network(config).eval()
    assert roofline.count(network, (64, 96))["flop"] == pytest.approx(1e9 * peers.gflop(network, (64, 96)), rel=1e-9)


def test_networks_that_were_trained_alike_share_a_table(tmp_path: Path) -> None:
    finished(tmp_path, train.OURS, 0.9, 8.0)
    finished(tmp_path, train.MONAI, 0.7, 10.0)
    rows = train.accuracy(tmp_path, [train.OURS, train.MONAI])
    assert [(row["name"], row["dice"], row["error_px"]["median"]) for row in rows] == [
        ("csl_lite0", pytest.approx(0.8), 4.0),
        ("MONAI FlexibleUNet, EfficientNet-B2", pytest.approx(0.6), 5.0),
    ]
    with pytest.raises(train.ConfigError, match="no finished run of csl@"):
        train.accuracy(tmp_path, [train.OURS, train.RESNET])
    finished(tmp_path, train.RESNET, 0.7, 10.0, steps=10)
    with pytest.raises(train.ConfigError, match="other settings or frames"):
        train.accuracy(tmp_path, [train.OURS, train.RESNET])
    finished(tmp_path, train.LONGER, 0.95, 6.0, steps=20)  # a row of its own, which need not be of equal steps
    assert [(row["name"], row["steps"]) for row in train.accuracy(tmp_path, [train.LONGER])] == [("csl_lite0", 20)]
    assert train.accuracy(tmp_path, []) == []


@pytest.mark.slow
def test_both_trainings_are_timed(tmp_path: Path) -> None:
    """The real training and the plain loop, a few steps each."""
    command = [sys.executable, "benchmark/training.py", "--networks", "csl", "--threads", "1"]
    command += ["--steps", "2", "--rounds", "1", "--batch", "2", "--crop", "64", "--json", str(tmp_path / "t.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    data = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    (row,) = data["networks"]
    assert set(row["images_per_s"]) == set(training_speed.SIDES)
    (ours,), (plain,) = (row["seconds_per_step_of_rounds"][side] for side in training_speed.SIDES)
    assert row["ratio"]["median"] == pytest.approx(plain / ours, rel=1e-3)
    assert row["images_per_s"]["plain loop"] == pytest.approx(2 / plain, rel=1e-3)
    assert row["first_loss"] > 0  # of both sides: else the measurement ends with a sentence
    assert training_speed.table(data) in done.stdout
