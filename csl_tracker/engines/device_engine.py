"""Torch on an accelerator: processes the image there and downloads only small results."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from csl_tracker.engines.artefacts import ArtefactCache
from csl_tracker.engines.base import (
    EngineOutput,
    LabelMapMaker,
    PixelMap,
    RunsAtOnce,
    locate_points,
    mirror_order,
    scaled_offsets,
)
from csl_tracker.engines.cuda_graph import Arrays, CapturedPath, CudaRecorder, Recorder
from csl_tracker.engines.device_loss import is_device_fault, still_works
from csl_tracker.engines.device_path import DeviceNetwork, DevicePath, join, layout, split
from csl_tracker.engines.device_peaks import PeakFinder, SupportReader, read_peaks
from csl_tracker.engines.inductor import find_inductor, load_inductor
from csl_tracker.engines.precision import DTYPES
from csl_tracker.engines.torch_engine import prepared_module
from csl_tracker.engines.tuning import Tuning, choose_algorithms, cudnn_form, median_time, tune
from csl_tracker.errors import first_line
from csl_tracker.networks import STRIDE
from csl_tracker.pixels import Size
from csl_tracker.weights import Model

logger = logging.getLogger(__name__)

MOST_PATHS = 8
"""Size of the LRU cache of paths (one per image size, with and without a label map)."""

RUNS_BEFORE_CAPTURE = 3
"""Warm-up runs before a capture, in which libraries choose their algorithms."""


@dataclass(frozen=True)
class _Key:
    """Key of a path; ``count`` is 0 if it returns full heatmaps."""

    source: Size
    segmentation: bool
    count: int


@dataclass
class _Route:
    """A path and its state: runs eagerly until it is captured.

    Attributes:
        path: The path.
        runs: Number of eager runs.
        captured: Its graph.
        refused: It cannot be captured.
    """

    path: DevicePath
    runs: int = 0
    captured: CapturedPath | None = None
    refused: bool = False


class TorchDeviceEngine(RunsAtOnce):
    """Torch on an accelerator: one upload of the uint8 image, all processing on the device, one download of small results.

    On CUDA, everything between upload and download is captured as one graph per image size. :meth:`warm_up` tunes and
    captures; a new size runs eagerly until :meth:`settle` is called, so that no frame waits for a capture.

    Args:
        model: The model.
        device: Such as ``cuda:0``; ``cpu`` is supported for testing without an accelerator.
        precision: Network precision: ``float16``, ``bfloat16``, ``tf32`` or ``float32``. ``auto`` selects float16 if it does
            not move landmarks, else float32 with a logged reason. Normalisation and peak fits are not affected.
        mirror: Average with the mirrored image.
        launch: ``graph`` captures CUDA graphs, ``eager`` does not.
        recorder: Captures the graphs; None uses CUDA graphs on CUDA and no capture elsewhere.
        cache: Cache of compiled networks; None for the user's cache.

    Attributes:
        name: ``torch``.
        device: The device.
    """

    name = "torch"

    def __init__(
        self,
        model: Model,
        device: str,
        precision: str = "float16",
        mirror: bool = False,
        launch: str = "graph",
        recorder: Recorder | None = None,
        cache: ArtefactCache | None = None,
    ) -> None:
        self.model, self.device, self.wanted_precision = model, device, precision
        self.preprocessing = model.description.preprocessing
        self.mirror_order = mirror_order(model) if mirror else None
        self._tuning: Tuning | None = None
        self._on_cuda = device.startswith("cuda")
        self._stream: Any = torch.cuda.Stream(device) if self._on_cuda else None  # type: ignore[no-untyped-call]
        self._cache = ArtefactCache() if cache is None else cache
        self._recorder = recorder
        if recorder is None and self._on_cuda and launch == "graph":
            self._recorder = CudaRecorder(device, self._stream)
        self._routes: OrderedDict[_Key, _Route] = OrderedDict()
        self._finders: dict[int, tuple[PeakFinder, SupportReader]] = {}
        self.network = self.make_network("float16" if precision == "auto" else precision)

    def make_network(self, precision: str) -> DeviceNetwork:
        """Create the network on the device in a precision, with folded batch norms, ``channels_last``."""
        # ``to`` is synchronous for pageable host memory, so the tensors are ready for every stream.
        module = prepared_module(self.model)
        module.network.to(DTYPES[precision])
        module.to(self.device)
        return DeviceNetwork(module, module.network, precision, self.mirror_order)

    @property
    def precision(self) -> str:
        """Precision of the network."""
        return self.network.precision

    @property
    def reason(self) -> str:
        """Clause that explains the selected precision and form."""
        if self._tuning is not None and self._tuning.note:
            return self._tuning.note
        return f"{self.precision} on the device {self.device}" if self.precision != "float32" else ""

    @property
    def form_times(self) -> Mapping[str, float]:
        """Median frame time of each tested form of the network, s; empty if there was only one."""
        return {} if self._tuning is None else self._tuning.times

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """Run on the engine's device and stream, without gradients."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._on_cuda:
                stack.enter_context(torch.cuda.device(self.device))
                stack.enter_context(torch.cuda.stream(self._stream))
            yield

    def wait(self) -> None:
        """Synchronise the stream."""
        if self._on_cuda:
            self._stream.synchronize()

    def localize(
        self, image: npt.NDArray[np.uint8], segmentation: bool, count: int = 1
    ) -> tuple[EngineOutput, LabelMapMaker | None]:
        """See :meth:`csl_tracker.engines.base.Engine.localize`; returns peaks instead of heatmaps."""
        output, found = self._run(image, segmentation, count)
        return output, partial(found.__getitem__, "label_map") if "label_map" in found else None

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`csl_tracker.engines.base.Engine.run`; returns full heatmaps and foreground."""
        output, found = self._run(image, segmentation, 0)
        return replace(output, label_map=found.get("label_map"))

    def _run(self, image: npt.NDArray[np.uint8], segmentation: bool, count: int) -> tuple[EngineOutput, Arrays]:
        source = (image.shape[0], image.shape[1])
        if self._tuning is None:
            self._tune(source, count or 1)
        route = self._route(_Key(source, segmentation, count))
        with self._on_stream():
            if route.captured is not None:
                found = route.captured.run(image, self.wait)
            else:
                found = self.launch(route.path, image)
                route.runs += 1
        return self._output(found, route.path, count), found

    def launch(self, path: DevicePath, image: npt.NDArray[np.uint8]) -> Arrays:
        """Run a path eagerly."""
        with self._on_stream():
            parts = path(torch.from_numpy(np.ascontiguousarray(image)).to(self.device))
            return split(join(parts).cpu().numpy(), layout(parts))

    def _output(self, found: Arrays, path: DevicePath, count: int) -> EngineOutput:
        working = path.working
        points = locate_points(found["points"], working) if "points" in found else None
        to_source = PixelMap(path.source, working)
        offsets = scaled_offsets(found.get("offsets"))
        if "peaks" not in found:
            return EngineOutput(found.get("heatmaps"), found.get("foreground"), None, to_source, points, None, offsets)
        peaks = read_peaks(found["peaks"], self.model.description.heatmap)
        shape = (-(-working[0] // STRIDE), -(-working[1] // STRIDE))
        support = self._finder(count)[1](found["support"], shape)
        return EngineOutput(None, support, None, to_source, points, peaks, offsets)

    def _finder(self, count: int) -> tuple[PeakFinder, SupportReader]:
        if count not in self._finders:
            instruments = self.model.instruments
            finder = PeakFinder(self.model.description.heatmap, instruments, count).to(self.device)
            self._finders[count] = finder, SupportReader(instruments, count)
        return self._finders[count]

    def make_path(self, source: Size, segmentation: bool, count: int, network: DeviceNetwork | None = None) -> DevicePath:
        """The path for an image size.

        Args:
            source: (height, width) of the image.
            segmentation: Compute the label map.
            count: Peaks per landmark; 0 returns full heatmaps and foreground.
            network: The network; None for that of the engine.
        """
        has_peaks = count > 0 and self.model.description.network.localises_by_heatmaps
        finder = self._finder(count)[0] if has_peaks else None
        return DevicePath(network or self.network, self.preprocessing, source, segmentation, finder, self.device)

    def _route(self, key: _Key) -> _Route:
        if key in self._routes:
            self._routes.move_to_end(key)
            return self._routes[key]
        while len(self._routes) >= MOST_PATHS:
            self._routes.popitem(last=False)
        with self._on_stream():
            self._routes[key] = _Route(self.make_path(key.source, key.segmentation, key.count))
        return self._routes[key]

    def _capture(self, route: _Route) -> None:
        """Capture a path, or mark it as not capturable.

        Raises:
            RuntimeError: The device is lost or out of memory.
        """
        if self._recorder is None or route.captured is not None or route.refused:
            return
        try:
            with self._on_stream():
                route.captured = CapturedPath(route.path, self._recorder, self.device, pin=self._on_cuda)
        except RuntimeError as error:
            if is_device_fault(error) and not still_works(self.device):
                raise
            route.refused = True
            logger.warning(
                "Images of %dx%d px are processed without a CUDA graph, since the network cannot be captured: %s.",
                *route.path.source,
                first_line(error),
            )

    def warm_up(self, size: Size, count: int = 1) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.warm_up`: tunes, and captures the paths with and without a label map."""
        self._tune(size, count)
        image = np.zeros((*size, 3), np.uint8)
        for segmentation in (False, True):
            route = self._route(_Key(size, segmentation, count))
            missing = 0 if route.captured is not None else max(0, RUNS_BEFORE_CAPTURE - route.runs)
            choose_algorithms(partial(self.launch, route.path, image), missing)
            route.runs += missing
            self._capture(route)

    def settle(self) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.settle`; captures the newest path with enough warm-up runs."""
        for key, route in reversed(self._routes.items()):
            waits = key.count > 0 and route.captured is None and not route.refused
            if waits and route.runs >= RUNS_BEFORE_CAPTURE:
                self._capture(route)
                return

    def _tune(self, size: Size, count: int) -> None:
        """Select precision and form of the network, once."""
        if self._tuning is not None:
            return
        with self._on_stream():
            self._tuning = tune(self, size, count)
        self.network = self._tuning.network
        self._routes.clear()

    def timed(self, path: DevicePath, runs: int) -> float:
        """Median time of a path, s, captured if possible, including upload and download."""
        image = np.zeros((*path.source, 3), np.uint8)
        choose_algorithms(partial(self.launch, path, image), RUNS_BEFORE_CAPTURE)
        route = _Route(path)
        self._capture(route)
        captured = route.captured
        if captured is None:
            return median_time(partial(self.launch, path, image), runs)
        with self._on_stream():
            return median_time(lambda: captured.run(image, self.wait), runs)

    def fused_forms(self, network: DeviceNetwork, size: Size) -> Sequence[tuple[str, Callable[[], DeviceNetwork]]]:
        """Alternative forms of the network for images of (height, width): (name, factory)."""
        if not self._on_cuda:
            return []
        forms: list[tuple[str, Callable[[], DeviceNetwork]]] = []
        if (fused := cudnn_form(network)) is not None:
            forms.append(("cudnn", lambda: fused))
        working = self.preprocessing.working_size(size)
        artefact = find_inductor(network, self.model, working, self.device, self._cache)
        if artefact is not None:
            folder = artefact.folder
            forms.append(("inductor", lambda: load_inductor(network, self.model, folder)))
        return forms
