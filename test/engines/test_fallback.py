import logging

import numpy as np
import pytest
import torch

from csl_tracker.engines.fallback import FallbackEngine, is_device_fault, is_out_of_memory
from csl_tracker.engines.torch_engine import TorchCpuEngine, TorchDeviceEngine
from csl_tracker.weights import Preprocessing, load_weights

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
LOST = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later")


@pytest.fixture(scope="module")
def model(make_weights):
    return load_weights(make_weights(name="tiny", preprocessing=Preprocessing((127.0,) * 3, (128.0,) * 3, (64, 64))))


def failing(model, error):
    """The engine for devices, on the CPU, whose network fails as one on a device does."""
    engine = TorchDeviceEngine(model, "cpu", "float32")

    def fail(*given):
        raise error

    engine.module.network.forward = fail
    return engine


class OnGpu:
    """An engine that says of itself that it is on a GPU."""

    name, device, reason = "torch", "cuda:0", ""

    def __init__(self, engine):
        self.begin, self.warm_up = engine.begin, engine.warm_up


@pytest.mark.parametrize(("error", "words"), [(OOM, "is out of memory"), (LOST, "was lost")])
@pytest.mark.parametrize("first", ["run", "warm_up"])
def test_the_cpu_goes_on_with_the_same_answer_and_it_is_said(model, caplog, error, words, first):
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
