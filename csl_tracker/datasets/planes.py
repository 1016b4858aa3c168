"""Images with planes and colours: what broadcasting does, with the same bits and in a fraction of the time.

NumPy's inner loop over (h, w, 1) or (3,) against (h, w, 3) is three numbers long; these make its partners as long as the rows.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]


def tripled(plane: Field) -> Field:
    """A plane, float32 (h, w), as an image of three equal channels, (h, w, 3)."""
    return cv2.merge((plane, plane, plane))  # type: ignore[return-value]


def row(color: npt.ArrayLike, width: int) -> Field:
    """A colour (3,) as a row of an image, float32 (width, 3)."""
    return np.tile(np.asarray(color, np.float32), (width, 1))


def lay(image: Field, alpha: Field, color: Field) -> None:
    """Lay a colour over an image, in place: ``image += alpha * (color - image)``.

    Args:
        image: float32 (h, w, 3).
        alpha: float32 (h, w), 0..1.
        color: float32 (3,), or (h, w, 3).
    """
    image += tripled(alpha) * ((row(color, image.shape[1]) if color.ndim == 1 else color) - image)
