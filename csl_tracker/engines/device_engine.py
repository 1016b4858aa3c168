"""Torch on an accelerator, where the image stays until the results are small."""

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
from csl_tracker.engines.base import EngineOutput, LabelMapMaker, PixelMap, RunsAtOnce, locate_points, mirror_order
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
"""Paths that are kept, for image sizes with and without a label map; the one that was not used for the longest time goes."""

RUNS_BEFORE_CAPTURE = 3
"""Libraries choose their algorithms in the first runs, which a capture must not contain."""


@dataclass(frozen=True)
class _Key:
    """What a path depends on; ``count`` is 0 where heatmaps are handed out whole."""

    source: Size
    segmentation: bool
    count: int


@dataclass
class _Route:
    """A path and how it runs: launched piece by piece until it is captured.

    Attributes:
        path: The path.
        runs: How often it was launched piece by piece.
        captured: Its graph.
        refused: It cannot be captured.
    """

    path: DevicePath
    runs: int = 0
    captured: CapturedPath | None = None
    refused: bool = False


class TorchDeviceEngine(RunsAtOnce):
    """Torch on an accelerator: one upload of the uint8 image, everything else there, one download of the small results.

    On CUDA all that happens between upload and download is captured as one graph for each image size. :meth:`warm_up` tunes and
    captures; a size that comes later runs piece by piece until :meth:`settle` is called, so that no frame waits for a capture.

    Args:
        model: What to run.
        device: Such as ``cuda:0``; ``cpu`` works too and is how this path is tested without an accelerator.
        precision: Of the network: ``float16``, ``bfloat16``, ``tf32`` or ``float32``. ``auto`` takes float16 where it moves no
            landmarks, and says why where it does not. The normalisation before and the fits behind it are not affected.
        mirror: Average with the mirrored image.
        launch: ``graph`` captures CUDA graphs, ``eager`` launches piece by piece.
        recorder: What captures; None takes CUDA graphs on CUDA and captures nothing elsewhere.
        cache: Where compiled networks are looked for; the user's cache when None.

    Attributes:
        name: ``torch``.
        device: Where it runs.
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
        """The network on the device in a precision, batch norms folded, ``channels_last``."""
        # Whatever is made on the host is on the device when ``to`` returns, for every stream.
        module = prepared_module(self.model)
        module.network.to(DTYPES[precision])
        module.to(self.device)
        return DeviceNetwork(module, module.network, precision, self.mirror_order)

    @property
    def precision(self) -> str:
        """What the network computes in."""
        return self.network.precision

    @property
    def reason(self) -> str:
        """Why it runs as it does, a clause."""
        if self._tuning is not None and self._tuning.note:
            return self._tuning.note
        return f"{self.precision} on the device {self.device}" if self.precision != "float32" else ""

    @property
    def form_times(self) -> Mapping[str, float]:
        """Median time of a frame with each form of the network that was tried, s; empty where there was no choice."""
        return {} if self._tuning is None else self._tuning.times

    @contextmanager
    def _here(self) -> Iterator[None]:
        """Run on the engine's own device and stream, without gradients."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._on_cuda:
                stack.enter_context(torch.cuda.device(self.device))
                stack.enter_context(torch.cuda.stream(self._stream))
            yield

    def wait(self) -> None:
        """Return when the device has done all that was launched."""
        if self._on_cuda:
            self._stream.synchronize()

    def localize(
        self, image: npt.NDArray[np.uint8], segmentation: bool, count: int = 1
    ) -> tuple[EngineOutput, LabelMapMaker | None]:
        """See :meth:`csl_tracker.engines.base.Engine.localize`: gives peaks, not heatmaps, and the label map with them."""
        output, found = self._run(image, segmentation, count)
        return output, partial(found.__getitem__, "label_map") if "label_map" in found else None

    def run(self, image: npt.NDArray[np.uint8], segmentation: bool) -> EngineOutput:
        """See :meth:`csl_tracker.engines.base.Engine.run`; heatmaps and foreground whole."""
        output, found = self._run(image, segmentation, 0)
        return replace(output, label_map=found.get("label_map"))

    def _run(self, image: npt.NDArray[np.uint8], segmentation: bool, count: int) -> tuple[EngineOutput, Arrays]:
        source = (image.shape[0], image.shape[1])
        if self._tuning is None:
            self._tune(source, count or 1)
        route = self._route(_Key(source, segmentation, count))
        with self._here():
            if route.captured is not None:
                found = route.captured.run(image, self.wait)
            else:
                found = self.launch(route.path, image)
                route.runs += 1
        return self._output(found, route.path, count), found

    def launch(self, path: DevicePath, image: npt.NDArray[np.uint8]) -> Arrays:
        """Run a path piece by piece."""
        with self._here():
            parts = path(torch.from_numpy(np.ascontiguousarray(image)).to(self.device))
            return split(join(parts).cpu().numpy(), layout(parts))

    def _output(self, found: Arrays, path: DevicePath, count: int) -> EngineOutput:
        working = path.working
        points = locate_points(found["points"], working) if "points" in found else None
        to_source = PixelMap(path.source, working)
        if "peaks" not in found:
            return EngineOutput(found.get("heatmaps"), found.get("foreground"), None, to_source, points)
        peaks = read_peaks(found["peaks"], self.model.description.heatmap)
        shape = (-(-working[0] // STRIDE), -(-working[1] // STRIDE))
        support = self._finder(count)[1](found["support"], shape)
        return EngineOutput(None, support, None, to_source, points, peaks)

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
            segmentation: Make the label map.
            count: Peaks of each landmark; 0 hands out heatmaps and foreground whole.
            network: What to run; the engine's own when None.
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
        with self._here():
            self._routes[key] = _Route(self.make_path(key.source, key.segmentation, key.count))
        return self._routes[key]

    def _capture(self, route: _Route) -> None:
        """Capture a path, or note that it runs piece by piece for good.

        Raises:
            RuntimeError: The device is lost or full.
        """
        if self._recorder is None or route.captured is not None or route.refused:
            return
        try:
            with self._here():
                route.captured = CapturedPath(route.path, self._recorder, self.device, pin=self._on_cuda)
        except RuntimeError as error:
            if is_device_fault(error) and not still_works(self.device):
                raise
            route.refused = True
            logger.warning(
                "Images of %dx%d px are processed piece by piece, since the network cannot be captured as a CUDA graph: %s.",
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
        """See :meth:`csl_tracker.engines.base.Engine.settle`: captures the newest path that has run often enough."""
        for key, route in reversed(self._routes.items()):
            waits = key.count > 0 and route.captured is None and not route.refused
            if waits and route.runs >= RUNS_BEFORE_CAPTURE:
                self._capture(route)
                return

    def _tune(self, size: Size, count: int) -> None:
        """Choose precision and form of the network, once."""
        if self._tuning is not None:
            return
        with self._here():
            self._tuning = tune(self, size, count)
        self.network = self._tuning.network
        self._routes.clear()

    def timed(self, path: DevicePath, runs: int) -> float:
        """Median time of a path as it will run, s: captured where that can be done, with upload and download."""
        image = np.zeros((*path.source, 3), np.uint8)
        choose_algorithms(partial(self.launch, path, image), RUNS_BEFORE_CAPTURE)
        route = _Route(path)
        self._capture(route)
        captured = route.captured
        if captured is None:
            return median_time(partial(self.launch, path, image), runs)
        with self._here():
            return median_time(lambda: captured.run(image, self.wait), runs)

    def fused_forms(self, network: DeviceNetwork, size: Size) -> Sequence[tuple[str, Callable[[], DeviceNetwork]]]:
        """Other forms of the network for images of (height, width), by name, and what makes each."""
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
