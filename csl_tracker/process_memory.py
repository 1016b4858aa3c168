"""Memory use of a process (Linux)."""

from __future__ import annotations

import os
from pathlib import Path


def resident_mb(pid: int | str = "self") -> float:
    """Resident memory of a process, MB.

    Raises:
        OSError: The process does not exist, or the system is not Linux.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
