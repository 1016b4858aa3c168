"""What a full disk leaves of a training: an error of the system that names a place, and no half-written checkpoint."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TORCH = re.compile(r"PytorchStreamWriter failed|inline_container\.cc|iostream error")
_SAFETENSORS = re.compile(r"\(os error (\d+)\)")


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Make the error of the system what it was before torch and safetensors wrapped it, and remove what was cut off.

    Args:
        folder: Where a training writes; named where the system names no file.

    Raises:
        OSError: A file could not be written.
    """
    try:
        with _quiet_threads():
            yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _remove_broken(folder)
        if error.filename is None:
            raise _named(error.errno, folder) from error
        raise
    except SafetensorError as error:
        number = _SAFETENSORS.search(str(error))
        if number is None:
            raise
        _remove_broken(folder)
        raise _named(int(number[1]), folder) from error
    except RuntimeError as error:
        if not _TORCH.search(str(error)):
            raise
        _remove_broken(folder)
        raise _named(errno.ENOSPC, folder) from error


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """No traceback of a thread that met the full disk: the log's writer hands its error on to who writes next."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not (isinstance(args.exc_value, OSError) and args.exc_value.errno in _FULL):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _named(number: int, folder: Path) -> OSError:
    return OSError(number, os.strerror(number), str(folder))


def _remove_broken(folder: Path) -> None:
    """A checkpoint is a zip file, whose directory stands at its end: one that was cut off has none."""
    for path in folder.glob("*.ckpt"):
        with contextlib.suppress(OSError):
            if not zipfile.is_zipfile(path):
                path.unlink()
    for path in (*folder.glob("*.partial"), *folder.glob(".*.partial")):
        with contextlib.suppress(OSError):
            path.unlink()
