"""Diagnostics of a tracker node as published on ``/diagnostics``: levels, names of values, and the received status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OK, WARN, ERROR, STALE = range(4)
"""Levels of ``diagnostic_msgs/DiagnosticStatus``."""

INPUT_RATE, RECEIVED, DROPPED, UNUSABLE = "input rate", "received", "dropped", "unusable"
"""Names of values; the reason follows ``UNUSABLE``."""


@dataclass(frozen=True)
class Diagnosis:
    """A received diagnostic status.

    Attributes:
        level: :data:`OK`, :data:`WARN`, :data:`ERROR` or :data:`STALE`.
        message: Summary.
        values: Values by name.
        received_s: Time of reception, s.
    """

    level: int
    message: str
    values: Mapping[str, str]
    received_s: float
