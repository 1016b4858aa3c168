"""Paths given by a user."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(text: str | os.PathLike[str]) -> Path:
    """Expand a leading ``~``, which shells do not expand in ``--out=~/x``. An unknown ``~NAME`` stays unchanged."""
    return Path(os.path.expanduser(text))
