import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.engines.device_engine import TorchDeviceEngine
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.errors import ConfigError, ImageError
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import ENDOVIS
from csl_tracker.losses import regression_loss
from csl_tracker.metrics import tool_overlap
from csl_tracker.networks import Network, NetworkConfig, NetworkOutput, build_network
from csl_tracker.networks.encoders import Normalization
from csl_tracker.pixels import Resize
from csl_tracker.tracker import Tracker
from csl_tracker.training.config import SourceConfig, parse_config
from csl_tracker.training.data import HeldOutDataset, Source, collate
from csl_tracker.weights import Model, ModelDescription, Preprocessing, find_weights, save_weights, shipped_weights


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((0, 10, 3), np.uint8),
        np.zeros((10, 0, 3), np.uint8),
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
    ],
)
def test_bad_images_are_refused_and_the_tracker_lives_on(random_weights: Path, image: np.ndarray) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch")
    with pytest.raises(ImageError, match=r"uint8 \(H, W, 3\)"):
        tracker.track(image)
    assert tracker.track(np.zeros((64, 64, 3), np.uint8)).size == (64, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_instruments": 0}, "max_instruments is 0"),
        ({"max_instruments": 99}, "max_instruments is 99"),
        ({"confidence_threshold": 1.5}, "confidence_threshold is 1.5"),
        ({"confidence_threshold": math.nan}, "confidence_threshold is nan"),
    ],
)
def test_numbers_out_of_range_are_refused(random_weights: Path, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Tracker.from_weights(random_weights, "cpu", "torch", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(576, 720), (1, 1), (3, 500), (1080, 1920)])
@pytest.mark.parametrize("count", [1, 2])
def test_every_result_is_complete(random_weights: Path, size: tuple[int, int], count: int) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch", max_instruments=count, always_report=True)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    result = tracker.track(image)
    assert result.size == size
    assert result.label_map is not None
    assert result.label_map.shape == size
    assert result.label_map.max() < ENDOVIS.num_classes
    assert len(result.instruments) <= count
    assert result.processing_time_s > 0
    for instrument in result.instruments:
        assert sum(item.visible for item in instrument.landmarks) != 1, "one sure landmark alone is no instrument"
        assert tuple(item.name for item in instrument.landmarks) == ENDOVIS.landmarks
        assert 0 <= instrument.confidence <= 1
        left, top, width, height = instrument.roi
        assert 0 <= left <= left + width <= size[1]
        assert 0 <= top <= top + height <= size[0]
        for item in instrument.landmarks:
            assert 0 <= item.confidence <= 1
            assert not item.visible or item.confidence >= tracker.confidence_threshold
            if math.isfinite(item.x):
                assert -size[1] <= item.x <= 2 * size[1]
                np.testing.assert_allclose(item.covariance, item.covariance.T)
                assert (np.linalg.eigvalsh(item.covariance) > 0).all()


