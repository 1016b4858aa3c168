import importlib.util
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from csl_tracker.engines import create_engine
from csl_tracker.engines.base import Engine
from csl_tracker.engines.device_engine import TorchDeviceEngine
from csl_tracker.engines.labels import upsample_labels
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.errors import EngineError
from csl_tracker.heatmaps import HeatmapSpec, decode
from csl_tracker.instruments import ENDOVIS, InstrumentSet
from csl_tracker.networks import NetworkConfig, NetworkOutput, build_network
from csl_tracker.networks.base import OFFSET_UNIT_PX
from csl_tracker.pixels import resize_image
from csl_tracker.weights import Model, ModelDescription, Preprocessing, load_weights

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")), reason="onnx or onnxruntime is missing"
)
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


def _openvino(model: Model, mirror: bool = False) -> Engine:
    from csl_tracker.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(model, mirror)


def _onnx(model: Model, mirror: bool = False) -> Engine:
    from csl_tracker.engines.onnx_engine import OnnxEngine

    return OnnxEngine(model, mirror)


MIRRORING = [
    pytest.param(lambda model: TorchCpuEngine(model, mirror=True), id="torch"),
    pytest.param(lambda model: TorchDeviceEngine(model, "cpu", "float32", mirror=True), id="torch-device-path"),
    pytest.param(lambda model: _openvino(model, mirror=True), id="openvino", marks=needs_openvino),
    pytest.param(lambda model: _onnx(model, mirror=True), id="onnx", marks=needs_onnx),
]
BUILDERS = [
    pytest.param(TorchCpuEngine, id="torch"),
    pytest.param(lambda model: TorchDeviceEngine(model, "cpu", "float32"), id="torch-device-path"),
    pytest.param(_openvino, id="openvino", marks=needs_openvino),
    pytest.param(_onnx, id="onnx", marks=needs_onnx),
]


class _Eye(nn.Module):
    """A network whose heatmaps are the image's red and green at half the size, and whose class is told by the blue."""

    def forward(self, image: Tensor) -> NetworkOutput:
        half = functional.avg_pool2d(image, 2)
        blue = half[:, 2:]
        return NetworkOutput(half[:, :2], torch.cat((0.5 - blue, blue - 0.5), dim=1))


def _eye_model(input_size: tuple[int, int], resize: str) -> Model:
    """Sees blobs of a standard deviation of 3 px of the heatmap."""
    description = ModelDescription(
        "eye",
        NetworkConfig(num_landmarks=2, num_classes=2),
        InstrumentSet(("red", "green"), ("background", "blue")),
        HeatmapSpec(3.0),
        Preprocessing((0.0, 0.0, 0.0), (255.0, 255.0, 255.0), input_size, resize),
    )
    return Model(_Eye(), description, "0" * 64)  # type: ignore[arg-type]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("resize", ["keep_aspect", "stretch"])
@pytest.mark.parametrize("source", [(576, 720), (1080, 1920), (480, 640), (301, 455), (128, 160), (100, 120)])
def test_a_drawn_point_comes_back_where_it_was_drawn(
    build: Callable[[Model], Engine], resize: str, source: tuple[int, int]
) -> None:
    """Encode, draw, resize, decode: 0.1 px of the source or, where it is larger, 0.05 px of the heatmap."""
    model = _eye_model((256, 320), resize)
    engine = build(model)
    working = model.description.preprocessing.working_size(source)
    sigma = (3.0 * 2 * source[1] / working[1], 3.0 * 2 * source[0] / working[0])
    truth = [(0.31 * source[1] + 0.37, 0.42 * source[0] + 0.81), (0.7 * source[1] + 0.5, 0.66 * source[0])]
    rows, columns = np.mgrid[: source[0], : source[1]]
    image = np.zeros((*source, 3), np.uint8)
    for channel, (x, y) in enumerate(truth):
        blob = np.exp(-0.5 * (((columns - x) / sigma[0]) ** 2 + ((rows - y) / sigma[1]) ** 2))
        image[..., channel] = np.rint(255 * blob)
    edge = source[1] // 3
    image[:, edge:, 2] = 255
    output = engine.run(image, segmentation=True)
    for found, (x, y) in zip(decode(output.heatmaps, HeatmapSpec(3.0), 1), truth, strict=True):
        where = output.to_source.points((found[0].x, found[0].y))
        scale = 2 * max(source[0] / working[0], source[1] / working[1])
        assert math.hypot(where[0] - x, where[1] - y) < max(0.1, 0.05 * scale)
        assert found[0].confidence == pytest.approx(1.0, abs=0.06)
    assert output.label_map is not None
    assert output.label_map.shape == source
    assert output.label_map.dtype == np.uint8
    # The classes' border is found to half a px of the heatmap, and every row agrees.
    borders = output.label_map.argmax(axis=1)
    assert np.all(output.label_map.max(axis=1) == 1)
    assert np.abs(borders - edge).max() <= math.ceil(source[1] / working[1])
    assert output.foreground.shape == (working[0] // 2, working[1] // 2)


@pytest.mark.parametrize("source", [(576, 720), (1080, 1920), (480, 640), (601, 720), (90, 70), (256, 320)])
def test_devices_resize_as_the_cpu_does(source: tuple[int, int], random_weights) -> None:  # type: ignore[no-untyped-def]
    """But for OpenCV's bilinear rounding, which is a little low: by a grey level at the most, and on a few px."""
    image = np.random.default_rng(0).integers(0, 256, (*source, 3), dtype=np.uint8)
    engine = TorchDeviceEngine(load_weights(random_weights), "cpu", "float32")
    path = engine.make_path(source, False, 1)
    found = path.resize(torch.from_numpy(image))
    difference = found[0].permute(1, 2, 0).numpy() - resize_image(image, path.working)
    assert np.abs(difference).max() <= 1
    assert np.abs(difference).mean() < 0.2


@pytest.mark.parametrize("build", BUILDERS[1:])
def test_engines_say_what_torch_says(build: Callable[[Model], Engine], random_weights) -> None:  # type: ignore[no-untyped-def]
    model = load_weights(random_weights)
    # At the working size nothing is resized, so that only the network differs.
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    expected, found = TorchCpuEngine(model).run(image, True), build(model).run(image, True)
    scale = float(np.abs(expected.heatmaps).max())
    np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=2e-3 * scale)
    np.testing.assert_allclose(found.foreground, expected.foreground, atol=2e-3)
    assert found.label_map is not None
    assert expected.label_map is not None
    assert (found.label_map != expected.label_map).mean() < 0.005
    assert build(model).run(image, False).label_map is None


