"""What all engines on the CPU share: the image is resized into the network's own input, and little is allocated."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from csl_tracker.engines.base import EngineOutput, Float32Array, NetworkArrays, PixelMap, locate_points, mirror_order
from csl_tracker.engines.labels import LabelUpsampler
from csl_tracker.engines.parallel import Pair
from csl_tracker.pixels import Size, resize_image
from csl_tracker.weights import Model

_WORTH_HALVING_PX = 300_000
"""Source pixels from which two threads resize faster than one."""

_LARGEST_LOGIT = 80.0
"""Above it the exponential of a float32 is infinite, and the probability is 1 long before."""


class CpuEngine:
    """Pre- and post-processing with OpenCV around ``infer``, which the concrete engines bring.

    Args:
        model: What to run.
        mirror: Average heatmaps and scores with those of the mirrored image, at twice the time.

    Attributes:
        name: Engine name.
        device: ``cpu``.
        reason: Why this engine runs.
    """

    name = "cpu"
    device = "cpu"
    reason = ""

    def __init__(self, model: Model, mirror: bool = False) -> None:
        self.model = model
        self.preprocessing = model.description.preprocessing
        self.mirror_order = mirror_order(model) if mirror else None
        self._buffers: dict[Size, npt.NDArray[np.uint8]] = {}
        self._pair = Pair()
        self._labels = LabelUpsampler()
        self._logits_memory = np.empty((0, 0, 0), np.float32)

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """Run the network on uint8 (h, w, 3) at the working size."""
        raise NotImplementedError

    def input_buffer(self, size: Size) -> npt.NDArray[np.uint8]:
        """Uint8 (h, w, 3) memory that :meth:`infer` takes without a copy; of one size always the same."""
        if size not in self._buffers:
            self._buffers[size] = self.make_buffer(size)
        return self._buffers[size]

    def make_buffer(self, size: Size) -> npt.NDArray[np.uint8]:
        """Make what :meth:`input_buffer` keeps."""
        return np.empty((*size, 3), np.uint8)

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`csl_tracker.engines.base.Engine.run`."""
        source = (image.shape[0], image.shape[1])
        working = self.preprocessing.working_size(source)
        small = self.input_buffer(working)
        self._resize(image, small)
        found = self.infer(small)
        if self.mirror_order is not None:
            straight = NetworkArrays(_copy(found.heatmaps), _copy(found.scores))
            mirrored = self.infer(np.ascontiguousarray(small[:, ::-1]))
            found = _mean_with_mirror(straight, mirrored, self.mirror_order)
        foreground, label_map = None, None
        if found.scores is not None:
            logits = self._logits(found.scores)
            label_map = self._labels(logits, source) if segmentation else None
            foreground = probability_of_tool(logits)
        points = None if found.points is None else locate_points(found.points, working)
        return EngineOutput(_copy(found.heatmaps), foreground, label_map, PixelMap(source, working), points)

    def _logits(self, scores: Float32Array) -> Float32Array:
        """Scores less the background's, in memory that is kept."""
        shape = (scores.shape[0] - 1, *scores.shape[1:])
        if self._logits_memory.shape != shape:
            self._logits_memory = np.empty(shape, np.float32)
        np.subtract(scores[1:], scores[0], out=self._logits_memory)
        return self._logits_memory

    def warm_up(self, size: Size) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.warm_up`."""
        self.run(np.zeros((*size, 3), np.uint8), segmentation=True)

    def _resize(self, image: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]) -> None:
        """:func:`csl_tracker.pixels.resize_image` into memory that is there, the halves of a large image at once."""
        height, half = image.shape[0], target.shape[0] // 2
        shrinks = target.shape[0] < height and target.shape[1] < image.shape[1]
        # An area mean reads the px that it covers and no others, so that halves that meet between two px are the whole.
        if not shrinks or height % 2 or target.shape[0] % 2 or height * image.shape[1] < _WORTH_HALVING_PX:
            resize_image(image, (target.shape[0], target.shape[1]), target)
            return
        size = (half, target.shape[1])
        self._pair.run(
            lambda: resize_image(image[height // 2 :], size, target[half:]),
            lambda: resize_image(image[: height // 2], size, target[:half]),
        )


def probability_of_tool(logits: Float32Array) -> Float32Array:
    """Probability of any class but the background: one less the first of the softmax.

    Args:
        logits: float32 (classes - 1, h, w), each class's score less the background's; overwritten.

    Returns:
        float32 (h, w), new.
    """
    np.exp(np.minimum(logits, _LARGEST_LOGIT, out=logits), out=logits)
    odds: Float32Array = logits.sum(axis=0)
    np.divide(odds, 1.0 + odds, out=odds)
    return odds


def _copy(array: Float32Array | None) -> Float32Array | None:
    return None if array is None else np.array(array, np.float32, order="C")


def _mean_with_mirror(found: NetworkArrays, mirrored: NetworkArrays, order: list[int]) -> NetworkArrays:
    assert found.heatmaps is not None
    assert found.scores is not None
    assert mirrored.heatmaps is not None
    assert mirrored.scores is not None
    # The working width is even: the mirrored image's output px lie where the image's own do.
    heatmaps = 0.5 * (found.heatmaps + mirrored.heatmaps[order, :, ::-1])
    return NetworkArrays(heatmaps, 0.5 * (found.scores + mirrored.scores[:, :, ::-1]))
