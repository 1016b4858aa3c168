"""What a tracker node says of itself on ``/diagnostics``: levels, names of values, and the status that others receive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OK, WARN, ERROR, STALE = range(4)
"""Levels of ``diagnostic_msgs/DiagnosticStatus``."""

INPUT_RATE, RECEIVED, DROPPED, UNUSABLE = "input rate", "received", "dropped", "unusable"
"""Names of values; that of unusable images goes on with the reason."""


@dataclass(frozen=True)
class Diagnosis:
    """What the node says of itself on ``/diagnostics``.

    Attributes:
        level: :data:`OK`, :data:`WARN`, :data:`ERROR` or :data:`STALE`.
        message: Its summary.
        values: Its values, by name.
        received_s: When, s.
    """

    level: int
    message: str
    values: Mapping[str, str]
    received_s: float
