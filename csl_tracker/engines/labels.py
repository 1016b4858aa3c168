"""Computes the label map at the source size from the network's scores."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.engines.base import Float32Array
from csl_tracker.engines.parallel import Pair
from csl_tracker.pixels import Size

_STRIP_PX = 1 << 17
"""Pixels compared per step; fits into the cache of a core."""


class LabelUpsampler:
    """Upsamples scores bilinearly and takes the argmax, as in the paper; reuses its buffers."""

    def __init__(self) -> None:
        self._pair = Pair()
        self._planes = np.empty((0, 0, 0), np.float32)
        self._flags = np.empty((0, 0), np.bool_)

    def __call__(self, logits: Float32Array, size: Size) -> npt.NDArray[np.uint8]:
        """Compute a label map.

        Args:
            logits: float32 (classes - 1, h, w), class scores minus the background score (saves resizing one channel), covering
                the target's field of view.
            size: (height, width) of the target.

        Returns:
            uint8 (height, width), a new array.
        """
        if self._planes.shape != (len(logits), *size):
            self._planes, self._flags = np.empty((len(logits), *size), np.float32), np.empty(size, np.bool_)
        half = (len(logits) + 1) // 2
        if len(logits) > 1:
            self._pair.run(
                lambda: self._upsample(logits[half:], self._planes[half:]),
                lambda: self._upsample(logits[:half], self._planes[:half]),
            )
        else:
            self._upsample(logits, self._planes)
        labels = np.empty(size, np.uint8)
        middle = size[0] // 2
        self._pair.run(
            lambda: self._compare(slice(middle, size[0]), labels),
            lambda: self._compare(slice(0, middle), labels),
        )
        return labels

    @staticmethod
    def _upsample(sources: Float32Array, targets: Float32Array) -> None:
        for source, target in zip(sources, targets, strict=True):
            cv2.resize(source, (target.shape[1], target.shape[0]), target, interpolation=cv2.INTER_LINEAR)

    def _compare(self, rows: slice, labels: npt.NDArray[np.uint8]) -> None:
        """Fill rows of the label map; overwrites the first plane with the running maximum."""
        step = max(1, _STRIP_PX // max(1, labels.shape[1]))
        for top in range(rows.start, rows.stop, step):
            strip = slice(top, min(top + step, rows.stop))
            best, found, flags = self._planes[0, strip], labels[strip], self._flags[strip]
            np.greater(best, 0, out=found.view(np.bool_))
            for number, plane in enumerate(self._planes[1:, strip], 2):
                np.maximum(best, self._planes[number - 2, strip] if number > 2 else 0, out=best)
                np.greater(plane, best, out=flags)
                # A later class with a higher score also has a larger label, so the maximum selects it.
                np.maximum(found, np.multiply(flags.view(np.uint8), np.uint8(number), out=flags.view(np.uint8)), out=found)


def upsample_labels(scores: Float32Array, size: Size) -> npt.NDArray[np.uint8]:
    """:class:`LabelUpsampler` for the scores (classes, h, w) of a single image."""
    return LabelUpsampler()(scores[1:] - scores[0], size)
