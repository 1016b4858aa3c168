"""Real runs of a small network on synthetic frames: to the end, killed and taken up again, and with a loss that explodes."""

import contextlib
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from csl_tracker.cli.main import main
from csl_tracker.errors import ConfigError
from csl_tracker.training.config import SourceConfig, TrainConfig
from csl_tracker.training.curve import read_curve
from csl_tracker.training.data import StepSampler
from csl_tracker.training.run import _LastCheckpoint, train
from csl_tracker.weights import load_weights

pytest.importorskip("lightning", reason="the training extra (lightning) is not installed")

YAML = """
name: tiny
encoder_weights: ''
input_size: [64, 96]
crop: [64, 64]
heatmap: {sigma: 2.0}
train: [{dataset: synthetic, seed: 5}]
validation: [{dataset: synthetic, seed: 77, frames: 2}]
augmentation: strong
batch_size: 2
steps: 6
steps_per_epoch: 2
ema_decay: 0.5
workers: 1
threads: 1
accelerator: cpu
"""


def tiny(output: Path, **changes: object) -> TrainConfig:
    settings: dict[str, object] = {
        "name": "tiny",
        "output": str(output),
        "encoder_weights": "",
        "input_size": (64, 96),
        "crop": (64, 64),
        "train": (SourceConfig("synthetic", seed=5),),
        "validation": (SourceConfig("synthetic", seed=77, frames=2),),
        "batch_size": 2,
        "steps": 2,
        "steps_per_epoch": 2,
        "workers": 0,
        "accelerator": "cpu",
    }
    return TrainConfig(**{**settings, **changes})  # type: ignore[arg-type]


def _words(config: Path, output: Path) -> list[str]:
    return ["train", str(config), f"output={output}"]


