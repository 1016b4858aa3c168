"""Images of sizes that were not expected: what an engine says, what it keeps, and that it builds nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.engines.artefacts import ArtefactCache
from csl_tracker.engines.exported import ExportedEngine
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.weights import Model, load_weights, save_weights

Builder = Callable[..., ExportedEngine]


def openvino(*given: object) -> ExportedEngine:
    pytest.importorskip("openvino")
    from csl_tracker.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(*given)  # type: ignore[arg-type]


def onnx(*given: object) -> ExportedEngine:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from csl_tracker.engines.onnx_engine import OnnxEngine

    return OnnxEngine(*given)  # type: ignore[arg-type]


WARMED_UP = (576, 720)
SIZES = [(1080, 1920), (1, 1), (1, 400), (700, 701), (720, 405), (576, 720)]


def model_of(strategy: str, random_weights: Path, tmp_path: Path) -> Model:
    model = load_weights(random_weights)
    if strategy == model.description.network.strategy:
        return model
    config = NetworkConfig(strategy=strategy, encoder="none", decoder="none", width=8)
    path = tmp_path / f"{strategy}.safetensors"
    save_weights(path, build_network(config), replace(model.description, network=config))
    return load_weights(path)


@pytest.mark.parametrize("build", [openvino, onnx])
@pytest.mark.parametrize("strategy", ["csl", "unet"])
def test_any_size_is_what_torch_says_and_nothing_is_built(
    build: Builder, strategy: str, random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(strategy, random_weights, tmp_path)
    engine, reference = build(model, False, ArtefactCache(tmp_path)), TorchCpuEngine(model)
    engine.warm_up(WARMED_UP)
    monkeypatch.setattr(engine, "build", None)
    rng = np.random.default_rng(0)
    for size in SIZES:
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        found, expected = engine.run(image, True), reference.run(image, True)
        assert found.heatmaps is not None
        assert expected.heatmaps is not None
        assert np.abs(found.heatmaps - expected.heatmaps).max() <= 1e-4 * np.abs(expected.heatmaps).max()
        assert found.label_map is not None
        assert (found.label_map != expected.label_map).mean() < 1e-3


@pytest.mark.parametrize("build", [openvino, onnx])
def test_what_is_kept_does_not_grow_with_the_sizes(build: Builder, quick_weights: Path, tmp_path: Path) -> None:
    engine = build(load_weights(quick_weights), False, ArtefactCache(tmp_path))
    rng = np.random.default_rng(1)

    def look_at(count: int) -> None:
        for height, width in rng.integers(1, 400, (count, 2)):
            engine.localize(np.zeros((height, width, 3), np.uint8), False)

    look_at(5)
    threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0
    look_at(40)
    assert len(engine._buffers) <= 8
    assert len(engine._scratch) <= 8
    assert len(engine._ready) == 1
    assert not threads or len(os.listdir("/proc/self/task")) <= threads


def test_a_network_that_holds_for_one_size_is_built_for_each_and_few_are_kept(
    quick_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("csl_tracker.engines.exported._MOST_SIZES", 2)
    model = load_weights(quick_weights)
    engine, reference = onnx(model, False, ArtefactCache(tmp_path)), TorchCpuEngine(model)
    make = engine.build

    def fail_for_any(converted: object, size: tuple[int, int] | None) -> object:
        if size is None:
            raise ValueError("a size is built in")
        return make(converted, size)

    monkeypatch.setattr(engine, "build", fail_for_any)
    engine.warm_up((128, 160))
    assert "builds a network for each size of images, which takes seconds: a size is built in" in caplog.text
    rng = np.random.default_rng(0)
    for size in [(128, 160), (160, 128), (150, 150), (128, 160)]:
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        found, expected = engine.run(image, False), reference.run(image, False)
        assert np.abs(np.asarray(found.heatmaps) - expected.heatmaps).max() <= 1e-4 * np.abs(expected.heatmaps).max()
        assert len(engine._ready) <= 2


@pytest.mark.parametrize("build", [openvino, onnx])
def test_weights_are_converted_once_in_a_process(build: Builder, quick_weights: Path, tmp_path: Path) -> None:
    """PyTorch never frees all memory of a trace: a node that is configured again must not trace again."""
    path = tmp_path / "copy.safetensors"
    path.write_bytes(quick_weights.read_bytes())
    first = build(load_weights(path), False, ArtefactCache(tmp_path))
    first.warm_up((64, 64))
    again = build(load_weights(path), True, ArtefactCache(tmp_path))
    again.convert = None  # type: ignore[assignment,method-assign]
    again.warm_up((64, 64))
    for other in (replace(load_weights(path), sha256=""), replace(load_weights(path), sha256="0" * 64)):
        converted = []
        engine = build(other, False, ArtefactCache(tmp_path))
        make = engine.convert
        engine.convert = lambda size, make=make, to=converted: to.append(size) or make(size)  # type: ignore[method-assign]
        engine.ready((64, 64))
        assert converted == [None]


def test_a_conversion_leaves_the_model_trainable(quick_weights: Path, tmp_path: Path) -> None:
    model = load_weights(quick_weights)
    parameters = list(model.network.parameters())
    parameters[0].requires_grad_(False)
    engine = openvino(replace(model, sha256=""), False, ArtefactCache(tmp_path))
    engine.convert(None)
    assert [parameter.requires_grad for parameter in parameters] == [False, *[True] * (len(parameters) - 1)]
