"""Errors of reading a bag, worded once for all files."""

from __future__ import annotations

from pathlib import Path

from csl_tracker.errors import BagError


class DamagedBagError(BagError):
    """A bag ends early or is broken inside. Everything readable before it has been given out and is worth keeping."""


def unreadable_file(file: Path, error: Exception) -> BagError:
    """Nothing of a file can be read."""
    if isinstance(error, OSError):
        return BagError(f"The bag file {file} cannot be read ({_refusal(error)}).")
    return BagError(f"The bag file {file} cannot be read, {str(error).rstrip('.')}; {_remedy(file)}.")


def damaged_file(file: Path, cause: str | OSError) -> DamagedBagError:
    """A file can be read up to some point.

    Args:
        file: The storage file.
        cause: What is wrong, as a clause, or what the system refused.
    """
    if isinstance(cause, OSError):
        return DamagedBagError(f"The bag file {file} cannot be read to its end ({_refusal(cause)}).")
    return DamagedBagError(f"The bag file {file} cannot be read to its end, {cause.strip().rstrip('.')}; {_remedy(file)}.")


def _refusal(error: OSError) -> str:
    return f"{error.strerror or error}; check its permissions, and the room in TMPDIR where it is compressed as a whole"


def _remedy(file: Path) -> str:
    remedy = "'mcap recover' may mend it" if ".mcap" in file.suffixes else "'ros2 bag reindex' may mend its folder"
    return f"it is broken or its recording was cut off, {remedy}"
