"""The parameters of ``stereo_node``.

    python -m csl_tracker.node.stereo_parameters          # the table of docs/dvrk.md

All but ``autostart`` are read when the node is configured. This module imports no ROS.
"""

from __future__ import annotations

from csl_tracker.node.parameter_table import Change, Parameter, markdown
from csl_tracker.node.timing import LEASE_PERIODS

PARAMETERS: dict[str, Parameter] = {
    "autostart": Parameter(
        True, "Configure and activate at the start; false waits for the lifecycle's transitions.", Change.START
    ),
    "slots": Parameter(("left", "right"), "Instruments to publish, by their slots in the left image."),
    "position_landmark": Parameter("head", "Landmark whose position is the pose's."),
    "axis_landmarks": Parameter(
        ("center", "shaft"),
        "Two or more landmarks on the shaft's axis, in the order towards the tip: they give the orientation.",
    ),
    "pose_frame": Parameter(
        "raw",
        "Px in which the trackers' poses are: raw (of the camera's own image) or rectified; as the trackers' pose_frame.",
        choices=("raw", "rectified"),
    ),
    "output_frame": Parameter(
        "rectified",
        "Frame of the poses: rectified (the left camera's, as camera_info's P projects) or camera (before camera_info's R).",
        choices=("rectified", "camera"),
    ),
    "hand_eye": Parameter(
        "", "YAML file with the left camera's pose in an arm's base frame; empty stays in the camera's frame."
    ),
    "tolerance": Parameter(
        0.0,
        "Largest difference of the stamps of a pair, s; 0 takes equal stamps alone. Less than half the time between images.",
        limits=(0.0, 0.1),
    ),
    "min_confidence": Parameter(0.3, "Confidence of an instrument, in both images, from which it is used.", limits=(0.0, 1.0)),
    "require_orientation": Parameter(
        True,
        "Publish no instrument whose axis was not seen; false publishes it with no rotation and a covariance that says so.",
    ),
    "min_depth": Parameter(0.02, "Nearest depth that is believed, m.", limits=(0.001, 10.0)),
    "max_depth": Parameter(0.3, "Farthest depth that is believed, m.", limits=(0.001, 10.0)),
    "max_baseline": Parameter(
        0.1, "Longest baseline that is believed, m; a longer one is a calibration in mm.", limits=(0.001, 10.0)
    ),
    "epipolar_gate": Parameter(4.0, "Largest difference of a landmark's rows, in standard deviations.", limits=(0.5, 100.0)),
    "max_extent": Parameter(
        0.08, "Largest distance of a landmark from the middle one of its instrument, m.", limits=(0.001, 1.0)
    ),
    "min_landmarks": Parameter(2, "Landmarks that must agree before two instruments are one.", limits=(1, 100)),
    "pixel_noise": Parameter(
        0.5, "Standard deviation of what calibration and timing add to the tracker's own uncertainty, px.", limits=(0.01, 100.0)
    ),
    "ambiguity": Parameter(
        6.0, "Evidence by which the best pairing of instruments must win, as a chi-squared.", limits=(0.0, 1000.0)
    ),
    "expected_rate": Parameter(
        0.0,
        f"Rate of the images, Hz: outputs offer a deadline and a liveliness lease of {LEASE_PERIODS:g} periods; 0 offers none.",
        limits=(0.0, 1000.0),
    ),
    "discovery_time": Parameter(
        3.0, "How long to look for another publisher of the same topics before starting, s.", limits=(0.0, 60.0)
    ),
}


if __name__ == "__main__":
    print(markdown(PARAMETERS), end="")
