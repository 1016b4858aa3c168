"""Array type aliases. Shapes and ranges are documented where the arrays are used."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""uint8 (H, W, 3) RGB, or (H, W) grayscale where stated."""
LabelMap = npt.NDArray[np.uint8]
"""uint8 (H, W): the class or instrument number of each pixel."""
Mask = npt.NDArray[np.bool_]
"""bool."""
FloatArray = npt.NDArray[np.float64]
"""float64, such as points in px, (n, 2)."""
Float32Array = npt.NDArray[np.float32]
"""float32, such as heatmaps, probabilities and normalised images."""
IntArray = npt.NDArray[np.int64]
"""int64."""
IndexArray = npt.NDArray[np.intp]
"""Indices into another array."""
