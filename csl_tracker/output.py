"""Atomic output: files appear complete or not at all."""

from __future__ import annotations

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from csl_tracker.errors import ConfigError, DatasetError

JSON_DECIMALS = 6
_NUMBERS = re.compile(r'\[\n([^\[\]{}"]*)\]')  # a list without text, lists or objects in it

T = TypeVar("T", bound="AtomicOutput")


class AtomicOutput(ABC):
    """Output written under a temporary name. As a context manager it closes on success and aborts on an exception."""

    @abstractmethod
    def close(self) -> None:
        """Finish the output and rename it to its final name."""

    @abstractmethod
    def abort(self) -> None:
        """Delete the temporary output."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON atomically, with floats rounded to six decimals and lists of numbers on one line.

    Raises:
        DatasetError: The file cannot be written.
        ValueError: A float is NaN or infinite, which JSON cannot represent.
    """
    text = json.dumps(_rounded(data), indent=2, allow_nan=False)
    # JSON strings contain no raw newline, so a bracket before a newline always starts a list.
    write_text(path, _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; creates missing folders.

    Raises:
        DatasetError: The file cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; creates missing folders.

    Raises:
        DatasetError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise DatasetError(f"The file {path} cannot be written ({error.strerror}); choose a folder that can be.") from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, JSON_DECIMALS)
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def print_or_write_between(page: Path | None, begin: str, end: str, text: str) -> None:
    """:func:`write_between`, or print the text if ``page`` is None."""
    if page is None:
        print(text)
    else:
        write_between(page, begin, end, text)


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replace the text between two marks of an existing page.

    Raises:
        ConfigError: The page lacks a mark.
        OSError: The page cannot be read or written.
    """
    before, begun, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise ConfigError(f"The page {page} lacks {begin if not begun else end}; put both marks where the text belongs.")
    write_text(page, f"{before}{begin}\n\n{text}\n\n{end}{after}")
