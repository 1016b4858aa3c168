"""Escapes untrusted text for terminals, spreadsheets and Markdown."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_STEERING = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co"})
"""Unicode categories of control and format characters: escape codes, direction overrides, line separators."""
_JOINERS = frozenset("\u200c\u200d\u00ad")
"""Format characters that are part of correct spelling."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: object, *, lines: bool = True) -> str:
    r"""Escape text for a terminal.

    Control characters, line separators, direction overrides and undecodable bytes become ``\xNN`` or ``\uNNNN``.

    Args:
        text: A name or a message.
        lines: Keep line feeds and tabs.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(letter if lines and letter in "\n\t" else _shown(letter) for letter in plain)


def excerpt(text: object, longest: int = 200) -> str:
    """Text for an error message: one line, printable, cut after ``longest`` characters with three dots appended."""
    full = str(text)
    return printable(full[:longest], lines=False) + ("..." if len(full) > longest else "")


def csv_cell(value: Any) -> Any:
    """Escape a CSV cell so that spreadsheets do not evaluate it as a formula.

    Text that begins like a formula gets the prefix ``'``, the spreadsheet marker for text. Numbers stay unchanged.
    """
    if not isinstance(value, str):
        return value
    text = printable(value).replace("\n", " ")
    harmless = text in ("-", "+") or _is_number(text)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) and not harmless else text


def markdown_cell(text: object) -> str:
    """Escape text for a Markdown table cell: one line, no HTML, links or cell separators."""
    shown = printable(text, lines=False).replace("|", "\\|").replace("](", "\\](")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", shown)


class PrintableStream:
    """Text stream wrapper that escapes what it writes with :func:`printable`."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text."""
        return int(self._stream.write(printable(text)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _shown(letter: str) -> str:
    if letter in _JOINERS or unicodedata.category(letter) not in _STEERING:
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
