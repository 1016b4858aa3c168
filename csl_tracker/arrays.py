"""Types of arrays. A shape and a range stand where an array is described; the names say what it holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""uint8 (H, W, 3), RGB, or (H, W) where it says gray."""
LabelMap = npt.NDArray[np.uint8]
"""uint8 (H, W), a class, or the number of an instrument, for every pixel."""
Mask = npt.NDArray[np.bool_]
"""bool."""
FloatArray = npt.NDArray[np.float64]
"""float64, such as points in px, (n, 2)."""
Float32Array = npt.NDArray[np.float32]
"""float32, such as heatmaps, probabilities and images in computation."""
IntArray = npt.NDArray[np.int64]
"""int64."""
IndexArray = npt.NDArray[np.intp]
"""Indices into another array."""