def _train_command(config: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", "csl_tracker.cli.main", *_words(config, output)]


@pytest.mark.slow
def test_a_killed_run_is_taken_up_and_ends_where_it_would_have(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Killed in a process of its own, and taken up by this one."""
    config = tmp_path / "tiny.yaml"
    config.write_text(YAML)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(_words(config, whole)) == 0

    process = subprocess.Popen(
        _train_command(config, killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while not (killed / "last.ckpt").is_file():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint appeared"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "last.safetensors").exists(), "the run was over before it could be killed"

    with caplog.at_level(logging.INFO):
        assert main(_words(config, killed)) == 0
    assert "Going on from" in caplog.text
    expected, found = load_file(whole / "last.safetensors"), load_file(killed / "last.safetensors")
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0, msg=f"{key} differs after resuming")
    seconds = [load_weights(path / "last.safetensors").description.provenance["seconds"] for path in (whole, killed)]
    assert min(seconds) > 0


@pytest.mark.slow
def test_two_devices_share_a_run(tmp_path: Path) -> None:
    """Lightning's own launcher, two processes: half the epoch's frames each, one set of weights."""
    config = tmp_path / "tiny.yaml"
    config.write_text(YAML)
    command = [*_train_command(config, tmp_path / "out"), "devices=2", "steps=2", "workers=0"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert load_weights(tmp_path / "out" / "last.safetensors").description.provenance["steps"] == 2


RANK = """
import sys
from torch import distributed
from csl_tracker.training.data import StepSampler

distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(sys.argv[2]), world_size=2)
print([list(StepSampler(2, 3, lambda: done)) for done in (0, 2)])
"""


def test_two_devices_never_read_the_same_sample(tmp_path: Path) -> None:
    """A real process group: together the two read every sample of both epochs once."""
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(tmp_path / "group"), str(rank)], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    read = [json.loads(process.communicate(timeout=120)[0]) for process in ranks]
    for epoch in range(2):
        assert sorted(read[0][epoch] + read[1][epoch]) == list(range(12 * epoch, 12 * epoch + 12))


def test_the_sampler_goes_on_where_the_last_epoch_ended() -> None:
    done = 0
    sampler = StepSampler(2, 3, lambda: done)
    seen = []
    for done in (0, 2, 4):  # noqa: B007 - the sampler asks for it
        seen += list(sampler)
    assert seen == list(range(18))
    assert len(sampler) == 6


def test_the_weights_say_where_they_come_from(tmp_path: Path) -> None:
    path = train(tiny(tmp_path), "csl-tracker train tiny.yaml")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "best.ckpt",
        "best.safetensors",
        "last.ckpt",
        "last.safetensors",
    ]
    provenance = load_weights(path).description.provenance
    assert provenance["command"] == "csl-tracker train tiny.yaml"
    assert provenance["initialisation"] == "random initialisation"
    assert provenance["steps"] == 2
    assert provenance["configuration"]["batch_size"] == 2
    assert 0 <= provenance["validation"]["val/dice"] <= 1
    assert any(tmp_path.rglob("events.out.tfevents*"))


def test_a_finished_run_only_writes_its_weights_again(tmp_path: Path) -> None:
    path = train(tiny(tmp_path, steps=3), "first")
    expected, described = load_file(path), load_weights(path).description.provenance
    path.unlink()
    again = train(tiny(tmp_path, steps=3), "first")
    for key, tensor in load_file(again).items():
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=0)
    assert load_weights(again).description.provenance == described
    assert described["steps"] == 3


@pytest.mark.parametrize(
    ("damage", "changes", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), {}, "cannot be read"),
        (lambda path: None, {"learning_rate": 0.5}, "was made with learning_rate=0.002 and not with 0.5"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(tmp_path: Path, damage, changes, message: str) -> None:  # type: ignore[no-untyped-def]
    train(tiny(tmp_path), "first")
    damage(tmp_path / "last.ckpt")
    with pytest.raises(ConfigError, match=message):
        train(tiny(tmp_path, **changes), "second")
    train(tiny(tmp_path, **changes), "third", resume=False)


def test_training_goes_on_from_weights_and_refuses_those_of_another_network(tmp_path: Path) -> None:
    path = train(tiny(tmp_path / "a"), "first")
    again = train(tiny(tmp_path / "b", init_weights=str(path)), "second")
    assert load_weights(again).description.provenance["initialisation"].startswith("tiny (")
    from csl_tracker.training.config import NetworkSection

    with pytest.raises(ConfigError, match="make them equal"):
        train(tiny(tmp_path / "c", init_weights=str(path), network=NetworkSection(strategy="csl_no_skip")), "third")


def test_a_loss_that_explodes_stops_the_run_and_names_the_step(tmp_path: Path) -> None:
    bad = tiny(tmp_path, steps=40, steps_per_epoch=40, learning_rate=1e25, optimizer="sgd", clip=0.0, ema_decay=0.0)
    with pytest.raises(ConfigError, match=r"at step \d+; there is no checkpoint yet\. Lower learning_rate"):
        train(bad, "bad")
    train(tiny(tmp_path), "good")
    before = (tmp_path / "last.ckpt").read_bytes()
    with pytest.raises(ConfigError, match=r"at step \d+; the last good checkpoint is .*last.ckpt"):
        train(bad, "bad", resume=False)
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_missing_data_is_one_sentence(tmp_path: Path) -> None:
    source = SourceConfig("endovis2015", root="${CSL_TRACKER_NO_SUCH_FOLDER}")
    with pytest.raises(ConfigError, match="CSL_TRACKER_NO_SUCH_FOLDER"):
        train(tiny(tmp_path, train=(source,)), "x")


@pytest.mark.parametrize("checkpoint", [1, 2])
def test_a_ctrl_c_that_a_library_swallows_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: int
) -> None:
    """The second checkpoint is the last: no step comes behind it."""
    written = []

    def swallowing(self: _LastCheckpoint, *args: Any) -> None:
        write(self, *args)
        written.append(args)
        if len(written) == checkpoint:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)

    write = _LastCheckpoint.on_train_epoch_end
    monkeypatch.setattr(_LastCheckpoint, "on_train_epoch_end", swallowing)
    before = signal.getsignal(signal.SIGINT)
    config = tiny(tmp_path / "run", steps=4)
    with pytest.raises(KeyboardInterrupt):
        train(config, "test")
    assert len(written) == checkpoint
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "run" / "last.safetensors").exists()
    train(config, "test")
    assert load_weights(tmp_path / "run" / "last.safetensors").description.provenance["steps"] == 4


def test_after_a_resume_the_steps_of_the_log_go_on_without_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = _LastCheckpoint.on_train_epoch_end
    stops = {2, 4}

    def save_and_stop(self: _LastCheckpoint, trainer: Any, module: Any) -> None:
        save(self, trainer, module)
        if trainer.global_step in stops:
            stops.remove(trainer.global_step)
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(_LastCheckpoint, "on_train_epoch_end", save_and_stop)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            train(tiny(tmp_path, steps=6), "a run that is taken up")
    train(tiny(tmp_path, steps=6), "a run that is taken up")
    assert read_curve(tmp_path / "tensorboard")["validation_step"] == [1, 3, 5]
