"""Real fits of a small forest on synthetic frames."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.engines import create_engine
from csl_tracker.engines.torch_engine import TorchCpuEngine
from csl_tracker.errors import ConfigError, EngineError
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.networks.forest import LEAF, NUM_FEATURES, ForestNodes
from csl_tracker.tracker import Tracker
from csl_tracker.training.config import NetworkSection, SourceConfig, TrainConfig
from csl_tracker.weights import load_weights

pytest.importorskip("sklearn", reason="the training extra (scikit-learn) is not installed")
pytest.importorskip("lightning", reason="the training extra (lightning) is not installed")

from csl_tracker.training.forest import (
    Pixels,
    draw_pixels,
    estimate_values,
    fill_unknown,
    train_forest,
)
from csl_tracker.training.run import train

YAML = """
name: wood
network: {strategy: forest, encoder: none, decoder: none, trees: 3, nodes: 63}
input_size: [64, 96]
crop: [64, 96]
resize: stretch
heatmap: {sigma: 2.0}
train: [{dataset: synthetic, seed: 5}]
batch_size: 4
steps: 2
workers: 0
"""


def tiny(output: Path, **changes: object) -> TrainConfig:
    settings: dict[str, object] = {
        "name": "wood",
        "output": str(output),
        "network": NetworkSection("forest", "none", "none", trees=4, nodes=101),
        "input_size": (64, 96),
        "crop": (64, 96),
        "resize": "stretch",
        "train": (SourceConfig("synthetic", seed=5),),
        "validation": (SourceConfig("synthetic", seed=77, frames=4),),
        "batch_size": 4,
        "steps": 3,
        "workers": 0,
    }
    return TrainConfig(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.fixture(name="wood", scope="module")
def wood_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a small forest, made through the door that all strategies share."""
    return train(tiny(tmp_path_factory.mktemp("wood")), "csl-tracker train wood.yaml")


def test_a_folder_of_another_forest_is_left_alone(wood: Path) -> None:
    before = wood.read_bytes()
    with pytest.raises(ConfigError, match="made with seed=0 and not with 1; use --fresh"):
        train_forest(tiny(wood.parent, seed=1), "")
    assert wood.read_bytes() == before


def test_a_finished_forest_is_not_grown_again(wood: Path) -> None:
    before = wood.stat().st_mtime_ns
    assert train_forest(tiny(wood.parent, workers=1), "another command") == wood
    assert wood.stat().st_mtime_ns == before


def test_a_fresh_run_grows_it_again(tmp_path: Path) -> None:
    config = tiny(tmp_path, steps=1, network=NetworkSection("forest", "none", "none", trees=1, nodes=7))
    for command in ("first", "second"):
        path = train(config, command, resume=False)
        assert load_weights(path).description.provenance["command"] == command


def test_the_seed_decides_and_the_number_of_jobs_does_not(wood: Path, tmp_path: Path) -> None:
    again = load_weights(train_forest(tiny(tmp_path / "again", threads=3), ""))
    other = load_weights(train_forest(tiny(tmp_path / "other", seed=1), ""))
    first = load_weights(wood)
    for key, tensor in first.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], tensor, rtol=0, atol=0)
    shapes = [model.network.state_dict()["threshold"].shape for model in (first, other)]
    assert shapes[0] != shapes[1] or not torch.equal(
        first.network.state_dict()["threshold"], other.network.state_dict()["threshold"]
    )


def test_the_weights_say_where_they_come_from(wood: Path) -> None:
    description = load_weights(wood).description
    assert description.network.strategy == "forest"
    assert description.network.trees == 4
    assert description.network.nodes <= 101
    assert description.provenance["command"] == "csl-tracker train wood.yaml"
    assert description.provenance["initialisation"] == "none (random forest)"
    assert description.provenance["samples"] == 12
    assert description.provenance["configuration"]["network"]["strategy"] == "forest"
    assert [path.name for path in wood.parent.iterdir()] == ["last.safetensors"]


def test_the_tracker_runs_a_forest(wood: Path) -> None:
    tracker = Tracker.from_weights(wood, always_report=True)
    sample = render_frame(123, (128, 192))
    result = tracker.track(sample.image)
    assert tracker.engine_name == "torch"
    assert result.label_map.shape == (128, 192)
    assert len(result.instruments) == 2


def test_openvino_is_refused(wood: Path) -> None:
    with pytest.raises(EngineError, match=r"A forest runs on the CPU .* and not on the engine 'openvino'"):
        create_engine(load_weights(wood), engine="openvino")


@pytest.mark.parametrize("settings", [{}, {"device": "cpu"}, {"engine": "torch"}])
def test_a_forest_runs_on_torchs_cpu_engine(wood: Path, settings: dict[str, str]) -> None:
    assert isinstance(create_engine(load_weights(wood), **settings), TorchCpuEngine)


