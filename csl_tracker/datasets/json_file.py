"""Reads JSON files of datasets; checks size limits before parsing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from csl_tracker.errors import DatasetError

MAX_BYTES = 64 << 20
"""Maximum file size; larger datasets can be exported in parts, which are merged."""
MAX_VALUES = 3_000_000
"""Maximum number of values, estimated by counting commas and brackets."""
MAX_ESCAPES = 1_000_000
"""Maximum number of backslashes: Python's parser allocates a string fragment for each."""
MAX_DEPTH = 32
"""Maximum nesting depth."""


def load_json(path: Path, what: str = "The file") -> Any:
    """Read a JSON file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        path: The file.
        what: Name of the file in messages.

    Raises:
        DatasetError: It cannot be read, is invalid, or exceeds a limit.
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
            f"{what} {path} is not valid JSON from line {error.lineno} on ({error.msg}); it may be cut off: export or copy it"
            " again."
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{what} {path} cannot be read ({error}); save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{what} {path} holds a number of thousands of digits; export it again.") from error


def _check(path: Path, what: str, content: bytes) -> None:
    """Raise a DatasetError if the file has too many values or is nested too deeply."""
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
    # Remove strings before counting brackets; escaped quotes do not end a string.
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
