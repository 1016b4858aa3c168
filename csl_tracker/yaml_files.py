"""Reads the YAML files of this package: configurations, protocols, instruments, calibrations.

YAML 1.1 converts some names to other types: ``0012`` becomes 10, ``12:30`` becomes 750, ``no`` becomes false. This loader uses
the core schema of YAML 1.2, where all of these are text. Numbers keep their spelling, so that :func:`spelled` restores a name
as typed.

Duplicate keys and files that are too large, too deep or expand through aliases are rejected.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from csl_tracker.errors import ConfigError, CslTrackerError

MAX_BYTES = 2 << 20
"""Maximum file size."""
MAX_VALUES = 200_000
"""Maximum number of values in a file, including those repeated by aliases."""
MAX_DEPTH = 64
"""Maximum nesting depth."""

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS = {dict: "a mapping", list: "a list", type(None): "empty"}
_YES, _NO = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})


class TypedInt(int):
    """A whole number in a non-canonical spelling, such as ``0x1F`` or ``+5``."""

    typed: str


class TypedFloat(float):
    """A number in a non-canonical spelling, such as ``1.50`` or ``1e3``."""

    typed: str


class YamlError(ValueError):
    """Invalid or rejected YAML; the message is a clause without a full stop."""


def parse_yaml(content: bytes | str, *, max_bytes: int = MAX_BYTES, max_values: int = MAX_VALUES) -> Any:
    """Parse a YAML document; None for an empty one.

    Args:
        content: UTF-8 with or without a byte order mark, UTF-16 with one, or text.
        max_bytes: Maximum size.
        max_values: Maximum number of values, including those repeated by aliases.

    Raises:
        YamlError: It is invalid, has a duplicate key, or exceeds a limit.
    """
    if len(content) > max_bytes:
        raise YamlError(f"it has {len(content)} bytes and {max_bytes} are the limit")
    try:
        text = content if isinstance(content, str) else content.decode(_encoding(content))
        text = text.removeprefix("\ufeff")
        _check_limits(text, max_values)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _check_keys(node)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise YamlError(_reason(error)) from error
    except UnicodeDecodeError as error:
        raise YamlError(f"it is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (ValueError, KeyError, RecursionError) as error:
        raise error if isinstance(error, YamlError) else YamlError(f"it holds an impossible value ({error})") from error


def read_yaml(
    path: Path,
    what: str,
    *,
    error: type[CslTrackerError] = ConfigError,
    max_bytes: int = MAX_BYTES,
    max_values: int = MAX_VALUES,
) -> Any:
    """Read a YAML file.

    Args:
        path: The file.
        what: Name of the file in messages, such as ``The protocol file``.
        error: Exception type.
        max_bytes: Maximum size.
        max_values: Maximum number of values, including those repeated by aliases.

    Raises:
        CslTrackerError: The file is missing, unreadable or invalid, has a duplicate key, or exceeds a limit.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as failed:
        raise error(f"{what} {path} cannot be read ({failed.strerror or failed}); check the path.") from failed
    if len(content) > max_bytes:
        raise error(f"{what} {path} is larger than {max_bytes >> 20} MiB, which is the limit; name the right file.")
    try:
        return parse_yaml(content, max_bytes=max_bytes, max_values=max_values)
    except YamlError as failed:
        raise error(f"{what} {path} is not readable YAML: {failed}.") from failed


