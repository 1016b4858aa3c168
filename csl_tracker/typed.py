"""Typed settings: value types for YAML files, and pydantic errors as one sentence.

A section of a file is a pydantic dataclass derived from :class:`Section`. Its fields define type, range and description, from
which the JSON schema for editors is generated. pydantic is part of the ``train`` extra; the node uses plain dataclasses.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, TypeVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs, PydanticCustomError

from csl_tracker.errors import ConfigError
from csl_tracker.text import excerpt
from csl_tracker.yaml_files import as_bool, spelled

SETTINGS = ConfigDict(extra="forbid", use_attribute_docstrings=True)
"""Configuration of every :class:`Section`; the docstring below a field is its description."""

_LONGEST = 80
"""Maximum characters of a value in an error message."""


def mistake(clause: str) -> PydanticCustomError:
    """Create the exception for a validator to raise.

    Args:
        clause: The text after the setting's name, such as ``is 3; give an even number``, without a full stop.
    """
    return PydanticCustomError("mistake", "{clause}", {"clause": clause})


def _text(value: Any) -> str:
    try:
        return spelled(value, "")
    except ConfigError as error:
        raise mistake(str(error).strip().removesuffix(".")) from error


def _name(value: Any) -> str:
    text = _text(value)
    if not text.strip():
        raise mistake(f"is {value!r}; give a text that is not empty")
    return text


def _flag(value: Any) -> bool:
    try:
        return as_bool(value, "")
    except ConfigError as error:
        raise mistake(str(error).strip().removesuffix(".")) from error


def _number(value: Any) -> float:
    """Parse a finite number; accepts text, since YAML has other number formats than Python."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str) or not math.isfinite(number := float(value)):
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise mistake(f"is {_shown(value)}; give a finite number") from error
    return number


def _whole(value: Any) -> int:
    """Parse a whole number: ``1000``, ``1000.0``, ``1e3`` or ``'1000'``."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = int(value)
        if isinstance(value, float) and number != value:
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise mistake(f"is {_shown(value)}; give a whole number") from error
    return number


def _pair(value: Any) -> Any:
    if isinstance(value, list | tuple) and len(value) != 2:
        raise mistake(f"is {_shown(value)}; give 2 values, height and width")
    return value


TEXT = BeforeValidator(_text)
WHOLE = BeforeValidator(_whole)
NUMBER = BeforeValidator(_number)
PAIR = BeforeValidator(_pair)
_TEXT_OR_NUMBER = Field(json_schema_extra={"type": ["string", "number"]})  # 0012 keeps its spelling

Text = Annotated[str, TEXT, _TEXT_OR_NUMBER]
Name = Annotated[str, Field(min_length=1), BeforeValidator(_name), _TEXT_OR_NUMBER]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, Field(ge=1), WHOLE]
CountOrNone = Annotated[int, Field(ge=0), WHOLE]
Share = Annotated[float, Field(ge=0, le=1), NUMBER]
Positive = Annotated[float, Field(gt=0), NUMBER]
NotNegative = Annotated[float, Field(ge=0), NUMBER]


@dataclass(frozen=True, config=SETTINGS)
class Section:
    """Base of the sections of a file; rejects unknown keys and suggests the nearest known one."""

    @model_validator(mode="wrap")
    @classmethod
    def _check_keys(cls, data: Any, validate: ModelWrapValidatorHandler[Any]) -> Any:
        if isinstance(data, cls):
            return validate(data)
        if isinstance(data, ArgsKwargs):  # constructed in Python
            try:
                return validate(data)
            except ValidationError as error:
                raise ConfigError(sentence(error, cls.__name__)) from error
        if not isinstance(data, Mapping):
            raise mistake(f"holds {_shown(data)} where a section with settings belongs")
        known = [field.name for field in fields(cls)]
        unknown = next((key for key in data if key not in known), None)
        if unknown is not None:
            near = difflib.get_close_matches(str(unknown), known, n=1)
            remedy = f"the nearest known one is {near[0]!r}" if near else f"known are {', '.join(known)}"
            raise mistake(f"has the unknown setting {_shown(unknown)}; {remedy}")
        return validate(dict(data))


T = TypeVar("T")


def checked(kind: type[T], data: Any, where: str) -> T:
    """Validate plain data.

    Args:
        kind: A :class:`Section`, or another type supported by pydantic.
        data: Plain data from YAML.
        where: Name of the data in messages.

    Raises:
        ConfigError: A key is unknown, or a value is missing, of the wrong type or out of range.
    """
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        raise ConfigError(sentence(error, where)) from error


def sentence(error: ValidationError, where: str) -> str:
    """The first error of a pydantic validation, as one sentence; ``where`` names the data."""
    found = error.errors(include_url=False)[0]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in found["loc"]).lstrip(".")
    clause = _clause(found["type"], found["input"], found.get("ctx", {}), found["msg"])
    if not path:
        return f"{where} {clause.replace('is ', 'holds ', 1) if clause.startswith('is ') else clause}."
    return f"{where}: {path} {clause}."


_REMEDIES = {
    "greater_than_equal": "give at least {ge}",
    "greater_than": "give more than {gt}",
    "less_than_equal": "give at most {le}",
    "less_than": "give less than {lt}",
    "multiple_of": "give a multiple of {multiple_of}",
    "too_short": "give a list that is not empty",
    "tuple_type": "give a list",
    "dict_type": "give a mapping of names to values",
}
"""pydantic error type -> remedy; see https://docs.pydantic.dev/latest/errors/validation_errors/."""


def _clause(kind: str, value: Any, context: Mapping[str, Any], message: str) -> str:
    if kind == "mistake":
        return message
    if kind == "unexpected_keyword_argument":
        return "is unknown; leave it out"
    if kind == "missing":
        return "is missing; add it"
    if kind == "literal_error":
        return f"{_shown(value)} is unknown; choose one of {context['expected']}"
    remedy = _REMEDIES.get(kind, message)
    numbers = {key: f"{number:g}" if isinstance(number, float) else number for key, number in context.items()}
    return f"is {_shown(value)}; {remedy.format_map(numbers)}"


def _shown(value: Any) -> str:
    return excerpt(f"{value:g}" if isinstance(value, float) else repr(value), _LONGEST)
