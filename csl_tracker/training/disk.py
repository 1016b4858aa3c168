"""A full disk, or a folder that cannot be written, in one sentence."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from csl_tracker.errors import CslTrackerError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)
_WRAPPED = re.compile(r"PytorchStreamWriter failed|inline_container\.cc|iostream error|os error (?:28|27|122)\b")


class DiskError(CslTrackerError):
    """A file cannot be written; whatever is tried next will not be, either."""


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Say in one sentence that files could not be written, and remove checkpoints that were cut off.

    Args:
        folder: Where a training writes.

    Raises:
        DiskError: A file could not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (*_FULL, *_FORBIDDEN):
            raise
        _remove_broken(folder)
        raise write_error(error, folder) from error
    except (RuntimeError, SafetensorError) as error:
        # torch.save and safetensors wrap what the system said.
        if not _WRAPPED.search(str(error)):
            raise
        _remove_broken(folder)
        raise write_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder) from error


def write_error(error: OSError, folder: Path) -> DiskError:
    """The sentence.

    Args:
        error: What the system said.
        folder: What was written to, where the error names no file.
    """
    named = next((name for name in (error.filename2, error.filename) if isinstance(name, str)), None)
    what = f"The file {named}" if named and not Path(named).is_dir() else f"The folder {named or folder}"
    remedy = "make room on the disk" if error.errno in _FULL else "check its permissions, or choose another place"
    return DiskError(
        f"{what} cannot be written to ({error.strerror or error}); {remedy}, and give the same command again: what is finished"
        " and the last checkpoints are kept."
    )


def _remove_broken(folder: Path) -> None:
    """A checkpoint is a zip file, whose directory stands at its end: one that was cut off has none."""
    for path in folder.glob("*.ckpt"):
        with contextlib.suppress(OSError):
            if not zipfile.is_zipfile(path):
                path.unlink()
    for path in (*folder.glob("*.partial"), *folder.glob(".*.partial")):
        with contextlib.suppress(OSError):
            path.unlink()