def spelled(value: Any, what: str) -> str:
    """A name as typed, even if YAML parsed it as a number.

    Args:
        value: A value of :func:`parse_yaml`.
        what: Name of the value in the message.

    Raises:
        ConfigError: It is a boolean, empty, a list or a mapping.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        raise ConfigError(f"{what} is {str(value).lower()}, a truth value; write it in quotes.")
    if isinstance(value, int | float):
        return str(getattr(value, "typed", value))
    kind = _KINDS.get(type(value), f"a {type(value).__name__}")
    remedy = "write a text, or one in quotes" if value is None else "give a single name"
    raise ConfigError(f"{what} is {kind}; {remedy}.")


def as_bool(value: Any, what: str) -> bool:
    """Parse a boolean: ``true``, ``false``, or the YAML 1.1 spellings ``yes``, ``no``, ``on``, ``off``.

    Raises:
        ConfigError: It is not a boolean.
    """
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else ""
    if word in _YES | _NO:
        return word in _YES
    raise ConfigError(f"{what} is {value!r}; give true or false.")


def _encoding(content: bytes) -> str:
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if utf16 else "utf-8"


def _check_limits(text: str, max_values: int) -> None:
    """Check the limits on the parser events, before anything is constructed."""
    tally = _Tally()
    for event in yaml.parse(text, Loader=_BASE):
        tally.add(event)
        if tally.count > max_values:
            raise YamlError(f"{_at(event.start_mark)} is beyond the limit of {max_values} values")


class _Tally:
    """Counts the values of a document, including those repeated by aliases."""

    def __init__(self) -> None:
        self.count = 0
        self._sizes: dict[str, int] = {}  # by anchor
        self._open: list[tuple[str | None, int]] = []  # open collections: anchor, and the count before it

    def add(self, event: Any) -> None:
        """Count one parser event."""
        if isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self._open.pop()
            self._remember(anchor, self.count - before)
        elif isinstance(event, yaml.ScalarEvent):
            self.count += 1
            self._remember(event.anchor, 1)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._sizes:
                raise YamlError(f"{_at(event.start_mark)} refers to {event.anchor!r}, which is not there before it")
            self.count += self._sizes[event.anchor]

    def _begin(self, event: Any) -> None:
        self._open.append((event.anchor, self.count))
        self.count += 1
        self._sizes.pop(event.anchor, None)  # a collection must not refer to itself
        if len(self._open) > MAX_DEPTH:
            raise YamlError(f"{_at(event.start_mark)} is {len(self._open)} levels deep and {MAX_DEPTH} are the limit")

    def _remember(self, anchor: str | None, size: int) -> None:
        if anchor is not None:
            self._sizes[anchor] = size


def _check_keys(root: Any) -> None:
    """Reject duplicate keys and keys that are not scalars."""
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                nodes.append(value)
                if not isinstance(key, yaml.ScalarNode):
                    raise YamlError(f"{_at(key.start_mark)} has a list or a mapping as a key")
                if (key.tag, key.value) in keys:
                    raise YamlError(f"{_at(key.start_mark)} has the key {key.value!r} a second time; remove one of them")
                keys.add((key.tag, key.value))


class _Loader(_BASE):  # type: ignore[misc]  # the base is chosen at run time
    """YAML 1.2 core schema plus ``<<`` merge keys; numbers keep their spelling."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # none of the base's
    yaml_constructors: ClassVar[dict[Any, Any]] = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }

    def construct_yaml_int(self, node: Any) -> int:
        """A whole number."""
        text = str(node.value)
        digits = text.lstrip("+-")
        base = {"0x": 16, "0o": 8}.get(digits[:2], 10)
        value = int(digits[2:] if base != 10 else digits, base) * (-1 if text.startswith("-") else 1)
        if str(value) == text:
            return value
        typed = TypedInt(value)
        typed.typed = text
        return typed

    def construct_yaml_float(self, node: Any) -> float:
        """A number."""
        text = str(node.value)
        value = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if str(value) == text:
            return value
        typed = TypedFloat(value)
        typed.typed = text
        return typed


for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,99})|[-+]?0x[0-9a-fA-F]{1,80}|[-+]?0o[0-7]{1,99}", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def text_keys(data: Mapping[Any, Any], what: str) -> dict[str, Any]:
    """A mapping with its keys as typed.

    Raises:
        ConfigError: A key is not a name.
    """
    return {spelled(key, f"A key of {what}"): value for key, value in data.items()}


def _reason(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        mark = error.problem_mark or error.context_mark
        problem = f"{error.context} {error.problem}" if error.problem.startswith("but ") else error.problem
        return " ".join(f"{problem}{f' in {_at(mark)}' if mark else ''}".split())
    return " ".join(str(error).split())


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}"