@pytest.mark.parametrize("build", BUILDERS[1:])
def test_offsets_are_those_of_torch(build: Callable[[Model], Engine], make_weights) -> None:  # type: ignore[no-untyped-def]
    model = load_weights(make_weights(network=NetworkConfig(association=True)))
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    expected, found = TorchCpuEngine(model).run(image, True), build(model).run(image, True)
    assert expected.offsets is not None
    assert expected.offsets.shape == (2, 64, 80)
    scale = float(np.abs(expected.offsets).max())
    np.testing.assert_allclose(found.offsets, expected.offsets, atol=2e-3 * scale)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (model.description.preprocessing.mean, model.description.preprocessing.std)
    )
    with torch.inference_mode():
        direct = OFFSET_UNIT_PX * model.network((pixels - mean) / std).offsets[0].numpy()
    np.testing.assert_allclose(expected.offsets, direct, atol=2e-3 * scale)


@pytest.mark.parametrize("build", MIRRORING)
def test_offsets_of_the_mirrored_image_are_mirrored(build, make_weights) -> None:  # type: ignore[no-untyped-def]
    engine = build(load_weights(make_weights(network=NetworkConfig(association=True))))
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    one, other = engine.run(image, True).offsets, engine.run(np.ascontiguousarray(image[:, ::-1]), True).offsets
    tolerance = 2e-3 * float(np.abs(one).max())
    np.testing.assert_allclose(other[0, :, ::-1], -one[0], atol=tolerance)
    np.testing.assert_allclose(other[1, :, ::-1], one[1], atol=tolerance)


@pytest.mark.parametrize("strategy", ["l", "sl"])
@pytest.mark.parametrize("build", BUILDERS[1:])
def test_regressed_points_are_those_of_torch(build: Callable[[Model], Engine], strategy: str) -> None:
    model = _regressing_model(strategy)
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    expected, found = TorchCpuEngine(model, fold=False).run(image, True), build(model).run(image, True)
    assert expected.points is not None
    assert expected.points.shape == (2, 5, 3)
    np.testing.assert_allclose(found.points, expected.points, atol=1e-3)
    assert found.heatmaps is None
    assert (found.label_map is None) == (strategy == "l")


def _regressing_model(strategy: str) -> Model:
    config = NetworkConfig(strategy, input_size=(96, 128))
    description = ModelDescription(
        strategy, config, ENDOVIS, HeatmapSpec(3.0), Preprocessing((127.0,) * 3, (128.0,) * 3, (96, 128), "stretch")
    )
    return Model(build_network(config).eval(), description, "")


def test_labels_are_upsampled_as_torch_does() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 32, 40)).astype(np.float32)
    expected = functional.interpolate(torch.from_numpy(scores)[None], (150, 97), mode="bilinear").argmax(dim=1)[0].numpy()
    assert (upsample_labels(scores, (150, 97)) != expected).mean() < 2e-3


