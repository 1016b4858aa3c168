"""Parameter tables, shared by nodes, documentation and tests. This module imports no ROS."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from csl_tracker.errors import ConfigError
from csl_tracker.node.hints import set_at_start

Value = bool | int | float | str | tuple[str, ...]


class Change(Enum):
    """When a parameter may be changed."""

    START = "at the start"
    UNCONFIGURED = "while unconfigured"
    ALWAYS = "always"


_KINDS: dict[type, str] = {bool: "bool", int: "integer", float: "double", str: "string", tuple: "string array"}


@dataclass(frozen=True)
class Parameter:
    """A parameter.

    Attributes:
        default: Default value; a tuple is a string array.
        description: One or two sentences.
        change: When it may be changed.
        limits: Minimum and maximum of a number.
        choices: Allowed values of a string; ``:N`` at the end stands for a colon and a number. Empty allows any string.
    """

    default: Value
    description: str
    change: Change = Change.UNCONFIGURED
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """ROS's name of the type."""
        return _KINDS[type(self.default)]

    @property
    def range(self) -> str:
        """Range or choices as text; empty without either."""
        if self.limits is not None:
            return f"{self.limits[0]:g} to {self.limits[1]:g}"
        return ", ".join(self.choices)


ParameterTable = Mapping[str, Parameter]


def check(table: ParameterTable, name: str, value: Any) -> None:
    """Check a value.

    Raises:
        ConfigError: Wrong type, not an allowed choice, or out of range.
    """
    parameter = table[name]
    kind = tuple if isinstance(value, list) else type(value)
    if _KINDS.get(kind) != parameter.kind:
        raise ConfigError(f"{name} is {value!r}, which is no {parameter.kind}; give one, such as {parameter.default!r}.")
    if parameter.choices and not any(_matches(value, choice) for choice in parameter.choices):
        raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(parameter.choices)}.")
    limits = parameter.limits
    if limits is not None and not (math.isfinite(value) and limits[0] <= value <= limits[1]):
        raise ConfigError(f"{name} is {value}; give a number from {parameter.range}.")


def _matches(value: str, choice: str) -> bool:
    if choice.endswith(":N"):
        return re.fullmatch(re.escape(choice[:-1]) + "(0|[1-9][0-9]?)", value) is not None
    return value == choice


def refusal(table: ParameterTable, name: str, state: str, node: str) -> str | None:
    """Why a parameter cannot be changed now, with the remedy; None if it can.

    Args:
        table: The node's parameters.
        name: Name of a parameter in the table.
        state: Lifecycle state, such as ``active``.
        node: Full name of the node.
    """
    change = table[name].change
    if change is Change.START:
        return f"{name} is only read at start; restart the node with '{set_at_start(name, 'VALUE')}'."
    if change is Change.UNCONFIGURED and state != "unconfigured":
        steps = ("deactivate", "cleanup") if state == "active" else ("cleanup",)
        commands = " and ".join(f"'ros2 lifecycle set {node} {step}'" for step in steps)
        return (
            f"{name} is read when the node is configured, but the node is {state}: run {commands}, change it, then configure"
            " and activate again."
        )
    return None


def markdown(table: ParameterTable) -> str:
    """The parameter table of the documentation, as Markdown."""
    from csl_tracker.reporting.table import markdown as markdown_table

    rows = []
    for name, parameter in table.items():
        shown: Any = parameter.default
        if isinstance(shown, bool):
            shown = str(shown).lower()
        elif isinstance(shown, tuple):
            shown = f"[{', '.join(shown)}]"
        elif shown == "":
            shown = '""'
        rows.append((f"`{name}`", parameter.kind, f"`{shown}`", parameter.range, parameter.change.value, parameter.description))
    return markdown_table(("parameter", "type", "default", "range", "may be changed", "what it is"), rows) + "\n"
