"""Order of names as people sort them: numbers inside a name count as numbers."""

from __future__ import annotations

import re
from pathlib import Path


def natural_order(name: str | Path) -> list[tuple[int, str]]:
    """Sort key that puts ``frame2.png`` before ``frame10.png``, whatever the letter case; of a path its last part counts."""
    text = name.name if isinstance(name, Path) else name
    parts = [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", text)]
    return [*parts, (-1, text)]  # names that differ in case alone have an order, too


def natural_path_order(path: str) -> list[list[tuple[int, str]]]:
    """Sort key that is natural in the name of every folder of a path."""
    return [natural_order(part) for part in path.split("/")]