def test_an_interrupted_fit_leaves_no_weights(tmp_path: Path) -> None:
    config = tmp_path / "wood.yaml"
    config.write_text(YAML)
    output = tmp_path / "out"
    command = [sys.executable, "-m", "csl_tracker.cli.main", "train", str(config), f"output={output}", "steps=100"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = ""
    while "Samples 1" not in seen:
        assert process.poll() is None, seen
        seen += process.stderr.read(1)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    assert "Traceback" not in process.stderr.read()
    assert not list(output.glob("*")) if output.exists() else True


def _sample(labels: np.ndarray, points: list[list[tuple[float, float]]], labelled: list[bool]) -> dict[str, torch.Tensor]:
    height, width = labels.shape
    return {
        "image": torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2 * height, 2 * width, 3)).astype(np.uint8)),
        "labels": torch.from_numpy(labels),
        "points": torch.tensor(points, dtype=torch.float32),
        "labelled": torch.tensor(labelled),
    }


def test_rare_pixels_are_drawn_more_often_and_weigh_less() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[20:30, 30:40] = 1
    labels[:10] = 255
    sample = _sample(labels, [[(34.0, 24.0), (70.0, 50.0)]], [True, False])
    drawn = [draw_pixels(sample, 2, HeatmapSpec(2.0), np.random.default_rng(seed)) for seed in range(20)]
    pixels = Pixels(*(np.concatenate([getattr(item, name) for item in drawn]) for name in ("features", "targets", "weight")))
    assert pixels.features.shape[1] == NUM_FEATURES
    known = ~np.isnan(pixels.targets[:, 0])
    tool = pixels.targets[:, 1] == 1
    # The weights of the pixels of a kind add up to how many of that kind there are.
    assert pixels.weight.sum() / 20 == pytest.approx(60 * 80, rel=0.1)
    assert pixels.weight[tool].sum() / 20 == pytest.approx(100, rel=0.1)
    assert pixels.weight[~known].sum() / 20 == pytest.approx(800, rel=0.15)
    assert tool.mean() > 10 * 100 / (60 * 80)
    # The landmark is known, the second is labelled nowhere.
    assert np.nanmax(pixels.targets[:, 2]) > 0.9
    assert np.isnan(pixels.targets[:, 3]).all()


def test_unknown_targets_are_filled_with_those_of_their_class() -> None:
    nan = math.nan
    targets = np.array([[1, 0, 0.2], [1, 0, 0.4], [1, 0, nan], [0, 1, 0.9], [0, 1, nan], [nan, nan, nan]], np.float32)
    filled = fill_unknown(targets, 2)
    np.testing.assert_allclose(filled[:, 2], [0.2, 0.4, 0.3, 0.9, 0.9, 0.5], rtol=1e-6)
    np.testing.assert_allclose(filled[5, :2], [0.6, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(filled[:5, :2], targets[:5, :2])


def _tree() -> ForestNodes:
    """Feature 0 at 0, then feature 1 at 0 on its right side."""
    return ForestNodes(
        np.array([[0, LEAF, 1, LEAF, LEAF]]),
        np.zeros((1, 5), np.float32),
        np.array([[1, 0, 3, 0, 0]]),
        np.array([[2, 0, 4, 0, 0]]),
        np.zeros((1, 5, 1), np.float32),
    )


def test_values_lean_towards_those_of_the_parent() -> None:
    """By hand: four pixels of prior, and a leaf that nobody labelled has its parent's value."""
    features = np.zeros((6, NUM_FEATURES), np.float32)
    features[:, 0] = [-1, -1, 1, 1, 1, 1]
    features[:, 1] = [0, 0, -1, -1, 1, 1]
    targets = np.array([[0], [0], [1], [0.5], [math.nan], [math.nan]], np.float32)
    pixels = Pixels(features, targets, np.ones(6, np.float32))
    value = estimate_values(_tree(), pixels, (0.0,)).value[0, :, 0]
    root = 1.5 / 4
    right = (1.5 + 4 * root) / (2 + 4)
    np.testing.assert_allclose(value, [root, 4 * root / (2 + 4), right, (1.5 + 4 * right) / (2 + 4), right], rtol=1e-6)


def test_weights_restore_the_images_own_shares() -> None:
    features = np.zeros((4, NUM_FEATURES), np.float32)
    targets = np.array([[1], [1], [1], [0]], np.float32)
    pixels = Pixels(features, targets, np.array([1, 1, 1, 9], np.float32))
    assert estimate_values(_tree(), pixels, (1.0,)).value[0, 0, 0] == pytest.approx(0.25)
    assert estimate_values(_tree(), pixels, (0.0,)).value[0, 0, 0] == pytest.approx(0.75)
