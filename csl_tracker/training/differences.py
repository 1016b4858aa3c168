"""Differences between the configuration of a finished or interrupted run and the wanted one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from csl_tracker.network_names import upgraded
from csl_tracker.output import JSON_DECIMALS
from csl_tracker.training.config import SourceConfig, TrainConfig

_WRITTEN = 10.0**-JSON_DECIMALS
"""Rounding error of numbers read from a report."""


def differing_setting(before: Any, now: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first difference between two configurations: its dotted name and both values.

    A setting that is missing in ``before`` (written by an older version) counts as its default.
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        if key == "network":
            before = upgraded(before)
        for name, value in now.items():
            path = f"{key}.{name}" if key else name
            known = before[name] if name in before else _default(path)
            if (found := differing_setting(known, value, path)) is not None:
                return found
        return None
    if isinstance(before, list | tuple) and isinstance(now, list | tuple) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return next((found for i, (a, b) in pairs if (found := differing_setting(a, b, f"{key}.{i}")) is not None), None)
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, now))
    same = abs(before - now) <= _WRITTEN if numbers else before == now
    return None if same else (key, before, now)


def _default(path: str) -> Any:
    """Default of a setting by its dotted name, or None."""
    section, _, name = path.rpartition(".")
    if re.fullmatch(r"(train|validation)\.\d+", section):
        return SourceConfig.__dataclass_fields__[name].default
    value: Any = dataclasses.asdict(TrainConfig())
    for step in path.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value
