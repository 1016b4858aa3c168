"""Natural sort order: numbers inside a name compare by value."""

from __future__ import annotations

import re
from pathlib import Path


def natural_order(name: str | Path) -> list[tuple[int, str]]:
    """Case-insensitive sort key that puts ``frame2.png`` before ``frame10.png``; uses only the last part of a path."""
    text = name.name if isinstance(name, Path) else name
    parts = [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in re.split(r"(\d+)", text)]
    return [*parts, (-1, text)]  # a stable order for names that differ only in case


def natural_path_order(path: str) -> list[list[tuple[int, str]]]:
    """Natural sort key over all parts of a path."""
    return [natural_order(part) for part in path.split("/")]
