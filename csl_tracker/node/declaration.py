"""Declare a node's parameters: refuse unknown names, convert integers to doubles, and check every value."""

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
"""Parameters that rclpy declares for every node."""


def declare_parameters(node: Node, table: ParameterTable, arguments: Sequence[str] | None = None) -> None:
    """Declare the parameters of a table and check the given values.

    Names given to this node itself (``-p``, its own section, or in the process) must be known. Unknown names in a section for
    all nodes (``/**``) cause only a warning.

    Args:
        node: A node without declared parameters.
        table: Its parameters.
        arguments: Command line; None for this process's own.

    Raises:
        ParameterException: Wrong type, or out of range.
        ConfigError: Unknown name, or not one of the allowed choices.
    """
    words = sys.argv if arguments is None else arguments
    for path, sections in unused_files(node.get_name(), words).items():
        node.get_logger().warning(
            f"The parameters file {path} is ignored: it has no section for a node named {node.get_name()} (its sections:"
            f" {', '.join(sections)}); rename the section after the node."
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
    strangers = [name for name in given if name not in known and not name.startswith("qos_overrides.")]
    if not strangers:
        return
    shared = shared_names(node.get_name(), words)
    own = sorted(name for name in strangers if name not in shared)
    if own:
        raise ConfigError(
            f"{node.get_name()} has no parameter {unknown(own, table)}; remove it, or use one of {', '.join(table)}."
        )
    node.get_logger().warning(
        f"Ignored parameters of a section for all nodes, which this node does not have: {unknown(sorted(strangers), table)}."
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
    """Convert an integer to a double if the default is a double, so that ``rate:=1`` works."""
    if isinstance(default, float) and parameter.type_ == RosParameter.Type.INTEGER:
        return RosParameter(parameter.name, RosParameter.Type.DOUBLE, float(parameter.value))
    return parameter


def shared_names(node: str, arguments: Sequence[str]) -> set[str]:
    """Parameters that the files on the command line set only in sections for other node names or for all nodes.

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
    """Parameter files on the command line without a section for the node: path -> names of their sections."""
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
        return  # rcl reports unreadable files itself
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
