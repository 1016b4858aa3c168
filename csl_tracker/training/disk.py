"""Handles a full disk during training: raises an OSError with a path and removes partial checkpoints."""

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
    """Convert errors wrapped by torch and safetensors back to OSError, and remove partial files.

    Args:
        folder: Output folder of the training; used if the error has no file name.

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
    """Suppress thread tracebacks about a full disk; the log writer re-raises the error on the next write."""
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
    """Delete truncated checkpoints: zip files without the directory at the end."""
    for path in folder.glob("*.ckpt"):
        with contextlib.suppress(OSError):
            if not zipfile.is_zipfile(path):
                path.unlink()
    for path in (*folder.glob("*.partial"), *folder.glob(".*.partial")):
        with contextlib.suppress(OSError):
            path.unlink()
