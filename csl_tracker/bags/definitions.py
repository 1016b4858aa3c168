"""Message definitions in a bag: checked for size and depth, then parsed by ``rosbags``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from csl_tracker.bags.limits import MAX_DEFINITION_BYTES
from csl_tracker.messages.types import typestore

MAX_FIELDS = 2000
"""Fields of all types in a definition; rosbags generates Python code for each."""

MAX_LEAVES = 20_000
"""Fields of a message including those of nested types, counted per occurrence."""

MAX_FIXED_BYTES = 128 << 20
"""Size of a fixed-size array of numbers."""

_DEEP = re.compile(r"(?:[({\[<][^(){}\[\]<>]*){24}")
_LONG_LINE = 4000


def understand(text: str, form: str, msgtype: str) -> Typestore | None:
    """Parse a definition; None if it is empty, contains only known types, or exceeds a limit.

    rosbags generates Python code for the types of a bag; its grammar checks their names. Known types need no code.

    Args:
        text: The definition.
        form: A key of :data:`FORMATS`.
        msgtype: The required type.
    """
    parse = FORMATS.get(form)
    if parse is None or not text or not _is_plain(text):
        return None
    types = parse(text, msgtype)
    known = typestore().fielddefs
    if msgtype not in types or all(kind in known and known[kind][1] == fields for kind, (_, fields) in types.items()):
        return None
    if not _is_bounded(types):
        return None
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    return store


def _is_plain(text: str) -> bool:
    """Whether the text is safe for a backtracking parser."""
    return (
        len(text) <= MAX_DEFINITION_BYTES
        and text.count("\n") <= 4 * MAX_FIELDS
        and max(map(len, text.split("\n"))) <= _LONG_LINE
        and not _DEEP.search(text)
    )


def _is_bounded(types: dict[str, Any]) -> bool:
    """Whether the numbers of fields are within the limits."""
    if sum(len(fields) for _, fields in types.values()) > MAX_FIELDS:
        return False
    leaves: dict[str, tuple[int, bool]] = {}
    return all(0 <= _leaves(kind, types, leaves, ())[0] <= MAX_LEAVES for kind in types)


def _leaves(kind: str, types: dict[str, Any], known: dict[str, tuple[int, bool]], above: tuple[str, ...]) -> tuple[int, bool]:
    """Number of fields including nested types, and whether messages are non-empty; above the limit for recursive types."""
    if kind in known:
        return known[kind]
    beyond = MAX_LEAVES + 1, True
    if kind in above or kind not in types:
        return beyond
    total, takes_bytes = 0, False
    for _, desc in types[kind][1]:
        count, element = 1, desc
        if desc[0] == Nodetype.ARRAY:
            element, count = desc[1]
        elif desc[0] == Nodetype.SEQUENCE:
            element = desc[1][0]
        if element[0] == Nodetype.NAME:
            inside, takes = _leaves(element[1], types, known, (*above, kind))
            # A sequence of empty elements: a length of four bytes could request four billion of them.
            total += beyond[0] if not takes and desc[0] != Nodetype.NAME else inside * count
        else:
            is_text, takes = element[1][0] == "string", True
            if not is_text and count * 8 > MAX_FIXED_BYTES:
                return beyond
            total += count if is_text else 1
        takes_bytes = takes_bytes or desc[0] == Nodetype.SEQUENCE or (takes and count > 0)
    known[kind] = total, takes_bytes
    return known[kind]


def _parse_idl(text: str, msgtype: str) -> Any:
    """Parse an IDL definition in rosbag2's form: the type and its nested types, each after a separator line."""
    bar = "=" * 80 + "\n"
    if not text.startswith(f"{bar}IDL: "):
        return get_types_from_idl(text)
    found: dict[str, Any] = {}
    for part in text.split(bar)[1:]:
        found.update(get_types_from_idl(part.partition("\n")[2]))
    return found


FORMATS: dict[str, Callable[[str, str], Any]] = {
    "ros2msg": get_types_from_msg,
    "ros2idl": _parse_idl,
    "omgidl": _parse_idl,
}
"""Parsers by definition format."""
