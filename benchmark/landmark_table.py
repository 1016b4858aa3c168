"""Tables of ``docs/results/landmarks.json``: where the landmarks of EndoVis 2015 lie on an instrument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csl_tracker.reporting.table import markdown

BEGIN, END = "<!-- landmarks: benchmark/landmark_table.py -->", "<!-- end of landmarks -->"
_POSITIONS = {
    "center_midpoint": "`center`, midpoint of both annotations: along the shaft from the pitch axis",
    "center_tracked": "- its joint TrackedPoint alone",
    "center_pose": "- the pose file alone",
    "shaft": "`shaft`: along the shaft from the pitch axis",
    "head": "`head`: along the pitch link, on its visible cheek",
    "tip": "tips: along the clasper from the yaw axis",
}
_PARTS = {"fit": "Dataset1, frames 0 to 184 (fitted)", "held_out": "Dataset1, frames 185 to 369"}


def table(data: Mapping[str, Any]) -> str:
    """Both tables, Markdown."""
    positions = data["positions"]
    rows = []
    for key, name in _POSITIONS.items():
        found = positions[key]
        each = " / ".join(f"{value:.1f}" for value in found["by_instrument"])
        rows.append([name, f"{found['value']:.1f}", f"{found['bootstrap_sd']:.2f}", each])
    first = markdown(["landmark", "mm", "bootstrap, mm", "left / right instrument, mm"], rows)
    rows = []
    for key, part in data["parts"].items():
        fitted, unseen = part["fitted"], part["unseen"]["center_midpoint"]
        cells = [
            f"{fitted[name]['median_px']:.1f} ({fitted[name]['along_px']:+.1f})"
            for name in ("tracked", "shaft", "head", "tip_1")
        ]
        center = f"{unseen['median_px']:.1f} ({unseen['along_px']:+.1f})"
        rows.append([_PARTS.get(key, key), f"{len(part['frames'])} ({unseen['views']})", *cells, center])
    second = markdown(
        ["part", "frames (instruments)", "TrackedPoint", "`shaft`", "`head`", "first tip", "midpoint, not used for the pose"],
        rows,
    )
    return f"{first}\n\n{second}"
