"""Interfaces of a tracking session: input frames, outputs, and queries to its node. No ROS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from csl_tracker.results import TrackingResult

Image = npt.NDArray[np.uint8]


class Picture(Enum):
    """A picture that is made only for subscribers; the value is its topic name below the node."""

    SEGMENTATION = "segmentation"
    SEGMENTATION_COLOR = "segmentation/color"
    OVERLAY = "overlay"


@dataclass(frozen=True)
class InputFrame:
    """A received image.

    Attributes:
        stamp_ns: Stamp of the header, ns; 0 means none.
        header: The message header, copied to the results.
        decode: Returns the RGB image, uint8 (H, W, 3), or raises ``ImageError``. Called by the worker.
    """

    stamp_ns: int
    header: Any
    decode: Callable[[], Image]


class Outputs(Protocol):
    """Publishes the results of a session."""

    def subscribed_pictures(self) -> Sequence[Picture]:
        """Pictures that have subscribers."""

    def publish_poses(self, header: Any, result: TrackingResult, model: str) -> None:
        """Publish the instruments of a frame; ``model`` is the model's label."""

    def publish_picture(self, picture: Picture, header: Any, image: Image) -> None:
        """Publish a picture: uint8 (H, W) labels or (H, W, 3) RGB."""

    def assert_liveliness(self) -> None:
        """Renew the lease of the poses."""


class Surroundings(Protocol):
    """The node's services for a session."""

    def warn(self, key: str, text: str) -> None:
        """Log a warning, at a limited rate per key."""

    def inform(self, key: str, text: str) -> None:
        """Log an info message, at the same rate."""

    def now_ns(self) -> int:
        """Time on the clock of the stamps, ns."""

    def is_alive(self) -> bool:
        """False during shutdown, when errors of frames are expected."""

    def describe_image_source(self) -> str:
        """The image topic and its publishers, as text."""

    def explain_missing_camera_info(self) -> str:
        """Why no calibration has arrived."""
