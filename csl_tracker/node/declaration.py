"""Declare a node's parameters: unknown ones are refused, an integer is taken for a double, and every value is checked."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from csl_tracker.errors import ConfigError
from csl_tracker.node.hints import unknown
from csl_tracker.node.parameter_table import Change, Parameter, ParameterTable, check
from csl_tracker.yaml_files import parse_yaml

_FOREIGN = ("use_sim_time", "start_type_description_service")
"""Parameters of every node, which rclpy declares."""


def declare_parameters(node: Node, table: ParameterTable, arguments: Sequence[str] | None = None) -> None:
    """Declare the parameters of a table and check what was given.

    What was given to this node under its own name, by ``-p`` or in the process, has to be known. What a file gives to all nodes
    (``/**``) may be meant for others, and is named in a warning.

    Args:
        node: The node, none of whose own parameters is declared yet.
        table: Its parameters.
        arguments: Command line of the process; None takes the process's own.

    Raises:
        ParameterException: A parameter was given with another type, or out of its range.
        ConfigError: A parameter is unknown, or none of its choices.
    """
    words = sys.argv if arguments is None else arguments
    for path, sections in unused_files(node.get_name(), words).items():
        node.get_logger().warning(
            f"The parameters file {path} has nothing for a node named {node.get_name()} (it has {', '.join(sections)}), and is"
            " not used; name the section after the node."
        )
    given: dict[str, Any] = node._parameter_overrides  # rclpy has no public name for them
    for name, override in given.items():
        given[name] = as_double(override, table[name].default if name in table else None)
    _refuse_unknown(node, table, given, words)
    for name, parameter in table.items():
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        node.declare_parameter(name, default, _descriptor(parameter))
        check(table, name, node.get_parameter(name).value)


def _refuse_unknown(node: Node, table: ParameterTable, given: Iterable[str], words: Sequence[str]) -> None:
    known = (*table, *_FOREIGN)
    strange = [name for name in given if name not in known and not name.startswith("qos_overrides.")]
    if not strange:
        return
    shared = shared_names(node.get_name(), words)
    own = sorted(name for name in strange if name not in shared)
    if own:
        raise ConfigError(
            f"{node.get_name()} has no parameter {unknown(own, table)}; take it out, or give one of {', '.join(table)}."
        )
    node.get_logger().warning(
        "Parameters that a file gives to all nodes are ignored, this node does not know them:"
        f" {unknown(sorted(strange), table)}."
    )


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    constraints = f"one of {parameter.range}" if parameter.choices else ""
    descriptor = ParameterDescriptor(
        description=f"{parameter.description} May be changed: {parameter.change.value}.",
        additional_constraints=constraints,
        read_only=parameter.change is Change.START,
    )
    if parameter.limits is not None and parameter.kind == "integer":
        low, high = (int(limit) for limit in parameter.limits)
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    elif parameter.limits is not None:
        descriptor.floating_point_range = [FloatingPointRange(from_value=parameter.limits[0], to_value=parameter.limits[1])]
    return descriptor


def as_double(parameter: Any, default: Any) -> Any:
    """A parameter, an integer as the double that its default is: ``rate:=1`` means 1.0."""
    if isinstance(default, float) and parameter.type_ == RosParameter.Type.INTEGER:
        return RosParameter(parameter.name, RosParameter.Type.DOUBLE, float(parameter.value))
    return parameter


def shared_names(node: str, arguments: Sequence[str]) -> set[str]:
    """Parameters that the command line's files give to nodes of any name, and to this one not by its own.

    Args:
        node: Name of the node, without its namespace.
        arguments: Command line.
    """
    shared: set[str] = set()
    own: set[str] = set()
    for flag, value in itertools.pairwise(arguments):
        if flag == "--params-file":
            for section, names in _sections(Path(value)):
                (own if section.rpartition("/")[2] == node else shared).update(names)
        elif flag in ("-p", "--param"):
            own.add(value.partition(":=")[0].rpartition(":")[2])
    return shared - own


def unused_files(node: str, arguments: Sequence[str]) -> dict[str, list[str]]:
    """The command line's files of parameters that have no section for a node: path -> their sections."""
    found = {}
    for flag, value in itertools.pairwise(arguments):
        if flag == "--params-file":
            sections = [section for section, _ in _sections(Path(value))]
            if sections and not any(section.rpartition("/")[2] in (node, "*", "**") for section in sections):
                found[value] = sections
    return found


def _sections(path: Path) -> Iterable[tuple[str, set[str]]]:
    try:
        content = parse_yaml(path.read_bytes())
    except (OSError, ValueError):
        return  # rcl has read it, or has said why not
    if isinstance(content, Mapping):
        yield from _walk("", content)


def _walk(prefix: str, content: Mapping[Any, Any]) -> Iterable[tuple[str, set[str]]]:
    for key, value in content.items():
        if not isinstance(value, Mapping):
            continue
        if key == "ros__parameters":
            yield prefix, set(_flat("", value))
        else:
            yield from _walk(f"{prefix.rstrip('/')}/{str(key).strip('/')}", value)


def _flat(prefix: str, content: Mapping[Any, Any]) -> Iterable[str]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.", value)
        else:
            yield name