@pytest.mark.parametrize(
    ("device", "engine", "message"),
    [
        ("cpu", "magic", "engine 'magic' is unknown; choose one of auto, torch, onnx, openvino, tensorrt"),
        ("toaster", "auto", "device 'toaster' is unknown"),
        ("mps", "auto", "is not supported"),
        pytest.param(
            "cuda", "auto", "sees no CUDA GPU", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA GPU is here")
        ),
    ],
)
def test_what_is_not_there_is_said(device: str, engine: str, message: str, random_weights) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EngineError, match=message):
        create_engine(load_weights(random_weights), device, engine)


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("auto", "int4", "precision 'int4' is unknown; choose one of auto, float32, tf32, float16, bfloat16"),
        ("auto", "tf32", "The CPU does not compute in tf32; use device 'cuda', or precision 'auto'"),
        ("tensorrt", "auto", "The engine 'tensorrt' runs on CUDA and not on the CPU; use device 'cuda', or engine 'auto'"),
        ("auto", "float16", "The CPU does not compute in float16; use device 'cuda', or precision 'auto'"),
        ("torch", "bfloat16", "The engine 'torch' on the CPU does not compute in bfloat16; use engine 'openvino'"),
        ("onnx", "bfloat16", "The engine 'onnx' on the CPU does not compute in bfloat16"),
    ],
)
def test_a_precision_that_is_not_there_is_said(random_weights, engine: str, precision: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EngineError, match=message):
        create_engine(load_weights(random_weights), "cpu", engine, precision=precision)


@needs_openvino
def test_bfloat16_is_another_computation_and_near(random_weights) -> None:  # type: ignore[no-untyped-def]
    model = load_weights(random_weights)
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    engine = create_engine(model, "cpu", precision="bfloat16")
    found, expected = engine.run(image, True).heatmaps, TorchCpuEngine(model).run(image, True).heatmaps
    assert engine.name == "openvino"
    assert found is not None
    assert expected is not None
    # CPUs without bfloat16 compute in float32 all the same.
    np.testing.assert_allclose(found, expected, atol=0.1 * float(np.abs(expected).max()))


@pytest.mark.parametrize(
    ("absent", "expected", "reason"),
    [
        ((), "openvino", "the fastest of openvino, onnx, torch"),
        (("openvino",), "onnx", "the fastest of onnx, torch"),
        (("openvino", "onnxruntime"), "torch", "the only one that is installed here"),
    ],
)
@needs_onnx
@needs_openvino
def test_auto_takes_the_best_that_is_installed(  # type: ignore[no-untyped-def]
    random_weights, monkeypatch: pytest.MonkeyPatch, absent: tuple[str, ...], expected: str, reason: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in absent else find(name, *rest))
    model = load_weights(random_weights)
    engine = create_engine(model, "cpu")
    assert (engine.name, engine.device, engine.reason) == (expected, "cpu", reason)
    for name in absent:
        wanted = {"onnxruntime": "onnx"}.get(name, name)
        with pytest.raises(EngineError, match=f"The engine '{wanted}' is not installed; run 'pip install"):
            create_engine(model, "cpu", wanted)
    assert create_engine(model, "cpu", "torch").name == "torch"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU is here")
def test_cuda_in_half_precision_says_what_the_cpu_says(random_weights) -> None:  # type: ignore[no-untyped-def]
    model = load_weights(random_weights)
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    expected, found = TorchCpuEngine(model).run(image, True), create_engine(model, "cuda").run(image, True)
    np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=0.02 * float(np.abs(expected.heatmaps).max()))


@pytest.mark.parametrize("build", MIRRORING)
@pytest.mark.parametrize("size", [(128, 160), (129, 203)])
def test_the_mirrored_image_says_the_same_mirrored(random_weights, build, size: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    """The mean with the mirrored image is, for the mirrored image, the mirrored mean, left and right landmarks swapped."""
    model = load_weights(random_weights)
    engine = build(model)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    one, other = engine.run(image, True), engine.run(np.ascontiguousarray(image[:, ::-1]), True)
    order = model.instruments.flip_permutation()
    assert order != sorted(order)
    assert one.heatmaps is not None
    tolerance = 2e-3 * float(np.abs(one.heatmaps).max())
    np.testing.assert_allclose(other.heatmaps[order, :, ::-1], one.heatmaps, atol=tolerance)
    np.testing.assert_allclose(other.foreground[:, ::-1], one.foreground, atol=2e-3)
    assert (other.label_map[:, ::-1] != one.label_map).mean() < 0.01
    if size != (128, 160):
        return  # the engines' ways to resize differ a little
    plain = TorchCpuEngine(model)
    straight, turned = plain.run(image, False), plain.run(np.ascontiguousarray(image[:, ::-1]), False)
    mean = 0.5 * (straight.heatmaps + turned.heatmaps[order, :, ::-1])
    np.testing.assert_allclose(one.heatmaps, mean, atol=tolerance)


@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_regressed_coordinates_are_not_averaged_with_the_mirrored(engine: str) -> None:
    config = NetworkConfig("l", input_size=(96, 128))
    description = ModelDescription(
        "l", config, ENDOVIS, HeatmapSpec(3.0), Preprocessing((0.0,) * 3, (255.0,) * 3, (96, 128), "stretch")
    )
    with pytest.raises(EngineError, match="the strategy 'l' has none; track without the mirrored image"):
        create_engine(Model(build_network(config), description, ""), "cpu", engine, mirror=True)
