"""The parameters of ``tracker_node``, shared by the node, its documentation and its tests. This module imports no ROS.

python -m csl_tracker.node.tracker_parameters          # the table of docs/node.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from csl_tracker.engines.factory import ENGINES
from csl_tracker.engines.precision import PRECISIONS
from csl_tracker.node.parameter_table import Change, Parameter, check, markdown

PARAMETERS: dict[str, Parameter] = {
    "autostart": Parameter(True, "Configure and activate at start; false waits for lifecycle transitions.", Change.START),
    "weights": Parameter(
        "",
        "Path of a .safetensors file of csl_tracker, or the name of built-in weights: csl_lite0 or csl_accurate. Empty for"
        " csl_lite0.",
        Change.START,
    ),
    "device": Parameter(
        "auto", "Device for the network; auto uses a GPU if there is one.", choices=("auto", "cpu", "cuda", "cuda:N")
    ),
    "engine": Parameter(
        "auto", "Inference engine; auto uses the fastest installed one with the same results.", choices=ENGINES
    ),
    "precision": Parameter(
        "auto",
        "Number format of the network; auto is float32 on the CPU and float16 on CUDA if that moves no landmarks. On the"
        " CPU bfloat16 is faster, but moves landmarks.",
        choices=PRECISIONS,
    ),
    "max_instruments": Parameter(2, "Largest number of visible instruments.", Change.ALWAYS, (1, 8)),
    "confidence_threshold": Parameter(
        -1.0,
        "Smallest confidence of a visible landmark, 0 to 1; negative for the model's default.",
        Change.ALWAYS,
        (-1.0, 1.0),
    ),
    "always_report": Parameter(
        False, "Report the max_instruments best guesses in every frame, however uncertain: for evaluation, not for control."
    ),
    "overlay": Parameter(True, "Draw ~/overlay for subscribers; false never draws it.", Change.ALWAYS),
    "rate_limit": Parameter(
        0.0, "Largest rate of tracked frames, Hz; further frames are skipped. 0 for no limit.", Change.ALWAYS, (0.0, 1000.0)
    ),
    "expected_rate": Parameter(
        30.0,
        "Expected rate of the poses, Hz: sets liveliness lease and deadline of ~/poses. 0 offers neither.",
        limits=(0.0, 1000.0),
    ),
    "stale_after": Parameter(
        1.0, "Time without an image after which diagnostics report stale input, s.", Change.ALWAYS, (0.01, 3600.0)
    ),
    "image_transport": Parameter(
        "raw", "compressed subscribes to <image>/compressed (JPEG, PNG, WebP, TIFF, BMP or GIF).", choices=("raw", "compressed")
    ),
    "image_reliability": Parameter(
        "best_effort",
        "Reliability of the image subscription: best_effort matches every publisher, reliable only reliable ones.",
        choices=("best_effort", "reliable"),
    ),
    "image_depth": Parameter(1, "Queue depth of the image subscription; only the newest image is tracked.", limits=(1, 100)),
    "pose_frame": Parameter(
        "raw",
        "Pixels of the poses: those of the received image, or of the image rectified by camera_info.",
        choices=("raw", "rectified"),
    ),
    "warm_up_width": Parameter(
        720,
        "Expected image width, px, for warming up before the first image; 0 skips the warm-up.",
        limits=(0, 16384),
    ),
    "warm_up_height": Parameter(576, "Expected image height, px; 0 skips the warm-up.", limits=(0, 16384)),
}


@dataclass(frozen=True)
class Settings:
    """Values of all parameters, described in :data:`PARAMETERS`."""

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
        """Check values and make settings of them.

        Args:
            values: A value for every parameter.

        Raises:
            ConfigError: Not one of the allowed choices, or out of range.
        """
        for name, value in values.items():
            check(PARAMETERS, name, value)
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @property
    def threshold(self) -> float | None:
        """The confidence threshold; None for the model's default."""
        return None if self.confidence_threshold < 0 else self.confidence_threshold


if __name__ == "__main__":
    print(markdown(PARAMETERS), end="")
