"""Parallel processes of one experiment: run locks and device assignment."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from csl_tracker.errors import EngineError

LOCK = "run.lock"

_LAUNCHER = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_NTASKS",
)
_LAUNCHER_PREFIXES = ("TORCHELASTIC_", "ROLE_", "PET_")


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Lock a run's folder, which is created; yields False if another process holds the lock.

    Raises:
        OSError: The folder cannot be created or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def take_local_rank() -> int | None:
    """Local rank of this process under a launcher (torchrun, Slurm); None without one.

    Removes the launcher's environment variables: otherwise Lightning would join all processes into one distributed training,
    while here each process executes separate runs.
    """
    ranks = [os.environ.pop("LOCAL_RANK", None), os.environ.get("SLURM_LOCALID") if "SLURM_NTASKS" in os.environ else None]
    for key in list(os.environ):
        if key in _LAUNCHER or key.startswith(_LAUNCHER_PREFIXES):
            del os.environ[key]
    return next((int(rank) for rank in ranks if rank is not None and rank.isdigit()), None)


def choose_device(device: str, rank: int | None) -> str:
    """Select the device of this process and hide all other GPUs.

    Call it before CUDA is initialised, which reads the environment once.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        rank: Local rank under a launcher; selects the GPU.

    Returns:
        Lightning accelerator, ``cpu`` or ``gpu``.

    Raises:
        EngineError: The device is unknown or not available.
    """
    named = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", device)
    if named is None:
        raise EngineError(f"The device {device!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    count = torch.cuda.device_count()  # uses NVML, does not initialise CUDA
    if device == "cpu" or (device == "auto" and not count):
        return "cpu"
    index = int(named[1]) if named[1] else (rank or 0) % max(1, count)
    if index >= count:
        raise EngineError(
            f"The device {device!r} was asked for, but this torch ({torch.__version__}) sees {count} CUDA GPUs; use 'cpu'"
            f"{f' or one up to cuda:{count - 1}' if count else ''}."
        )
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[index] if visible else str(index)
    return "gpu"
