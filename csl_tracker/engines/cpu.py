"""Base of the CPU engines: resizes the image directly into the network's input buffer and reuses memory."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from csl_tracker.engines.base import (
    EngineOutput,
    Float32Array,
    ForegroundOfScores,
    LabelMapMaker,
    NetworkArrays,
    PixelMap,
    RunsAtOnce,
    locate_points,
    mirror_order,
    scaled_offsets,
)
from csl_tracker.engines.labels import LabelUpsampler
from csl_tracker.engines.parallel import Pair
from csl_tracker.pixels import Size, halve, halvings, resize_image
from csl_tracker.weights import Model

_MOST_BUFFERS = 8
"""Maximum number of image sizes with cached buffers."""

_MIN_PARALLEL_PX = 200_000
"""Minimum size of a halved image for which two threads are faster than one."""


class CpuEngine(RunsAtOnce):
    """Pre- and post-processing with OpenCV around ``infer``, which subclasses implement.

    Args:
        model: The model.
        mirror: Average heatmaps and scores with those of the mirrored image; doubles the run time.

    Attributes:
        name: Engine name.
        device: ``cpu``.
        reason: Why this engine was selected.
    """

    name = "cpu"
    device = "cpu"
    reason = ""

    def __init__(self, model: Model, mirror: bool = False) -> None:
        self.model = model
        self.preprocessing = model.description.preprocessing
        self.mirror_order = mirror_order(model) if mirror else None
        self._buffers: dict[Size, npt.NDArray[np.uint8]] = {}
        self._scratch: dict[Size, npt.NDArray[np.uint8]] = {}
        self._pair = Pair()
        self._labels = LabelUpsampler()
        self._logits_memory = np.empty((0, 0, 0), np.float32)

    def infer(self, image: npt.NDArray[np.uint8]) -> NetworkArrays:
        """Run the network on uint8 (h, w, 3) at the working size."""
        raise NotImplementedError

    def input_buffer(self, size: Size) -> npt.NDArray[np.uint8]:
        """Uint8 (h, w, 3) buffer that :meth:`infer` uses without a copy; cached for the last sizes."""
        if size not in self._buffers:
            _make_room(self._buffers)
            self._buffers[size] = self.make_buffer(size)
        return self._buffers[size]

    def make_buffer(self, size: Size) -> npt.NDArray[np.uint8]:
        """Create a buffer for :meth:`input_buffer`."""
        return np.empty((*size, 3), np.uint8)

    def localize(
        self, image: npt.NDArray[np.uint8], segmentation: bool, count: int = 1
    ) -> tuple[EngineOutput, LabelMapMaker | None]:
        """See :meth:`csl_tracker.engines.base.Engine.localize`."""
        source = (image.shape[0], image.shape[1])
        working = self.preprocessing.working_size(source)
        small = self.input_buffer(working)
        self._resize(image, small)
        found = self.infer(small)
        if self.mirror_order is not None:
            original = NetworkArrays(_copy(found.heatmaps), _copy(found.scores), None, _copy(found.offsets))
            mirrored = self.infer(np.ascontiguousarray(small[:, ::-1]))
            found = _mean_with_mirror(original, mirrored, self.mirror_order)
        foreground = None if found.scores is None else ForegroundOfScores(found.scores)
        points = None if found.points is None else locate_points(found.points, working)
        to_source, offsets = PixelMap(source, working), scaled_offsets(found.offsets)
        output = EngineOutput(found.heatmaps, foreground, None, to_source, points, None, offsets)
        if found.scores is None or not segmentation:
            return output, None
        return output, partial(self._label_map, found.scores, source)

    def _label_map(self, scores: Float32Array, size: Size) -> npt.NDArray[np.uint8]:
        return self._labels(self._logits(scores), size)

    def _logits(self, scores: Float32Array) -> Float32Array:
        """Scores minus the background score, in a reused buffer."""
        shape = (scores.shape[0] - 1, *scores.shape[1:])
        if self._logits_memory.shape != shape:
            self._logits_memory = np.empty(shape, np.float32)
        np.subtract(scores[1:], scores[0], out=self._logits_memory)
        return self._logits_memory

    def warm_up(self, size: Size, count: int = 1) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.warm_up`."""
        self.run(np.zeros((*size, 3), np.uint8), segmentation=True)

    def _resize(self, image: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]) -> None:
        """:func:`csl_tracker.pixels.resize_image` with reused buffers; large images are halved by two threads."""
        for step in halvings((image.shape[0], image.shape[1]), (target.shape[0], target.shape[1])):
            image = self._halve(image, self._scratch_of(step))
        resize_image(image, (target.shape[0], target.shape[1]), target)

    def _halve(self, image: npt.NDArray[np.uint8], target: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        middle = target.shape[0] // 2
        if target.shape[0] * target.shape[1] < _MIN_PARALLEL_PX or middle == 0:
            return halve(image, target)
        self._pair.run(
            lambda: halve(image[2 * middle :], target[middle:]),
            lambda: halve(image[: 2 * middle], target[:middle]),
        )
        return target

    def _scratch_of(self, size: Size) -> npt.NDArray[np.uint8]:
        if size not in self._scratch:
            _make_room(self._scratch)
            self._scratch[size] = np.empty((*size, 3), np.uint8)
        return self._scratch[size]


_MIRRORED_AXES = np.array([-1.0, 1.0], np.float32)[:, None, None]


def _make_room(kept: dict[Size, npt.NDArray[np.uint8]]) -> None:
    while len(kept) >= _MOST_BUFFERS:
        del kept[next(iter(kept))]


def _copy(array: Float32Array | None) -> Float32Array | None:
    return None if array is None else np.array(array, np.float32, order="C")


def _mean_with_mirror(found: NetworkArrays, mirrored: NetworkArrays, order: list[int]) -> NetworkArrays:
    assert found.heatmaps is not None
    assert found.scores is not None
    assert mirrored.heatmaps is not None
    assert mirrored.scores is not None
    # The working width is even, so the output pixels of both images coincide.
    heatmaps = 0.5 * (found.heatmaps + mirrored.heatmaps[order, :, ::-1])
    offsets = None
    if found.offsets is not None and mirrored.offsets is not None:
        offsets = np.float32(0.5) * (found.offsets + mirrored.offsets[:, :, ::-1] * _MIRRORED_AXES)
    return NetworkArrays(heatmaps, 0.5 * (found.scores + mirrored.scores[:, :, ::-1]), None, offsets)
