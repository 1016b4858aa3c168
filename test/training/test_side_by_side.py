"""Claims and devices of processes side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from csl_tracker.errors import EngineError
from csl_tracker.training.processes import choose_device, claim, take_local_rank

HOLD = """
import sys, time
from pathlib import Path
from csl_tracker.training.processes import claim
with claim(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_claim_keeps_others_out_until_its_process_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with claim(tmp_path) as mine:
            assert not mine
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with claim(tmp_path) as mine:
        assert mine
        with claim(tmp_path) as again:
            assert not again
    with claim(tmp_path) as mine:
        assert mine


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), claim(tmp_path / "file" / "run"):
        pass


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, None),
        (
            {
                "LOCAL_RANK": "3",
                "RANK": "7",
                "WORLD_SIZE": "8",
                "MASTER_ADDR": "x",
                "TORCHELASTIC_RUN_ID": "1",
                "GROUP_RANK": "1",
                "LOCAL_WORLD_SIZE": "4",
            },
            3,
        ),
        ({"SLURM_NTASKS": "4", "SLURM_LOCALID": "2", "SLURM_JOB_NAME": "job", "SLURM_PROCID": "2"}, 2),
    ],
)
def test_lightning_sees_no_launcher(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], rank: int | None) -> None:
    environments = pytest.importorskip("lightning.pytorch.plugins.environments", reason="lightning is not installed")
    kinds = (environments.TorchElasticEnvironment, environments.SLURMEnvironment)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert any(kind.detect() for kind in kinds) == (rank is not None)
    assert take_local_rank() == rank
    assert not any(kind.detect() for kind in kinds)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:99", "CPU"])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(EngineError, match=device):
        choose_device(device, None)


@pytest.mark.parametrize(
    ("device", "rank", "visible", "chosen"),
    [
        ("auto", None, None, "0"),
        ("auto", 1, None, "1"),
        ("auto", 5, None, "1"),
        ("cuda", 1, "4,6", "6"),
        ("cuda:1", 0, "GPU-a,GPU-b", "GPU-b"),
    ],
)
def test_every_process_sees_one_gpu(
    monkeypatch: pytest.MonkeyPatch, device: str, rank: int | None, visible: str | None, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # two GPUs are rare where tests run
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert choose_device(device, rank) == "gpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == chosen
    assert choose_device("cpu", rank) == "cpu"
