"""Paths as people write them."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(text: str | os.PathLike[str]) -> Path:
    """A path in which ``~`` at its start is the home folder, as a shell has it; the shell itself leaves ``--out=~/x`` alone.

    A ``~NAME`` of nobody stays as it is.
    """
    return Path(os.path.expanduser(text))
