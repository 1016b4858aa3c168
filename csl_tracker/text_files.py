"""Text files in the encodings that editors and spreadsheets write."""

from __future__ import annotations

import codecs
from pathlib import Path


def decode(content: bytes, errors: str = "strict") -> str:
    """Decode UTF-8 with or without a byte order mark, or UTF-16 with one (Windows' "Unicode").

    Args:
        content: The file's content.
        errors: As for ``bytes.decode``.

    Raises:
        UnicodeDecodeError: It is none of these.
    """
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8-sig", errors)


def read_text(path: Path) -> str:
    """Read a text file, see :func:`decode`; line ends stay as they are.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: It is in another encoding.
    """
    return decode(path.read_bytes())
