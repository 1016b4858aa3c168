"""``benchmark/gpu_train.py``: a dry run on the CPU, what is left when it is stopped, its time-keeping, and mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rendered_bank import write_bank

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

pytest.importorskip("lightning", reason="the training extra (lightning) is not installed")

from benchmark import gpu_train  # noqa: E402
from benchmark.gpu_steps import train_plan, train_run, train_watch  # noqa: E402
from benchmark.gpu_steps.train_plan import Length, Rate, dry_length, fit_length  # noqa: E402
from csl_tracker.errors import ConfigError  # noqa: E402
from csl_tracker.provenance import sha256_of  # noqa: E402
from csl_tracker.training.config import TrainConfig  # noqa: E402
from csl_tracker.weights import load_weights  # noqa: E402

YAML = """
name: tiny
network: {strategy: unet, encoder: none, decoder: none, width: 2}
encoder_weights: ''
input_size: [64, 96]
train: [{dataset: rendered, root: "${CSL_TRACKER_BANK}", seed: 5, hold_out: [hand-held hook]}]
validation: [{dataset: rendered, root: "${CSL_TRACKER_BANK}", seed: 77, only: [hand-held hook], frames: 64}]
augmentation: rendered
effects: 0.5
ema_decay: 0.5
threads: 1
"""
MISSING = ("mitsuba", "av", "rosbags", "rclpy", "openvino", "onnx", "onnxruntime")
BLOCKER = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(lambda name, *more: None if name.split(".")[0] in {missing!r} else find(name, *more))
"""


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carried")
    write_bank(folder / "bank")
    (folder / "tiny.yaml").write_text(YAML, encoding="utf-8")
    return folder


def words(carried: Path, out: Path, *more: str) -> list[str]:
    return ["--carry", str(carried), "--out", str(out), "--config", str(carried / "tiny.yaml"), "--dry-run", *more]


def read(out: Path) -> Any:
    return json.loads((out / "gpu_train.json").read_text(encoding="utf-8"))


