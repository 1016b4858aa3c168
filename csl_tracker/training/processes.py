"""Several processes at one experiment: claims of runs, and a device for each."""

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
    """Claim a run's folder for this process; gives False where another process has it.

    Args:
        folder: Of the run; it is made.

    Raises:
        OSError: The folder cannot be made or written.
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
    """Number of this process among those that a launcher started on this machine; None without a launcher.

    Takes the launcher's variables (torchrun's or Slurm's) out of the environment: left there, Lightning would form one job of
    all processes, where here every process makes runs of its own.
    """
    ranks = [os.environ.pop("LOCAL_RANK", None), os.environ.get("SLURM_LOCALID") if "SLURM_NTASKS" in os.environ else None]
    for key in list(os.environ):
        if key in _LAUNCHER or key.startswith(_LAUNCHER_PREFIXES):
            del os.environ[key]
    return next((int(rank) for rank in ranks if rank is not None and rank.isdigit()), None)


def choose_device(device: str, rank: int | None) -> str:
    """Leave this process the one device that it is to use: all later code sees no other GPU.

    To be called before anything else asks for CUDA, which reads its environment once.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        rank: Number of this process on this machine, of a launcher; it takes the GPU of that number.

    Returns:
        ``cpu`` or ``gpu``, as Lightning calls the accelerators.

    Raises:
        EngineError: The device is unknown or not there.
    """
    named = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", device)
    if named is None:
        raise EngineError(f"The device {device!r} is unknown; use 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    count = torch.cuda.device_count()  # asks the driver's library, not CUDA
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
