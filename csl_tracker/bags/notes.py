"""Keys and values of this package's notes in bag metadata."""

from __future__ import annotations

CLASSES_NOTE = "csl_tracker_classes"
"""Key of the names of the label values, separated by commas."""

OFFLINE = {"csl_tracker_replay": "offline"}
ORIGINAL_STAMPS = {"csl_tracker_replay": "original stamps"}
"""Marks a bag of results whose poses have the stamps of their images, so that latency cannot be measured."""
