"""Falls back to the CPU when a GPU is lost or out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from csl_tracker.engines.base import Engine, EngineOutput, LabelMapMaker, RunsAtOnce
from csl_tracker.engines.device_loss import (
    DeviceLostError,
    give_up,
    is_device_fault,
    is_out_of_memory,
    lost_devices,
    release_cached_memory,
    still_works,
)
from csl_tracker.errors import first_line
from csl_tracker.pixels import Size

logger = logging.getLogger(__name__)


class FallbackEngine(RunsAtOnce):
    """Runs an engine until its device fails, then a fallback engine.

    Args:
        engine: The primary engine.
        make_spare: Creates the fallback engine when it is needed.

    Attributes:
        fault: A sentence with the reason for the fallback and the remedy; empty while the primary engine runs.
    """

    def __init__(self, engine: Engine, make_spare: Callable[[], Engine]) -> None:
        self._engine = engine
        self._make_spare: Callable[[], Engine] | None = make_spare
        self.fault = ""

    @classmethod
    def of(cls, make: Callable[[], Engine], make_spare: Callable[[], Engine], device: str) -> FallbackEngine:
        """Create the primary engine, or the fallback engine if the device fails now or was lost before.

        Args:
            make: Creates the primary engine.
            make_spare: Creates the fallback engine.
            device: The requested device, such as ``auto``.
        """
        try:
            engine = cls(make(), make_spare)
        except DeviceLostError as error:
            engine = cls(make_spare(), make_spare)
            engine._change_over(error.device, error.reason, sticky=True)
        except RuntimeError as error:
            if not is_device_fault(error):
                raise
            sticky = not is_out_of_memory(error) and bool(lost_devices())
            engine = cls(make_spare(), make_spare)
            engine._change_over(device, first_line(error), sticky, is_out_of_memory(error))
        else:
            lost = lost_devices()
            if device != "cpu" and engine.device == "cpu" and lost:
                engine._change_over(*next(iter(lost.items())), sticky=True)
        return engine

    @property
    def name(self) -> str:
        """Name of the engine in use."""
        return self._engine.name

    @property
    def device(self) -> str:
        """Device in use."""
        return self._engine.device

    @property
    def reason(self) -> str:
        """Why that engine was selected."""
        return self._engine.reason

    def localize(
        self, image: npt.NDArray[np.uint8], segmentation: bool, count: int = 1
    ) -> tuple[EngineOutput, LabelMapMaker | None]:
        """See :meth:`csl_tracker.engines.base.Engine.localize`."""
        try:
            return self._engine.localize(image, segmentation, count)
        except RuntimeError as error:
            self._fall_back(error)
        release_cached_memory()  # after the except block: the traceback keeps references to device memory
        return self._engine.localize(image, segmentation, count)

    def warm_up(self, size: Size, count: int = 1) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.warm_up`."""
        try:
            self._engine.warm_up(size, count)
        except RuntimeError as error:
            self._fall_back(error)
        else:
            return
        release_cached_memory()
        self._engine.warm_up(size, count)

    def settle(self) -> None:
        """See :meth:`csl_tracker.engines.base.Engine.settle`."""
        try:
            self._engine.settle()
        except RuntimeError as error:
            self._fall_back(error)
        else:
            return
        release_cached_memory()

    def _fall_back(self, error: RuntimeError) -> None:
        """Switch to the fallback engine; re-raise the error if the device did not cause it or the fallback is in use."""
        if self._make_spare is None or not is_device_fault(error):
            raise error
        failed, device, full = self._engine, self.device, is_out_of_memory(error)
        sticky = not full and not still_works(device)
        if sticky:
            give_up(device, first_line(error), failed, error)
        self._engine = self._make_spare()
        self._change_over(device, first_line(error), sticky, full)

    def _change_over(self, device: str, reason: str, sticky: bool, full: bool = False) -> None:
        self._make_spare = None
        what = "was lost" if sticky else "is out of memory" if full else "failed"
        remedy = (
            "CUDA gives a lost device back to a new process only: restart this one"
            if sticky
            else f"{'make room on the device' if full else 'see to the device'}, then clean up and configure the node"
        )
        self.fault = f"The device {device} {what} ({reason}), and {self.name} on {self.device} goes on in its place; {remedy}."
        logger.error(self.fault)
