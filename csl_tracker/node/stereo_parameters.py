"""The parameters of ``stereo_node``.

    python -m csl_tracker.node.stereo_parameters          # the table of docs/dvrk.md

``autostart`` and ``hand_eye`` are set at the start, the others are read when the node is configured. No ROS is imported here.
"""

from __future__ import annotations

from csl_tracker.node.parameter_table import Change, Parameter, markdown
from csl_tracker.node.timing import LEASE_PERIODS

PARAMETERS: dict[str, Parameter] = {
    "autostart": Parameter(True, "Configure and activate at start; false waits for lifecycle transitions.", Change.START),
    "slots": Parameter(("left", "right"), "Instruments to publish, by their slots in the left image."),
    "position_landmark": Parameter("head", "Landmark that defines the position of the pose."),
    "axis_landmarks": Parameter(
        ("center", "shaft"),
        "Two or more landmarks on the shaft's axis, in order towards the tip; they define the orientation.",
    ),
    "pose_frame": Parameter(
        "raw",
        "Pixels of the trackers' poses: raw (camera image) or rectified; must equal the trackers' pose_frame.",
        choices=("raw", "rectified"),
    ),
    "output_frame": Parameter(
        "rectified",
        "Frame of the poses: rectified (the left camera's, as in camera_info's P) or camera (before camera_info's R).",
        choices=("rectified", "camera"),
    ),
    "hand_eye": Parameter(
        "",
        "YAML file with the left camera's pose in an arm's base frame; empty keeps poses in the camera's frame.",
        Change.START,
    ),
    "tolerance": Parameter(
        0.0,
        "Largest difference of the stamps of a pair, s; 0 requires equal stamps. Less than half the image period.",
        limits=(0.0, 0.1),
    ),
    "min_confidence": Parameter(0.3, "Smallest confidence of an instrument, in both images.", limits=(0.0, 1.0)),
    "require_orientation": Parameter(
        True,
        "Skip instruments without a visible axis; false publishes them with identity rotation and a large covariance.",
    ),
    "min_depth": Parameter(0.02, "Smallest valid depth, m.", limits=(0.001, 10.0)),
    "max_depth": Parameter(0.3, "Largest valid depth, m.", limits=(0.001, 10.0)),
    "max_baseline": Parameter(
        0.1, "Largest valid baseline, m; a longer one indicates a calibration in mm.", limits=(0.001, 10.0)
    ),
    "epipolar_gate": Parameter(4.0, "Largest row difference of a landmark, in standard deviations.", limits=(0.5, 100.0)),
    "max_extent": Parameter(
        0.08, "Largest distance of a landmark from its instrument's median landmark, m.", limits=(0.001, 1.0)
    ),
    "min_landmarks": Parameter(2, "Number of landmarks that must agree to match two instruments.", limits=(1, 100)),
    "pixel_noise": Parameter(
        0.5, "Standard deviation that calibration and timing add to the tracker's covariance, px.", limits=(0.01, 100.0)
    ),
    "ambiguity": Parameter(6.0, "Chi-squared margin by which the best matching of instruments must win.", limits=(0.0, 1000.0)),
    "expected_rate": Parameter(
        0.0,
        f"Image rate, Hz: sets deadline and liveliness lease of the outputs to {LEASE_PERIODS:g} periods; 0 offers neither.",
        limits=(0.0, 1000.0),
    ),
    "discovery_time": Parameter(
        3.0, "How long to search for other publishers of the same topics before starting, s.", limits=(0.0, 60.0)
    ),
}


if __name__ == "__main__":
    print(markdown(PARAMETERS), end="")
