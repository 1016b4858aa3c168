"""The second task that tells left from right: its targets against geometry, and that a network really gets it."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.instruments import ENDOVIS, InstrumentSet
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.training.config import parse_config
from csl_tracker.training.left_right_task import side_axis, side_loss, side_targets
from csl_tracker.training.module import TrackingModule
from csl_tracker.training.run import train
from csl_tracker.weights import Preprocessing, load_weights

SHAFT, HEAD, LEFT, RIGHT = 1, 2, 3, 4


def test_the_axis_runs_to_where_the_paired_landmarks_branch() -> None:
    assert side_axis(ENDOVIS) == (SHAFT, HEAD)
    assert side_axis(InstrumentSet(("a", "b"), ("background",), (("a", "b"),))) is None
    assert side_axis(InstrumentSet(("a", "b"), ("background",), (("a", "b"),), (("a", "b"),))) is None, "no axis before them"


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0, -1.2, math.pi])
def test_left_is_negative_whatever_the_direction(angle: float) -> None:
    """Against a loop: the sine between axis and pixel, seen from the shaft to the tip, times the distance."""
    head, length = np.array([20.0, 15.0]), 6.0
    along = np.array([math.cos(angle), math.sin(angle)])
    points = torch.full((1, 2, 5, 2), torch.nan)
    points[0, 1, HEAD] = torch.from_numpy(head)
    points[0, 1, SHAFT] = torch.from_numpy(head - length * along)
    labels = torch.ones(1, 32, 40, dtype=torch.uint8)
    labels[0, 0], labels[0, 1] = 0, 255
    target, asked = side_targets(points, labels, (SHAFT, HEAD))
    for row in range(32):
        for column in range(40):
            away = np.array([column, row]) - head
            expected = math.tanh((along[0] * away[1] - along[1] * away[0]) / (0.4 * length))
            assert float(target[0, row, column]) == pytest.approx(expected, abs=1e-5)
            assert bool(asked[0, row, column]) == (row > 1 and float(np.hypot(*away)) < 4 * length)


def test_a_pixel_belongs_to_the_nearest_instrument_and_unknown_axes_ask_nothing() -> None:
    points = torch.full((2, 2, 5, 2), torch.nan)
    points[0, 0, SHAFT], points[0, 0, HEAD] = torch.tensor([2.0, 10.0]), torch.tensor([8.0, 10.0])
    points[0, 1, SHAFT], points[0, 1, HEAD] = torch.tensor([38.0, 10.0]), torch.tensor([32.0, 10.0])
    target, asked = side_targets(points, torch.ones(2, 20, 40, dtype=torch.uint8), (SHAFT, HEAD))
    assert target[0, 5, 8] < 0 < target[0, 15, 8]
    assert target[0, 5, 32] > 0 > target[0, 15, 32], "the second looks the other way"
    assert not asked[1].any()
    assert torch.isfinite(target).all()
    assert float(side_loss(torch.randn(1, 1, 20, 40), target[1:], asked[1:])) == 0.0


@pytest.mark.parametrize("mirrored", [False, True])
def test_claspers_of_rendered_frames_lie_on_their_sides(mirrored: bool) -> None:
    """Names, axis and the order in a mirrored image agree: left claspers are negative, right ones positive."""
    signs = []
    for seed in range(40):
        sample = render_frame(seed, (128, 160))
        points = sample.landmarks.copy()
        if mirrored:
            points = points[:, ENDOVIS.flip_permutation()]
            points[..., 0] = 159 - points[..., 0]
        for instrument in points:
            if not np.isfinite(instrument[1:]).all() or np.hypot(*(instrument[LEFT] - instrument[RIGHT])) < 5:
                continue
            tensor = torch.from_numpy(instrument[None, None].astype(np.float32))
            target, _ = side_targets(tensor, torch.ones(1, 128, 160), (SHAFT, HEAD))
            left, right = (target[0, round(y), round(x)] for x, y in instrument[[LEFT, RIGHT]])
            signs.append(float(left) < float(right))
    assert len(signs) > 15
    assert all(signs)


SETTINGS = {"encoder_weights": "", "input_size": [64, 96], "crop": [64, 96], "resize": "stretch", "side_weight": 1.0}


@pytest.mark.parametrize("strategy", ["csl", "csl_no_skip", "sl", "unet", "l"])
def test_what_has_a_decoder_is_asked(strategy: str) -> None:
    own = {"encoder": "none", "decoder": "none"} if strategy == "unet" else {}
    config = parse_config({**SETTINGS, "network": {"strategy": strategy, "width": 4, **own}}, "here")
    size = (64, 96) if strategy in ("l", "sl") else None
    network = build_network(NetworkConfig(strategy, **{**own, "input_size": size, "width": 4}))  # type: ignore[arg-type]
    module = TrackingModule(network, config, Preprocessing((0.0,) * 3, (255.0,) * 3, (64, 96), "stretch"))  # type: ignore[arg-type]
    points = torch.tensor([[[[2.0, 10.0], [8.0, 10.0], [14.0, 11.0], [20.0, 8.0], [20.0, 14.0]]]])
    batch = {
        "image": torch.randint(0, 255, (1, 64, 96, 3), dtype=torch.uint8),
        "labels": torch.ones(1, 32, 48, dtype=torch.uint8),
        "points": points,
        "labelled": torch.ones(1, 5, dtype=torch.bool),
    }
    losses, _ = module._losses(batch)
    assert (losses.side is None) == (strategy == "l")
    losses.total.backward()
    if module.side_head is not None:
        assert module.side_head.weight.grad is not None
        optimised = {id(p) for group in module.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
        assert id(module.side_head.weight) in optimised
        assert losses.segmentation is not None
        assert float(losses.total) == pytest.approx(float(losses.segmentation + losses.localisation + losses.side))


def test_the_weights_of_such_a_training_are_like_any_other(tmp_path: Path) -> None:
    data = {
        **SETTINGS,
        "name": "sided",
        "output": str(tmp_path),
        "batch_size": 2,
        "steps": 2,
        "steps_per_epoch": 2,
        "workers": 0,
    }
    source = {"dataset": "synthetic", "seed": 3, "frames": 2}
    config = parse_config({**data, "train": [source], "validation": [source], "accelerator": "cpu"}, "here")
    model = load_weights(train(config, "here"))
    assert "val/side" in model.description.provenance["validation"]
    assert not any("side" in key for key in model.network.state_dict())
