"""Real experiments, tiny: to the end, killed and taken up again, with a run that fails, and by two processes at once."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from csl_tracker.cli import experiment
from csl_tracker.cli.main import main
from csl_tracker.engines import auto
from csl_tracker.evaluation.runs import parse_runs

pytest.importorskip("lightning", reason="the training extra (lightning) is not installed")

PROTOCOL = """
name: tiny
description: Two synthetic sequences of four frames.
dataset: synthetic
synthesis: {size: [64, 96], groups: [{sequences: [A, B], frames: 4, seed: 51000}]}
settings:
  {steps: 2, steps_per_epoch: 1, batch_size: 2, input_size: [64, 96], crop: [64, 64], encoder_weights: '', workers: 0,
   network: {width: 2}}
held_back: 0.5
leave_one_out: [A, B]
"""
FAST = ("--device", "cpu", "threads=1")


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("protocol") / "tiny.yaml"
    path.write_text(PROTOCOL)
    return path


@pytest.fixture
def without_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are evaluated by torch: converting one for a faster engine takes longer than these runs."""
    monkeypatch.setattr(auto, "BY_SPEED", {"torch": auto.BY_SPEED["torch"]})


WITHOUT_CONVERSION = """
import sys
from csl_tracker.cli.main import main
from csl_tracker.engines import auto

auto.BY_SPEED = {"torch": auto.BY_SPEED["torch"]}
sys.exit(main())
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first experiment makes the sequences."""
    return tmp_path_factory.mktemp("data")


def arguments(protocol: Path, root: Path, out: Path, *more: str) -> list[str]:
    return ["experiment", str(protocol), "--root", str(root), "--out", str(out), *FAST, *more]


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def results(out: Path) -> dict[str, dict[str, Any]]:
    return {str(p.parent.relative_to(out / "runs")): json.loads(p.read_text()) for p in out.glob("runs/*/*/*/result.json")}


@pytest.mark.slow
@pytest.mark.usefixtures("without_conversion")
def test_an_experiment_to_its_end_and_again(
    protocol: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = arguments(protocol, root, out, "--models", "unet", "l")
    assert main(command) == 0
    said = capsys.readouterr().out
    assert [line.split(" (")[0] for line in said.splitlines() if line.startswith("run ")] == [
        "run 1 of 4, unet, A, seed 0",
        "run 2 of 4, l, A, seed 0",
        "run 3 of 4, unet, B, seed 0",
        "run 4 of 4, l, B, seed 0",
    ]
    found = results(out)
    assert set(found) == {f"{fold}/{model}/seed0" for fold in "AB" for model in ("unet", "l")}
    parse_runs(found.values())  # what tables and figures are made from
    for data in found.values():
        assert set(data["sequences"]) == {data["fold"]}
        assert data["sequences"][data["fold"]]["frames"] == 4
        assert data["initialisation"] == "random initialisation"
        assert data["curve"]["step"][-1] == 1
        assert data["curve"]["validation_step"] == [0, 1]
        assert len(data["curve"]["validation"]["loss"]) == 2
        assert str(tmp_path) not in json.dumps(data)
    assert found["A/l/seed0"]["sequences"]["A"]["dice"] is None
    assert (out / "README.md").is_file()
    assert (out / "panels_A_A.png").is_file()

    stamps = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    assert main(command) == 0
    assert "4 of 4 runs are finished already." in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()} == stamps
    assert main([*command, "steps=3"]) == 2
    assert "was made with steps=2 and not with 3" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("without_conversion")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_stopped_experiment_goes_on_from_its_checkpoint(
    protocol: Path,
    root: Path,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(experiment, "summarise", lambda *given: None)  # in the other tests
    out = tmp_path / "out"
    words = arguments(protocol, root, out, "--models", "unet", "--sequences", "A", "B", "steps=16")
    checkpoint = out / "runs/A/unet/seed0/last.ckpt"
    with start("-m", "csl_tracker.cli.main", *words) as process:
        deadline = time.monotonic() + 200
        while not checkpoint.is_file():
            assert process.poll() is None, "the experiment ended before it could be killed"
            assert time.monotonic() < deadline, "no checkpoint appeared"
            time.sleep(0.005)
        os.killpg(process.pid, number)
        said, _ = process.communicate(timeout=100)
    assert process.returncode == code, said
    assert "Traceback" not in said
    finished = set(results(out))
    with caplog.at_level(logging.INFO):
        assert main(words) == 0
    if not finished:
        assert f"Going on from {checkpoint}" in caplog.text
    assert set(results(out)) == {"A/unet/seed0", "B/unet/seed0"}
    steps = results(out)["A/unet/seed0"]["curve"]["validation_step"]
    # From before the stop to the end; Lightning may leave out a validation, or count one step more, where it goes on.
    assert steps[0] == 0
    assert steps[-1] in (15, 16)
    assert len(steps) >= 14


@pytest.mark.slow
@pytest.mark.usefixtures("without_conversion")
def test_a_run_that_fails_does_not_stop_the_others(
    protocol: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    models = ["unet@learning_rate=1e30,clip=0,warmup=0,steps=20", "unet"]
    assert main(arguments(protocol, root, out, "--models", *models)) == 2
    said = capsys.readouterr()
    assert "loss became NaN or infinite at step" in said.err
    assert said.out.count(", failed: ") == 2
    assert set(results(out)) == {"A/unet/seed0", "B/unet/seed0"}
    empty = tmp_path / "empty"
    empty.mkdir()
    (out / "README.md").unlink()
    assert main(arguments(protocol, empty, out, "--summary-only")) == 0
    assert "no panels: The folder" in capsys.readouterr().err
    assert (out / "README.md").is_file()
    for name in ("panels_A_One.png", "panels_A_One.svg"):  # of an earlier summary
        (out / name).write_bytes(b"a frame")
    assert main(arguments(protocol, root, out, "--summary-only", "--no-panels")) == 0
    assert not list(out.glob("panels_*"))
    assert "Examples" not in (out / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_full_disk_stops_the_experiment_in_one_sentence_and_it_can_go_on(
    protocol: Path,
    root: Path,
    tmp_path: Path,
    full_disk: Callable[[int], contextlib.AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Evaluated by the engine that is taken by default."""
    out = tmp_path / "out"
    command = arguments(protocol, root, out, "--models", "unet")
    with full_disk(150_000):  # room for decoded frames, not for a checkpoint
        assert main(command) == 2
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if line.startswith("csl-tracker: ")]
    assert "make room on the disk" in line
    assert str(out / "runs/A/unet/seed0") in line
    assert "repeat the command to continue" in said.out
    assert not [path for path in out.rglob("*") if path.suffix in (".ckpt", ".partial", ".safetensors")]
    assert main(command) == 0
    assert set(results(out)) == {"A/unet/seed0", "B/unet/seed0"}


@pytest.mark.slow
def test_the_launchers_processes_share_the_runs(protocol: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = arguments(protocol, root, out, "--no-panels", "--models", "unet", "unet@clip=1")
    script = tmp_path / "experiment.py"
    script.write_text(WITHOUT_CONVERSION)
    with start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), *words) as process:
        said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    found = results(out)
    assert set(found) == {f"{fold}/{model}/seed0" for fold in "AB" for model in ("unet", "unet@clip=1")}
    for rank in (0, 1):
        assert f"[{rank}] run " in said
    started = [line.split(", ", 1)[1].split(" (")[0] for line in said.splitlines() if "] run " in line]
    assert len(started) == len(set(started)) == 4  # none was made twice
    assert (out / "README.md").is_file()
