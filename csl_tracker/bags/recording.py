"""What a replay notes about its recording, and the label maps in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from csl_tracker.errors import BagError

OFFLINE = {"csl_tracker_replay": "offline"}
ORIGINAL_STAMPS = {"csl_tracker_replay": "original stamps"}
"""Noted in the metadata of a bag of results whose poses stand at the stamps of their images: it tells of no latency."""


def label_map(message: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The label map, uint8 (H, W), of a mono8 image message.

    Raises:
        BagError: It is no mono8 image, or its size does not agree with its data.
    """
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if message.encoding != "mono8" or step < width or data.size != height * step:
        raise BagError(
            f"A label map is a mono8 image, but this one is {message.encoding!r}, {width}x{height} px with {data.size} bytes."
        )
    return data.reshape(height, step)[:, :width]
