"""Notes in the metadata of the bags that this package writes: their keys and values."""

from __future__ import annotations

CLASSES_NOTE = "csl_tracker_classes"
"""Key under which the names of the label values stand, separated by commas."""

OFFLINE = {"csl_tracker_replay": "offline"}
ORIGINAL_STAMPS = {"csl_tracker_replay": "original stamps"}
"""Noted in a bag of results whose poses have the stamps of their images: it allows no measurement of latency."""
