"""What goes in and out of a tracking session: frames, outputs, and the questions that it asks the node around it. No ROS."""

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
    """A picture that is made while someone subscribes to it; the value is the name of its topic below the node."""

    SEGMENTATION = "segmentation"
    SEGMENTATION_COLOR = "segmentation/color"
    OVERLAY = "overlay"


@dataclass(frozen=True)
class InputFrame:
    """An image that has arrived.

    Attributes:
        stamp_ns: Stamp of its header, ns; 0 means none.
        header: The header itself, handed on to what is published.
        decode: Makes the RGB image, uint8 (H, W, 3); raises ``ImageError`` where that is impossible. Called by the worker.
    """

    stamp_ns: int
    header: Any
    decode: Callable[[], Image]


class Outputs(Protocol):
    """How results leave a session."""

    def subscribed_pictures(self) -> Sequence[Picture]:
        """The pictures that someone subscribes to now."""

    def publish_poses(self, header: Any, result: TrackingResult, model: str) -> None:
        """Publish the instruments of a frame, found by the model of that label."""

    def publish_picture(self, picture: Picture, header: Any, image: Image) -> None:
        """Publish a picture: uint8 (H, W) labels or (H, W, 3) RGB."""

    def assert_liveliness(self) -> None:
        """Renew the lease of the poses."""


class Surroundings(Protocol):
    """What a session asks of the node around it."""

    def warn(self, key: str, text: str) -> None:
        """Log a warning, unless one of this key was logged a moment ago."""

    def inform(self, key: str, text: str) -> None:
        """Log something that is no fault, at the same pace."""

    def now_ns(self) -> int:
        """Time on the clock of the stamps, ns."""

    def is_alive(self) -> bool:
        """Whether the process goes on; errors of frames are its end's fault otherwise."""

    def describe_image_source(self) -> str:
        """The topic of the images and who publishes it."""

    def explain_missing_camera_info(self) -> str:
        """Why no calibration has come."""
