"""JSON files of datasets, with limits that are checked before anything is built from them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.errors import DatasetError

MAX_BYTES = 64 << 20
"""Size of a JSON file; larger datasets are exported in parts, which are merged."""
MAX_VALUES = 3_000_000
"""Lists, objects and values in a file, as its commas and brackets count them."""
MAX_ESCAPES = 1_000_000
"""Backslashes in a file: Python's parser keeps a piece of text for every one in a string."""
MAX_DEPTH = 32
"""Lists and objects inside one another."""


def load_json(path: Path, what: str = "The file") -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        path: The file.
        what: What to call it in messages.

    Raises:
        DatasetError: It cannot be read, is cut off or broken, or is beyond a limit.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DatasetError(
                f"{what} {path} has {size >> 20} MiB and {MAX_BYTES >> 20} are the limit; export the labels in parts."
            )
        content = path.read_bytes()
        encoding = json.detect_encoding(content)
        if encoding not in ("utf-8", "utf-8-sig"):
            content = content.decode(encoding).encode("utf-8")
        content = content.removeprefix(b"\xef\xbb\xbf")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{what} {path} cannot be read ({error}); copy it again.") from error
    _check(path, what, content)
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{what} {path} is no JSON from line {error.lineno} on ({error.msg}); it may be cut off: export or copy it again."
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{what} {path} cannot be read ({error}); save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{what} {path} holds a number of thousands of digits; export it again.") from error


def _check(path: Path, what: str, content: bytes) -> None:
    """Raise a DatasetError where the file would become too many things, or lists in lists without end."""
    values = sum(content.count(sign) for sign in (b",", b"[", b"{"))
    if values > MAX_VALUES:
        raise DatasetError(
            f"{what} {path} has {values} values and {MAX_VALUES} are the limit; export the labels in parts, or masks as run"
            " lengths."
        )
    if content.count(b"\\") > MAX_ESCAPES:
        raise DatasetError(
            f"{what} {path} has more than {MAX_ESCAPES} backslashes, which is the limit; export the labels in parts."
        )
    # What is in quotes does not count; a quote behind a backslash ends nothing.
    plain = re.sub(rb"\\.", b"", content, flags=re.DOTALL) if b"\\" in content else content
    signs = re.sub(rb'"[^"]*"', b"", plain.translate(None, _NO_SIGNS))
    steps = np.frombuffer(signs, np.uint8)
    depth = np.cumsum((steps == ord("[")) | (steps == ord("{")), dtype=np.int32)
    depth -= np.cumsum((steps == ord("]")) | (steps == ord("}")), dtype=np.int32)
    if len(depth) and int(depth.max()) > MAX_DEPTH:
        raise DatasetError(
            f"{what} {path} has lists and objects {int(depth.max())} levels deep and {MAX_DEPTH} are the limit; name"
            " the right file."
        )


_NO_SIGNS = bytes(set(range(256)) - set(b'[]{}"'))
