"""The parameters of ``stereo_node``: the one table that the node declares and the documentation shows.

    python -m csl_tracker.node.stereo_parameters          # the table of docs/dvrk.md

All are read at the start. This module imports no ROS.
"""

from __future__ import annotations

from typing import Any

from csl_tracker.node.timing import LEASE_PERIODS

CHOICES = {"pose_frame": ("raw", "rectified"), "output_frame": ("rectified", "camera")}
"""The values that a text may have."""

# name -> (default, description, range or None)
PARAMETERS: dict[str, tuple[Any, str, tuple[float, float] | None]] = {
    "slots": (["left", "right"], "Instruments to publish, by their slots in the left image.", None),
    "position_landmark": ("head", "Landmark whose position is the pose's.", None),
    "axis_landmarks": (
        ["center", "shaft"],
        "Two or more landmarks on the shaft's axis, in the order towards the tip: they give the orientation.",
        None,
    ),
    "pose_frame": (
        "raw",
        "Px in which the trackers' poses are: raw (of the camera's own image) or rectified; as the trackers' pose_frame.",
        None,
    ),
    "output_frame": (
        "rectified",
        "Frame of the poses: rectified (the left camera's, as camera_info's P projects) or camera (before camera_info's R).",
        None,
    ),
    "hand_eye": ("", "YAML file with the left camera's pose in an arm's base frame; empty stays in the camera's frame.", None),
    "tolerance": (
        0.0,
        "Largest difference of the stamps of a pair, s; 0 takes equal stamps alone. Less than half the time between images.",
        (0.0, 0.1),
    ),
    "min_confidence": (0.3, "Confidence of an instrument, in both images, from which it is used.", (0.0, 1.0)),
    "require_orientation": (
        True,
        "Publish no instrument whose axis was not seen; false publishes it with no rotation and a covariance that says so.",
        None,
    ),
    "min_depth": (0.02, "Nearest depth that is believed, m.", (0.001, 10.0)),
    "max_depth": (0.3, "Farthest depth that is believed, m.", (0.001, 10.0)),
    "max_baseline": (0.1, "Longest baseline that is believed, m; a longer one is a calibration in mm.", (0.001, 10.0)),
    "epipolar_gate": (4.0, "Largest difference of a landmark's rows, in standard deviations.", (0.5, 100.0)),
    "max_extent": (0.08, "Largest distance of a landmark from the middle one of its instrument, m.", (0.001, 1.0)),
    "min_landmarks": (2, "Landmarks that must agree before two instruments are one.", (1, 100)),
    "pixel_noise": (
        0.5,
        "Standard deviation of what calibration and timing add to the tracker's own uncertainty, px.",
        (0.01, 100.0),
    ),
    "ambiguity": (6.0, "Evidence by which the best pairing of instruments must win, as a chi-squared.", (0.0, 1000.0)),
    "expected_rate": (
        0.0,
        f"Rate of the images, Hz: outputs offer a deadline and a liveliness lease of {LEASE_PERIODS:g} periods; 0 offers none.",
        (0.0, 1000.0),
    ),
    "discovery_time": (3.0, "How long to look for another publisher of the same topics before starting, s.", (0.0, 60.0)),
}


def markdown() -> str:
    """The table of the documentation."""
    lines = ["| parameter | default | range | what it is |", "| --- | --- | --- | --- |"]
    for name, (default, description, limits) in PARAMETERS.items():
        shown = f"[{', '.join(default)}]" if isinstance(default, list) else default
        shown = {True: "true", False: "false"}[shown] if isinstance(shown, bool) else shown
        bounds = ", ".join(CHOICES.get(name, ())) if limits is None else f"{limits[0]:g} to {limits[1]:g}"
        lines.append(f"| `{name}` | {f'`{shown}`' if shown != '' else ''} | {bounds} | {description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
