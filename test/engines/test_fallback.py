import gc
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from csl_tracker.engines import create_engine, device_loss
from csl_tracker.engines.device_engine import TorchDeviceEngine
from csl_tracker.engines.device_loss import is_device_fault, is_out_of_memory
from csl_tracker.engines.fallback import FallbackEngine
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.networks import NetworkConfig
from csl_tracker.weights import Preprocessing, load_weights

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
LOST = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later")


@pytest.fixture(scope="module")
def model(make_weights):
    network = NetworkConfig("unet", encoder="none", decoder="none", width=4)
    return load_weights(
        make_weights(name="tiny", network=network, preprocessing=Preprocessing((127.0,) * 3, (128.0,) * 3, (64, 64)))
    )


def failing(model, error):
    """The engine for devices, on the CPU, whose network fails as one on a device does."""
    engine = TorchDeviceEngine(model, "cpu", "float32")

    def fail(*given):
        raise error

    engine.network = replace(engine.network, infer=fail)
    return engine


class OnGpu:
    """An engine that says of itself that it is on a GPU."""

    name, device, reason = "torch", "cuda:0", ""

    def __init__(self, engine):
        self.localize, self.warm_up, self.settle = engine.localize, engine.warm_up, engine.settle


@pytest.fixture(autouse=True)
def no_device_is_lost(monkeypatch):
    """Whatever a test loses is there again for the next one."""
    monkeypatch.setattr(device_loss, "_lost", {})


@pytest.mark.parametrize(
    ("error", "words", "remedy"),
    [
        (OOM, "is out of memory", "make room on the device, then clean up and configure the node"),
        # This machine has no CUDA device that could still answer.
        (LOST, "was lost", "CUDA gives a lost device back to a new process only: restart this one"),
    ],
)
@pytest.mark.parametrize("first", ["run", "warm_up"])
def test_the_cpu_goes_on_with_the_same_answer_and_it_is_said(model, caplog, error, words, remedy, first):
    made = []
    engine = FallbackEngine(OnGpu(failing(model, error)), lambda: made.append(TorchCpuEngine(model)) or made[-1])
    assert engine.device == "cuda:0"
    assert engine.fault == ""
    with caplog.at_level(logging.ERROR):
        if first == "warm_up":
            engine.warm_up((64, 80))
        outputs = [engine.run(IMAGE, segmentation=True) for _ in range(3)]
    expected = TorchCpuEngine(model).run(IMAGE, segmentation=True)
    for output in outputs:
        np.testing.assert_array_equal(output.heatmaps, expected.heatmaps)
    assert len(made) == 1, "once, not for every frame"
    assert (engine.name, engine.device) == ("torch", "cpu")
    assert f"The device cuda:0 {words}" in engine.fault
    assert remedy in engine.fault
    assert [record.message for record in caplog.records] == [engine.fault]


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("CUDA"), MemoryError()]
)
def test_what_is_not_the_devices_fault_is_not_hidden(model, error):
    engine = FallbackEngine(failing(model, error), lambda: TorchCpuEngine(model))
    with pytest.raises(type(error)):
        engine.run(IMAGE, segmentation=False)
    assert engine.fault == ""


def test_there_is_no_second_spare(model):
    engine = FallbackEngine(failing(model, OOM), lambda: failing(model, OOM))
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            engine.run(IMAGE, segmentation=False)


@pytest.mark.parametrize(
    ("error", "fault", "memory"),
    [
        (OOM, True, True),
        (LOST, True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True, False),
        (RuntimeError("size mismatch"), False, False),
    ],
)
def test_faults_are_told_apart(error, fault, memory):
    assert (is_device_fault(error), is_out_of_memory(error)) == (fault, memory)


class Pinned:
    """What must not be destroyed once its device is lost."""

    destroyed = 0

    def __del__(self):
        Pinned.destroyed += 1


@pytest.mark.parametrize(("works", "kept"), [(False, True), (True, False)])
def test_what_lies_on_a_lost_device_is_never_destroyed(model, monkeypatch, works, kept):
    """Freeing pinned memory of a lost device raises from a destructor, which ends the process."""
    monkeypatch.setattr("csl_tracker.engines.fallback.still_works", lambda device: works)
    first = OnGpu(failing(model, LOST))
    first.pinned = Pinned()
    before = Pinned.destroyed
    engine = FallbackEngine(first, lambda: TorchCpuEngine(model))
    del first
    engine.run(IMAGE, segmentation=False)
    del engine
    gc.collect()
    assert (Pinned.destroyed == before) == kept
    assert device_loss.lost_devices() == ({"cuda:0": "CUDA error: an illegal memory access was encountered"} if kept else {})


def test_a_fault_that_passes_promises_the_device_back(model, monkeypatch):
    monkeypatch.setattr("csl_tracker.engines.fallback.still_works", lambda device: True)
    engine = FallbackEngine(OnGpu(failing(model, LOST)), lambda: TorchCpuEngine(model))
    engine.run(IMAGE, segmentation=False)
    assert "The device cuda:0 failed (CUDA error: an illegal memory access was encountered)" in engine.fault
    assert engine.fault.endswith("see to the device, then clean up and configure the node.")


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_device_that_was_lost_before_is_not_tried_again(model, monkeypatch, device):
    """As when the node is cleaned up and configured: the process cannot get it back."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    device_loss.give_up("cuda:0", "an assertion failed")
    engine = FallbackEngine.of(lambda: create_engine(model, device), lambda: create_engine(model, "cpu", "torch"), device)
    assert engine.device == "cpu"
    assert engine.fault.startswith("The device cuda:0 was lost (an assertion failed)")
    assert "restart this one" in engine.fault
    assert engine.run(IMAGE, segmentation=True).label_map is not None


def test_a_lost_device_does_not_worry_who_wants_the_cpu(model):
    device_loss.give_up("cuda:0", "an assertion failed")
    assert FallbackEngine.of(lambda: TorchCpuEngine(model), lambda: TorchCpuEngine(model), "cpu").fault == ""


@pytest.mark.parametrize(("error", "words"), [(OOM, "is out of memory"), (LOST, "failed")])
def test_a_device_that_fails_while_the_network_is_built_is_replaced(model, error, words):
    def make():
        raise error

    engine = FallbackEngine.of(make, lambda: TorchCpuEngine(model), "cuda:0")
    assert engine.device == "cpu"
    assert f"The device cuda:0 {words}" in engine.fault


def test_a_network_that_cannot_be_built_at_all_is_not_hidden(model):
    def make():
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        FallbackEngine.of(make, lambda: TorchCpuEngine(model), "cuda:0")


def test_a_capture_that_loses_the_device_costs_no_frame(model):
    """What is put off until no frame waits may fail as a frame does."""
    first = OnGpu(TorchDeviceEngine(model, "cpu", "float32"))

    def fail():
        raise LOST

    first.settle = fail
    engine = FallbackEngine(first, lambda: TorchCpuEngine(model))
    engine.run(IMAGE, segmentation=False)
    engine.settle()
    assert engine.device == "cpu"
    assert "was lost" in engine.fault
    engine.settle()


def test_memory_is_released_without_a_device():
    device_loss.release_cached_memory()
    device_loss.give_up("cuda:0", "gone")
    device_loss.release_cached_memory()
