"""Figures of a process and of a list of times."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}


def spread(values: Sequence[float] | npt.NDArray[np.float64]) -> dict[str, float]:
    """Percentiles, largest, mean and standard deviation of at least one value, in its unit."""
    array = np.array(values, np.float64)
    return {
        **{name: float(np.percentile(array, q)) for name, q in PERCENTILES.items()},
        "max": float(array.max()),
        "mean": float(array.mean()),
        "std": float(array.std()),
    }


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, s."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> dict[str, float]:
    """Memory of a process, MB: ``pss`` (pages that others map, too, count in part) now, and ``peak_rss``."""
    pss = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
    return {"pss": pss * 1024e-6, "peak_rss": _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:") * 1024e-6}


def _kilobytes(file: Path, key: str) -> int:
    for line in file.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    return 0


def gpu_load() -> float | None:
    """Share of the last moment in which the first GPU computed, 0..1; None without an NVIDIA GPU."""
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        return float(found.stdout.split()[0]) / 100
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