def test_the_same_image_gives_the_same_result(random_weights: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    results = []
    for _ in range(2):
        tracker = Tracker.from_weights(random_weights, "cpu", "torch", always_report=True)
        results.append([tracker.track(image, stamp_s=k * 0.04) for k in range(3)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.label_map, b.label_map)
        for one, other in zip(a.instruments, b.instruments, strict=True):
            assert (one.track_id, one.slot) == (other.track_id, other.slot)
            assert [(p.x, p.y, p.confidence) for p in one.landmarks] == [(p.x, p.y, p.confidence) for p in other.landmarks]


def test_no_label_map_unless_asked_for(random_weights: Path) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch")
    assert tracker.track(np.zeros((64, 64, 3), np.uint8), segmentation=False).label_map is None


def test_non_contiguous_images_are_taken(random_weights: Path) -> None:
    tracker = Tracker.from_weights(random_weights, "cpu", "torch", always_report=True)
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    first = tracker.track(image[..., ::-1].copy())
    again = tracker.track(image[..., ::-1])
    np.testing.assert_array_equal(first.label_map, again.label_map)


class _Pointer(Network):
    """Says the same two instruments whatever it sees; the second is the surer one, and its last landmark is not in view."""

    def __init__(self, points: np.ndarray, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = None
        self.normalization = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.points = torch.from_numpy(points.astype(np.float32))

    def forward(self, image: torch.Tensor) -> NetworkOutput:
        return NetworkOutput(None, None, self.points[None].expand(len(image), -1, -1, -1))


def pointer(source: tuple[int, int], working: tuple[int, int]) -> tuple[Model, np.ndarray]:
    """A model that regresses, and the source px that it points at."""
    truth = np.random.default_rng(1).uniform((0, 0), (source[1] - 1, source[0] - 1), (2, 5, 2))
    logits = np.array([[1.0] * 5, [3.0] * 4 + [-3.0]])
    unit = Resize(source, (1, 1)).points(truth)
    config = NetworkConfig("l", num_landmarks=5, num_classes=3, input_size=working)
    network = _Pointer(np.concatenate((unit, logits[..., None]), axis=-1), config)
    preprocessing = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), working, "stretch")
    return Model(network, ModelDescription("pointer", config, ENDOVIS, HeatmapSpec(3.5), preprocessing), ""), truth


@pytest.mark.parametrize("source", [(576, 720), (1080, 1920), (64, 64), (97, 203)])
@pytest.mark.parametrize("working", [(192, 256), (64, 64)])
@pytest.mark.parametrize("engine", [TorchCpuEngine, lambda model: TorchDeviceEngine(model, "cpu", "float32")])
def test_regressed_points_come_back_in_source_px(source, working, engine) -> None:  # type: ignore[no-untyped-def]
    model, truth = pointer(source, working)
    image = np.zeros((*source, 3), np.uint8)
    result = Tracker(model, engine(model), max_instruments=2, confidence_threshold=0.5).track(image)
    assert result.label_map is None
    assert len(result.instruments) == 2
    for instrument, expected in zip(result.instruments, truth[::-1], strict=True):
        found = np.array([(item.x, item.y) for item in instrument.landmarks])
        np.testing.assert_allclose(found, expected, atol=0.01)
    surest = result.instruments[0]
    assert [item.visible for item in surest.landmarks] == [True] * 4 + [False]
    only = Tracker(model, engine(model), max_instruments=1, confidence_threshold=0.5).track(image).instruments
    assert [item.x for item in only[0].landmarks] == [item.x for item in surest.landmarks]


def test_the_loss_of_a_network_that_points_at_the_truth_is_zero() -> None:
    """Source px, crop, heatmap px and the unit of regression: one chain of half pixels."""
    from csl_tracker.training.module import TrackingModule  # Lightning is slow to import

    model, truth = pointer((576, 720), (192, 256))
    config = parse_config({"preset": "modern", "network": {"strategy": "l"}, "input_size": [192, 256], "crop": [192, 256]}, "x")
    sample = Sample(np.zeros((576, 720, 3), np.uint8), None, truth, np.ones((2, 5), bool), "s", 0, 0)
    source = Source(lambda _index: sample, 1, 1.0)
    held_out = HeldOutDataset(source, SourceConfig("synthetic"), model.description.preprocessing)
    batch = collate([held_out[0]])
    losses, output = TrackingModule(model.network, config, model.description.preprocessing)._losses(batch)
    entropy = regression_loss(output.points, batch["points"], batch["labelled"], weight=0.0)  # type: ignore[arg-type]
    assert float(losses.total.detach() - entropy.detach()) == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("strategy", ["l", "sl", "unet", "csl_no_skip"])
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_every_strategy_tracks_from_its_weights(tmp_path: Path, strategy: str, engine: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    own = {"encoder": "none", "decoder": "none", "width": 4} if strategy == "unet" else {}
    fixed = (96, 128) if strategy in ("l", "sl") else None
    config = NetworkConfig(strategy, **{"input_size": fixed, **own})  # type: ignore[arg-type]
    network = build_network(config)
    norm = network.normalization
    preprocessing = Preprocessing(norm.mean, norm.std, (96, 128), "stretch")
    save_weights(tmp_path / "w.safetensors", network, ModelDescription("x", config, ENDOVIS, HeatmapSpec(3.5), preprocessing))
    image = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    tracker = Tracker.from_weights(tmp_path / "w.safetensors", "cpu", engine, always_report=True)
    result = tracker.track(image)
    assert (result.label_map is None) == (strategy == "l")
    assert len(result.instruments) >= 1
    found = tracker.engine.run(image, True)
    expected = Tracker.from_weights(tmp_path / "w.safetensors", "cpu", "torch").engine.run(image, True)
    for name in ("heatmaps", "foreground", "points"):
        ours, reference = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (reference is None)
        if ours is not None:
            np.testing.assert_allclose(ours, reference, atol=1e-3)


def test_weights_of_a_regression_refuse_another_resize() -> None:
    config = NetworkConfig("l", input_size=(96, 128))
    for size, resize in (((96, 128), "keep_aspect"), ((96, 96), "stretch")):
        preprocessing = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), size, resize)
        with pytest.raises(ConfigError, match=r"takes 96x128 .* and no other"):
            ModelDescription("x", config, ENDOVIS, HeatmapSpec(3.5), preprocessing)


@pytest.mark.parametrize("name", shipped_weights())
def test_shipped_weights_find_instruments_in_scenes_they_never_saw(name: str) -> None:
    """Scenes of 360x288, doubled; with red and blue exchanged they are others."""
    tracker = Tracker.from_weights(find_weights(name), "cpu", "torch", always_report=True)
    errors, overlaps, swapped = [], [], []
    for seed in range(77_000, 77_010):
        sample = render_frame(seed, (288, 360))
        image = cv2.resize(sample.image, (720, 576), interpolation=cv2.INTER_LINEAR)
        result = tracker.track(image)
        assert result.label_map is not None
        for points in sample.landmarks[sample.visible.any(axis=1)]:
            for landmark, point in enumerate(points):
                estimates = [instrument.landmarks[landmark] for instrument in result.instruments]
                # A px in the middle of a doubled one lies half of a px to the right of twice its place.
                apart = [math.hypot(*(np.array((e.x, e.y)) - (2 * point + 0.5))) for e in estimates]
                errors += [min(apart)] if np.isfinite(point).all() else []
        truth = cv2.resize(sample.label_map, (720, 576), interpolation=cv2.INTER_NEAREST)
        overlaps.append(tool_overlap(result.label_map, truth).dice)
        swapped.append(tool_overlap(tracker.track(image[..., ::-1]).label_map, truth).dice)
    assert np.median(errors) < 6
    assert np.mean(overlaps) > 0.85
    assert np.mean(overlaps) > np.mean(swapped) + 0.05
