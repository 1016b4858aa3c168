"""Memory of a process, as Linux tells it."""

from __future__ import annotations

import os
from pathlib import Path


def resident_mb(pid: int | str = "self") -> float:
    """Memory of a process that is in RAM, MB.

    Raises:
        OSError: There is no such process, or the system does not tell.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
