"""What a replay notes about its recording."""

from __future__ import annotations

OFFLINE = {"csl_tracker_replay": "offline"}
ORIGINAL_STAMPS = {"csl_tracker_replay": "original stamps"}
"""Noted in the metadata of a bag of results whose poses stand at the stamps of their images: it tells of no latency."""
