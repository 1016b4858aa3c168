"""Remove the grain of few paths per pixel, so that grain cannot tell rendered tools from their background."""

from __future__ import annotations

import cv2
import numpy as np

from csl_tracker.arrays import Image

_MEDIAN_PX = 3
_DIAMETER_PX = 5
_SIGMA_COLOR = 28.0
_SIGMA_PX = 1.6


def denoise(image: Image) -> Image:
    """A median against single bright or dark pixels, then an edge-preserving bilateral filter.

    Args:
        image: uint8 (h, w, 3).
    """
    steady = cv2.medianBlur(image, _MEDIAN_PX)
    return np.asarray(cv2.bilateralFilter(steady, _DIAMETER_PX, _SIGMA_COLOR, _SIGMA_PX), np.uint8)