def test_a_dry_run_trains_and_brings_everything_back(
    carried: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    assert gpu_train.main(words(carried, tmp_path / "first", "--minutes", "2", "seed=3")) == 0
    out = tmp_path / "first"
    assert sorted(path.name for path in out.iterdir()) == [
        "gpu_train.json",
        "last.safetensors",
        "metrics.csv",
        "weights.safetensors",
    ]
    data = read(out)
    assert (data["state"], data["dry_run"], data["initial_weights"]) == ("done", True, None)
    assert data["command"].startswith("python3 benchmark/gpu_train.py --carry ")
    assert str(tmp_path) not in json.dumps(data)
    assert data["bank_sha256"] == {path.name: sha256_of([path]) for path in (carried / "bank").glob("*.zip")}
    assert data["plan"] == {"steps": 4, "validations": 2}
    assert (data["steps_done"], [row["step"] for row in data["validation"]]) == (4, [2, 4])
    assert len(data["losses"]["loss"]) == 4
    assert data["configuration"]["seed"] == 3
    assert data["probe"]["batch_size"] == 2
    assert min(data["probe"]["steps_per_s"], data["steps_per_s"], data["wall_s"]) > 0
    best = min(data["validation"], key=lambda row: row["val/loss"])
    assert data["weights"] == {"step": best["step"], "sha256": sha256_of([out / "weights.safetensors"])}
    provenance = load_weights(out / "weights.safetensors").description.provenance
    assert provenance["steps"] == best["step"]
    assert load_weights(out / "last.safetensors").description.provenance["steps"] == 4
    table = (out / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("step,seconds,loss,val/")
    assert [row.split(",")[0] for row in table[1:]] == ["2", "4", "4"]
    said = capsys.readouterr().out
    assert "Probe: " in said
    assert "Training: 4 steps, 2 validations" in said

    newest = carried.parent / "newest"
    newest.mkdir()
    (newest / "bank").symlink_to(carried / "bank")
    (newest / "tiny.yaml").symlink_to(carried / "tiny.yaml")
    (newest / "weights.safetensors").write_bytes((out / "last.safetensors").read_bytes())
    request.getfixturevalue("no_probe")
    assert gpu_train.main(words(newest, tmp_path / "second", "workers=0")) == 0
    data = read(tmp_path / "second")
    assert data["initial_weights"] == {"name": "tiny", "sha256": sha256_of([out / "last.safetensors"])}
    provenance = load_weights(tmp_path / "second" / "weights.safetensors").description.provenance
    assert provenance["initialisation"].startswith("tiny (")


@pytest.fixture
def no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the training alone."""
    monkeypatch.setattr(train_run, "_probe", lambda *_: (2, Rate(0.1, 0.1, 0.1)))


@pytest.mark.usefixtures("no_probe")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_keeps_the_weights_and_curves_so_far(
    number: signal.Signals, status: int, carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = after_steps(3, lambda: os.kill(os.getpid(), number))
    monkeypatch.setattr(train_watch.Watch, "on_train_batch_end", after)
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    assert gpu_train.main(words(carried, tmp_path, "workers=0")) == status
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    data = read(tmp_path)
    assert (data["state"], data["steps_done"]) == ("stopped", 3)
    assert data["weights"]["step"] == 2
    assert load_weights(tmp_path / "weights.safetensors").sha256 == data["weights"]["sha256"]
    assert (tmp_path / "metrics.csv").is_file()
    assert not (tmp_path / "last.safetensors").exists()


def after_steps(step: int, act: Callable[[], None]) -> Any:
    """Takes the place of ``Watch.on_train_batch_end``: acts after this step of the training, not of the probe."""
    original = train_watch.Watch.on_train_batch_end

    def hook(self: Any, trainer: Any, *more: Any) -> None:
        original(self, trainer, *more)
        if trainer.max_steps == 4 and self.steps == step:
            act()

    return hook


@pytest.mark.usefixtures("no_probe")
def test_weights_are_there_while_the_training_goes_on(carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed run leaves."""
    seen: list[Any] = []

    def look() -> None:
        assert (tmp_path / "metrics.csv").is_file()
        seen.append((read(tmp_path), load_weights(tmp_path / "weights.safetensors").sha256))

    monkeypatch.setattr(train_watch.Watch, "on_train_batch_end", after_steps(3, look))
    assert gpu_train.main(words(carried, tmp_path, "workers=0")) == 0
    [(data, sha256)] = seen
    assert (data["state"], data["steps_done"], data["weights"]) == ("training", 2, {"step": 2, "sha256": sha256})


@pytest.mark.usefixtures("no_probe")
def test_time_that_is_up_ends_the_training_with_a_last_validation(
    carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = train_run.Watch

    def late(signals: Any, _soft_end: float, *more: Any) -> Any:
        return original(signals, 0.0, *more)

    monkeypatch.setattr(train_run, "Watch", late)
    assert gpu_train.main(words(carried, tmp_path, "workers=0")) == 1
    data = read(tmp_path)
    assert (data["state"], data["steps_done"], data["weights"]["step"]) == ("out of time", 1, 1)
    assert (tmp_path / "last.safetensors").is_file()


def test_the_batch_is_halved_until_it_fits(carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, tried = train_run.training_run.train, []

    def small_memory(config: TrainConfig, *more: Any, **named: Any) -> Path:
        tried.append(config.batch_size)
        if config.batch_size > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(config, *more, **named)

    monkeypatch.setattr(train_run.training_run, "train", small_memory)
    assert gpu_train.main(words(carried, tmp_path, "workers=0", "batch_size=8")) == 0
    assert tried == [8, 4, 2, 2]
    assert read(tmp_path)["probe"]["too_large"] == [8, 4]
    monkeypatch.setattr(train_run, "FILE_LIMIT", 10)
    assert gpu_train.main(words(carried, tmp_path / "large", "workers=0")) == 2
    assert "files of more than 0.0 MB do not come back" in read(tmp_path / "large")["reason"]


def test_the_schedule_ends_within_the_time() -> None:
    rate = Rate(step_s=0.25, startup_s=10.0, validation_s=12.0)
    length = fit_length(rate, 440.0)
    assert length.validations == 6
    assert length.steps % 6 == 0
    taken = rate.startup_s + length.steps * rate.step_s + length.validations * rate.validation_s + train_plan.END_S
    assert 400 < taken < 440
    assert fit_length(Rate(0.01, 1.0, 0.1), 3600.0).validations == 10
    assert fit_length(Rate(20.0, 1.0, 1.0), 60.0) == Length(2, 1)
    with pytest.raises(ConfigError, match=r"20 s are left after the probe.*give more --minutes"):
        fit_length(rate, 20.0)
    assert [dry_length(Length(steps, 1)) for steps in (1, 3, 900)] == [Length(1, 1), Length(2, 2), Length(4, 2)]


def test_settings_of_a_gpu_machine_are_replaced_by_those_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(YAML, encoding="utf-8")
    path, weights = tmp_path / "tiny.yaml", tmp_path / "w.safetensors"
    config = train_plan.base_config(path, [], weights, 16, dry=False)
    assert (config.workers, config.batch_size, config.half, config.precision) == (16, 64, True, "auto")
    assert (config.accelerator, config.init_weights) == ("gpu", str(weights))
    probe = train_plan.probe_config(config, 32, tmp_path)
    assert (probe.batch_size, probe.steps, probe.validation[0].frames) == (32, 48, 8)
    assert train_plan.validation_share(config, probe) == 8
    full = train_plan.full_config(config, 32, Length(900, 6), tmp_path)
    assert (full.steps, full.steps_per_epoch, full.validate_every) == (900, 150, 1)
    assert full == replace(config, batch_size=32, steps=900, steps_per_epoch=150, output=full.output, cache=full.cache)
    config = train_plan.base_config(path, ["workers=3", "batch_size=8", "half=false", "init_weights=x"], weights, 16, dry=False)
    assert (config.workers, config.batch_size, config.half, config.init_weights) == (3, 8, False, "x")


def spoil(folder: Path) -> None:
    shard = folder / "bank" / "tissue-00000.zip"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("change", "more", "sentence"),
    [
        (None, ["--minutes", "0.1"], "--minutes is 0.1; give at least 0.2."),
        (None, ["steps=5"], "steps cannot be set: the script decides"),
        (None, ["stepz=5"], "stepz"),
        (None, ["init_weights=none.safetensors"], "none.safetensors"),
        (None, ["--carry", "nowhere"], "There is no bank in nowhere/bank; make one with benchmark/carry_bank.py."),
        (spoil, [], "tissue-00000.zip has not the SHA-256 of its .json; carry the bank again."),
    ],
)
def test_mistakes_get_a_sentence(
    change: Callable[[Path], None] | None,
    more: list[str],
    sentence: str,
    carried: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = carried
    if change is not None:
        folder = tmp_path / "changed"
        write_bank(folder / "bank")
        (folder / "tiny.yaml").write_text(YAML, encoding="utf-8")
        change(folder)
    assert gpu_train.main(words(folder, tmp_path / "out", *more)) == 2
    said = capsys.readouterr()
    assert said.err.startswith("gpu_train.py: ")
    assert sentence in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert not (tmp_path / "out").exists()


def bare_python(folder: Path, carried: Path, *more: object, missing: Sequence[str] = MISSING) -> tuple[int, str, str]:
    """Status, output and complaint of the script in a Python that lacks packages and a GPU."""
    (folder / "sitecustomize.py").write_text(BLOCKER.format(missing=tuple(missing)), encoding="utf-8")
    process = subprocess.run(
        [sys.executable, ROOT / "benchmark" / "gpu_train.py", "--carry", carried, "--out", folder / "out", *more],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return process.returncode, process.stdout, process.stderr


@pytest.mark.parametrize(
    ("missing", "sentence"), [((*MISSING, "pydantic"), "cannot import pydantic"), (MISSING, "sees no CUDA GPU; --dry-run")]
)
def test_a_machine_without_a_gpu_or_pydantic_gets_a_sentence(
    missing: Sequence[str], sentence: str, carried: Path, tmp_path: Path
) -> None:
    status, said, complaint = bare_python(tmp_path, carried, missing=missing)
    assert (status, said, complaint.count("\n")) == (2, "", 1)
    assert sentence in complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_dry_run_needs_no_other_packages(carried: Path, tmp_path: Path) -> None:
    status, said, complaint = bare_python(tmp_path, carried, "--dry-run", "--config", carried / "tiny.yaml")
    assert status == 0, complaint
    assert "done: " in said


def test_carried_packages_are_found_after_those_of_the_machine(
    carried: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "carried"
    (folder / "packages").mkdir(parents=True)
    (folder / "bank").symlink_to(carried / "bank")
    (folder / "tiny.yaml").symlink_to(carried / "tiny.yaml")
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert gpu_train.main(words(folder, tmp_path / "out", "steps=3")) == 2
    assert sys.path[-1] == str(folder / "packages")
    assert "steps cannot be set" in capsys.readouterr().err
