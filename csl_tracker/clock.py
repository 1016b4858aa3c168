"""Units of time."""

from __future__ import annotations

NS = 1_000_000_000
"""Nanoseconds per second."""
