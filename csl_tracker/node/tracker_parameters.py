"""The parameters of ``tracker_node``: the one table that the node declares, the documentation shows and the tests compare.

    python -m csl_tracker.node.tracker_parameters          # the table of docs/node.md

This module imports no ROS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from csl_tracker.engines.factory import ENGINES
from csl_tracker.engines.precision import PRECISIONS
from csl_tracker.node.parameter_table import Change, Parameter, check, markdown

PARAMETERS: dict[str, Parameter] = {
    "autostart": Parameter(
        True, "Configure and activate at the start; false waits for the lifecycle's transitions.", Change.START
    ),
    "weights": Parameter(
        "",
        "Path of a .safetensors file of csl_tracker, or csl_lite0 or csl_accurate, which come with the package; empty takes"
        " csl_lite0.",
        Change.START,
    ),
    "device": Parameter(
        "auto", "Where the network runs; auto takes a GPU where there is one.", choices=("auto", "cpu", "cuda", "cuda:N")
    ),
    "engine": Parameter(
        "auto", "What runs the network; auto takes the fastest that is installed and says the same.", choices=ENGINES
    ),
    "precision": Parameter(
        "auto",
        "What the network computes in; auto is float32 on the CPU and float16 on CUDA, where that moves no landmarks. On the"
        " CPU bfloat16 is faster and moves landmarks.",
        choices=PRECISIONS,
    ),
    "max_instruments": Parameter(2, "Largest number of instruments in view.", Change.ALWAYS, (1, 8)),
    "confidence_threshold": Parameter(
        -1.0,
        "Confidence from which a landmark counts as visible, 0 to 1; below 0 takes the model's own.",
        Change.ALWAYS,
        (-1.0, 1.0),
    ),
    "always_report": Parameter(
        False, "Report max_instruments best guesses in each frame, however unsure: for measuring, not for control."
    ),
    "overlay": Parameter(True, "Draw ~/overlay while someone subscribes; false draws it never.", Change.ALWAYS),
    "rate_limit": Parameter(
        0.0, "Frames tracked per second at most, Hz; the others are skipped. 0 takes all.", Change.ALWAYS, (0.0, 1000.0)
    ),
    "expected_rate": Parameter(
        30.0,
        "Rate at which poses are to come, Hz: it sets liveliness lease and deadline of ~/poses. 0 offers neither.",
        limits=(0.0, 1000.0),
    ),
    "stale_after": Parameter(
        1.0, "Diagnostics call the input stale when no image has come for so long, s.", Change.ALWAYS, (0.01, 3600.0)
    ),
    "image_transport": Parameter(
        "raw", "compressed subscribes to <image>/compressed (JPEG, PNG, WebP, TIFF, BMP or GIF).", choices=("raw", "compressed")
    ),
    "image_reliability": Parameter(
        "best_effort",
        "Reliability to ask of the camera: best_effort fits every publisher, reliable only a reliable one.",
        choices=("best_effort", "reliable"),
    ),
    "image_depth": Parameter(1, "Images that the middleware keeps; the newest one alone is tracked.", limits=(1, 100)),
    "pose_frame": Parameter(
        "raw",
        "Pixels that poses are in: those of the image as it comes, or those of the rectified image of camera_info.",
        choices=("raw", "rectified"),
    ),
    "warm_up_width": Parameter(
        720,
        "Width of the images to be expected, px: their size is prepared before the first one comes; 0 skips it.",
        limits=(0, 16384),
    ),
    "warm_up_height": Parameter(576, "Height of the images to be expected, px; 0 skips it.", limits=(0, 16384)),
}


@dataclass(frozen=True)
class Settings:
    """The values of all parameters at one moment; what each means stands in :data:`PARAMETERS`."""

    autostart: bool
    weights: str
    device: str
    engine: str
    precision: str
    max_instruments: int
    confidence_threshold: float
    always_report: bool
    overlay: bool
    rate_limit: float
    expected_rate: float
    stale_after: float
    image_transport: Literal["raw", "compressed"]
    image_reliability: Literal["best_effort", "reliable"]
    image_depth: int
    pose_frame: Literal["raw", "rectified"]
    warm_up_width: int
    warm_up_height: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Take over checked values.

        Args:
            values: A value for every parameter.

        Raises:
            ConfigError: A text is none of its choices, or a number out of range.
        """
        for name, value in values.items():
            check(PARAMETERS, name, value)
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def threshold(self) -> float | None:
        """The confidence threshold; None takes the model's own."""
        return None if self.confidence_threshold < 0 else self.confidence_threshold


if __name__ == "__main__":
    print(markdown(PARAMETERS), end="")
