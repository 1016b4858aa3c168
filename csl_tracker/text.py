"""Text from files and networks on its way to people: terminals and spreadsheets do what some characters say."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

_STEERING = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs", "Co"})
"""Unicode categories of control and format characters: escape codes, overrides of the direction, line separators."""
_JOINERS = frozenset("\u200c\u200d\u00ad")
"""Format characters that belong to the spelling of names."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: object, *, lines: bool = True) -> str:
    r"""A text that shows every character and steers no terminal.

    Control characters, line separators, overrides of the writing direction and bytes of a file name that are no text stand as
    ``\xNN`` or ``\uNNNN``.

    Args:
        text: A name, or a whole message.
        lines: Line feed and tabulator stay as they are.
    """
    plain = str(text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(letter if lines and letter in "\n\t" else _shown(letter) for letter in plain)


def excerpt(text: object, longest: int = 200) -> str:
    """The beginning of a text on one line, printable: what a sentence shows of a name that may have any length.

    Args:
        text: A name or value of a file.
        longest: What is longer is cut, with three dots at its end.
    """
    whole = str(text)
    return printable(whole[:longest], lines=False) + ("..." if len(whole) > longest else "")


def csv_cell(value: Any) -> Any:
    """A cell of a CSV that no spreadsheet takes for a formula.

    A text that begins like one gets a ``'`` before it, the spreadsheets' own sign for text. Numbers are left as they are.

    Args:
        value: What to write.
    """
    if not isinstance(value, str):
        return value
    text = printable(value).replace("\n", " ")
    harmless = text in ("-", "+") or _is_number(text)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) and not harmless else text


def markdown_cell(text: object) -> str:
    """A text as a cell of a Markdown table: on one line, without HTML, links or the end of the cell."""
    shown = printable(text, lines=False).replace("|", "\\|").replace("](", "\\](")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", shown)


class PrintableStream:
    """A text stream that writes only what is printable; everything else is the other stream's."""

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
