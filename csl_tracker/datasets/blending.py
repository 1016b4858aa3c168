"""Fast colour blending with results identical to NumPy broadcasting.

Broadcasting (h, w, 1) or (3,) against (h, w, 3) has an inner loop of length 3. Operands with equal rows avoid that.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import Float32Array


def three_channels(plane: Float32Array) -> Float32Array:
    """Repeat a float32 (h, w) array to three channels, (h, w, 3)."""
    return cv2.merge((plane, plane, plane))  # type: ignore[return-value]


def color_row(color: npt.ArrayLike, width: int) -> Float32Array:
    """Repeat a colour (3,) to an image row, float32 (width, 3)."""
    return np.tile(np.asarray(color, np.float32), (width, 1))


def blend_color(image: Float32Array, alpha: Float32Array, color: Float32Array) -> None:
    """Blend a colour into an image, in place: ``image += alpha * (color - image)``.

    Args:
        image: float32 (h, w, 3).
        alpha: float32 (h, w), 0..1.
        color: float32 (3,), or (h, w, 3).
    """
    image += three_channels(alpha) * ((color_row(color, image.shape[1]) if color.ndim == 1 else color) - image)
