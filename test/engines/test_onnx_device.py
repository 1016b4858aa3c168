"""ONNX Runtime on a GPU refuses to run anywhere else; this machine needs no GPU for that."""

import os
import subprocess
import sys

import pytest
import torch

from csl_tracker.engines import create_engine
from csl_tracker.errors import EngineError
from csl_tracker.weights import load_weights

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture
def cuda(monkeypatch):
    """A machine whose torch sees a CUDA device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("onnx", "float16", "The engine 'onnx' on 'cuda:0' does not compute in float16; use precision float32 or tf32"),
        ("onnx", "bfloat16", "does not compute in bfloat16"),
        ("tensorrt", "float32", "does not compute in float32; use precision tf32 or float16"),
        ("openvino", "auto", "The engine 'openvino' runs on the CPU and not on 'cuda:0'"),
    ],
)
def test_what_a_provider_does_not_compute_is_said(cuda, random_weights, engine, precision, message):
    with pytest.raises(EngineError, match=message):
        create_engine(load_weights(random_weights), "cuda", engine, precision=precision)


@pytest.mark.parametrize(("engine", "provider"), [("onnx", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")])
def test_a_build_without_the_provider_is_refused(cuda, random_weights, monkeypatch, engine, provider):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineError, match=f"has no {provider}, but only CPUExecutionProvider; install 'onnxruntime-gpu'"):
        create_engine(load_weights(random_weights), "cuda", engine)


@pytest.mark.parametrize("running", [["CPUExecutionProvider"], []])
def test_a_session_that_took_another_provider_is_refused(cuda, random_weights, monkeypatch, running):
    class Session:
        def __init__(self, *given, **also):
            pass

        def get_providers(self):
            return running

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    engine = create_engine(load_weights(random_weights), "cuda", "onnx")
    with pytest.raises(EngineError, match="instead of CUDAExecutionProvider, whose libraries or device it does not find"):
        engine.warm_up((128, 160), 2)


GPU_BUILD = os.environ.get("CSL_TRACKER_ONNXRUNTIME_GPU", "")
"""Folder of an unpacked 'onnxruntime-gpu' wheel."""


@pytest.mark.skipif(not GPU_BUILD, reason="CSL_TRACKER_ONNXRUNTIME_GPU names no folder with ONNX Runtime's build for GPUs")
@pytest.mark.parametrize("engine", ["onnx", "tensorrt"])
def test_the_build_for_gpus_refuses_a_machine_without_one(random_weights, engine):
    """The real provider, whose session would run on the CPU without a word."""
    program = f"""
import torch
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
import onnxruntime
assert "CUDAExecutionProvider" in onnxruntime.get_available_providers(), onnxruntime.__file__
from csl_tracker.engines import create_engine
from csl_tracker.errors import EngineError
from csl_tracker.weights import load_weights
engine = create_engine(load_weights({str(random_weights)!r}), "cuda", {engine!r})
try:
    engine.warm_up((128, 160), 2)
except EngineError as error:
    print("refused:", error)
"""
    path = os.pathsep.join([GPU_BUILD, *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120
    )
    assert "refused: ONNX Runtime" in done.stdout, done.stderr
    assert "install 'onnxruntime-gpu'" in done.stdout
