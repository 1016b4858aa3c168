"""Devices that fail: what kind of fault an error is, and what may still be done with the device afterwards.

Some CUDA errors (an illegal address, a failed assertion on the device, a card that fell off the bus) are *sticky*: every later
call in the same process fails with them, and only a new process gets the device back. Freeing pinned memory then raises from a
destructor, which ends the process. So what lies on a lost device is kept until the process ends, and nobody tries that device
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
"""Device to the reason why it was lost."""


class DeviceLostError(EngineError):
    """A device was lost in this process, so that nothing can run on it before the process is restarted.

    Args:
        device: Such as ``cuda:0``.
        reason: Why it was lost, a clause.
    """

    def __init__(self, device: str, reason: str) -> None:
        super().__init__(f"The device {device} was lost ({reason}); restart this process to use it again, or use device 'cpu'.")
        self.device, self.reason = device, reason


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()


def is_device_fault(error: BaseException) -> bool:
    """Whether an error is the device's (lost, reset, full) and not the image's or the network's."""
    if is_out_of_memory(error):
        return True
    accelerator_error = getattr(torch, "AcceleratorError", None)  # newer than torch 2.7
    if accelerator_error is not None and isinstance(error, accelerator_error):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _DEVICE_WORDS)


def still_works(device: str) -> bool:
    """Whether a CUDA device still computes in this process; True for every other device."""
    if not device.startswith("cuda"):
        return True
    try:
        torch.cuda.synchronize(device)
        return float(torch.ones(2, device=device).sum().item()) == 2.0
    except Exception as error:
        # A device that is full works; another process may hold its memory.
        return is_out_of_memory(error)


def give_up(device: str, reason: str, *kept: object) -> None:
    """Note that a device is lost for this process.

    Args:
        device: Such as ``cuda:0``.
        reason: Why, a clause.
        kept: What lies on the device; it stays in memory until the process ends, also while Python shuts down.
    """
    _lost.setdefault(device, reason)
    for thing in kept:
        # One reference too many: no destructor will ever run.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def lost_devices() -> dict[str, str]:
    """The devices that were lost in this process, and why."""
    return dict(_lost)


def release_cached_memory() -> None:
    """Give memory that torch keeps for later back to the devices, as far as they still answer."""
    if _lost or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return
    try:
        torch.cuda.empty_cache()
    except RuntimeError as error:
        logger.debug("The cached memory could not be released: %s", first_line(error))
