"""Error messages of reading bags, shared by all storage formats."""

from __future__ import annotations

from pathlib import Path

from csl_tracker.errors import BagError


class DamagedBagError(BagError):
    """A bag ends early or is corrupt. Everything readable before the damage has been delivered."""


def unreadable_file(file: Path, error: Exception) -> BagError:
    """The error for a file of which nothing can be read."""
    if isinstance(error, OSError):
        return BagError(f"The bag file {file} cannot be read ({_refusal(error)}).")
    return BagError(f"The bag file {file} cannot be read, {str(error).rstrip('.')}; {_remedy(file)}.")


def damaged_file(file: Path, cause: str | OSError) -> DamagedBagError:
    """The error for a file that can be read only in part.

    Args:
        file: The storage file.
        cause: A clause that describes the damage, or the system's error.
    """
    if isinstance(cause, OSError):
        return DamagedBagError(f"The bag file {file} cannot be read to its end ({_refusal(cause)}).")
    return DamagedBagError(f"The bag file {file} cannot be read to its end, {cause.strip().rstrip('.')}; {_remedy(file)}.")


def _refusal(error: OSError) -> str:
    return f"{error.strerror or error}; check its permissions, and the free space in TMPDIR if the file is compressed"


def _remedy(file: Path) -> str:
    remedy = "'mcap recover' may repair it" if ".mcap" in file.suffixes else "'ros2 bag reindex' may repair its folder"
    return f"it is corrupt or its recording was interrupted, {remedy}"
