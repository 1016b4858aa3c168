"""An engine that goes on when its device does not: on a lost or full GPU the same network runs on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from csl_tracker.engines.base import Engine, EngineOutput, LabelMapMaker, RunsAtOnce
from csl_tracker.pixels import Size

logger = logging.getLogger(__name__)

_DEVICE_WORDS = ("cuda", "cudnn", "cublas", "nvrtc", "hip error", "device-side")


class FallbackEngine(RunsAtOnce):
    """Runs an engine until its device fails, and from then on a second one.

    Args:
        engine: The first one.
        make_spare: Makes the second one; called when it is needed.

    Attributes:
        fault: Why the second one runs, a full sentence; empty while the first one does.
    """

    def __init__(self, engine: Engine, make_spare: Callable[[], Engine]) -> None:
        self._engine = engine
        self._make_spare: Callable[[], Engine] | None = make_spare
        self.fault = ""

    @property
    def name(self) -> str:
        """Name of the engine that runs now."""
        return self._engine.name

    @property
    def device(self) -> str:
        """Device that is used now."""
        return self._engine.device

    @property
    def reason(self) -> str:
        """Why that engine runs."""
        return self._engine.reason

    def begin(self, image: npt.NDArray[np.uint8], segmentation: bool) -> tuple[EngineOutput, LabelMapMaker | None]:
        """See :meth:`Engine.begin`."""
        try:
            return self._engine.begin(image, segmentation)
        except RuntimeError as error:
            self._fall_back(error)
        return self._engine.begin(image, segmentation)

    def warm_up(self, size: Size) -> None:
        """See :meth:`Engine.warm_up`."""
        try:
            self._engine.warm_up(size)
        except RuntimeError as error:
            self._fall_back(error)
            self._engine.warm_up(size)

    def _fall_back(self, error: RuntimeError) -> None:
        """Change over to the spare, or raise the error again when it is not the device's, or there is no spare left."""
        if self._make_spare is None or not is_device_fault(error):
            raise error
        lost, spare = self.device, self._make_spare()
        self._engine, self._make_spare = spare, None
        kind = "is out of memory" if is_out_of_memory(error) else "was lost"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        self.fault = (
            f"The device {lost} {kind} ({reason}), and {spare.name} on {spare.device} goes on in its place; see to the device,"
            " then clean up and configure the node."
        )
        logger.error(self.fault)
        if torch.cuda.is_available():
            try:
                torch.cuda.empty_cache()
            except RuntimeError:  # a lost device cannot be tidied up either
                logger.debug("The memory of %s could not be given back.", lost)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


def is_device_fault(error: BaseException) -> bool:
    """Whether an error is the device's (lost, reset, full) and not the image's or the network's."""
    if isinstance(error, torch.OutOfMemoryError) or is_out_of_memory(error):
        return True
    lost = getattr(torch, "AcceleratorError", None)  # newer than torch 2.7
    if lost is not None and isinstance(error, lost):
        return True
    return any(word in str(error).lower() for word in _DEVICE_WORDS)
