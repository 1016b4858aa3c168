"""Device failures: classifies errors and tracks lost devices.

Some CUDA errors (an illegal address, a device-side assertion, a card that fell off the bus) are *sticky*: all later calls in
the same process fail, and only a new process can use the device again. Freeing pinned memory then raises from a destructor,
which ends the process. Therefore objects on a lost device are kept alive until the process ends, and the device is not used
again.
"""

from __future__ import annotations

import ctypes
import logging

import torch

from csl_tracker.errors import EngineError, first_line

logger = logging.getLogger(__name__)

_DEVICE_WORDS = ("cuda", "cudnn", "cublas", "nvrtc", "hip error", "device-side")

_lost: dict[str, str] = {}
"""Lost device -> reason."""


class DeviceLostError(EngineError):
    """A device was lost and is unusable until the process restarts; ``reason`` is a clause."""

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(f"The device {device} was lost ({reason}); restart this process to use it again, or use device 'cpu'.")
        self.device, self.reason = device, reason


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


def is_device_fault(error: BaseException) -> bool:
    """Whether the device caused an error (lost, reset, out of memory), not the image or the network."""
    if is_out_of_memory(error):
        return True
    accelerator_error = getattr(torch, "AcceleratorError", None)  # newer than torch 2.7
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _DEVICE_WORDS)


def still_works(device: str) -> bool:
    """Whether a CUDA device still works in this process; True for other devices."""
    if not device.startswith("cuda"):
        return True
    try:
        torch.cuda.synchronize(device)
        return float(torch.ones(2, device=device).sum().item()) == 2.0
    except Exception as error:
        # Out of memory is not a failure; another process may hold the memory.
        return is_out_of_memory(error)


def give_up(device: str, reason: str, *kept: object) -> None:
    """Mark a device as lost for this process.

    Args:
        device: Such as ``cuda:0``.
        reason: A clause.
        kept: Objects on the device; kept alive until the process ends, including the shutdown of Python.
    """
    _lost.setdefault(device, reason)
    for thing in kept:
        # Leak a reference, so that the destructor never runs.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def lost_devices() -> dict[str, str]:
    """Devices lost in this process, with the reasons."""
    return dict(_lost)


def release_cached_memory() -> None:
    """Release torch's cached device memory, if the devices still work."""
    if _lost or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:
        logger.debug("The cached memory could not be released: %s", first_line(error))
