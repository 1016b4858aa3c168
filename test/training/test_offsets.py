import numpy as np
import pytest
import torch

from csl_tracker.datasets.augment import paste, warp_sample
from csl_tracker.datasets.rendered.effects_pieces import Box, cut, empty, lay
from csl_tracker.datasets.sample import Sample, renumbered
from csl_tracker.datasets.synthetic import render_frame
from csl_tracker.errors import ConfigError
from csl_tracker.instruments import ENDOVIS, RETINAL
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.networks.base import OFFSET_UNIT_PX
from csl_tracker.tracker import Tracker
from csl_tracker.training.association import offset_loss, offset_targets
from csl_tracker.training.config import parse_config
from csl_tracker.weights import load_weights

NAN = float("nan")
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.mark.parametrize("strategy", ["l", "sl", "sl_skip", "unet", "forest"])
def test_other_strategies_refuse_an_association(strategy):
    size = (64, 64) if strategy in ("l", "sl", "sl_skip") else None
    parts = {"encoder": "none", "decoder": "none"} if strategy in ("unet", "forest") else {}
    with pytest.raises(ConfigError, match="true for csl_no_skip and csl only"):
        NetworkConfig(strategy, input_size=size, association=True, **parts)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_the_association_is_true_or_false(value):
    with pytest.raises(ConfigError, match="it is true or false"):
        NetworkConfig(association=value)


def test_the_header_names_the_association_only_where_it_is_on():
    assert "association" not in NetworkConfig().to_dict()
    with_it = NetworkConfig(association=True)
    assert NetworkConfig.from_dict(with_it.to_dict()) == with_it
    assert not NetworkConfig.from_dict(NetworkConfig().to_dict()).association


@pytest.mark.parametrize("strategy", ["csl", "csl_no_skip"])
def test_a_network_gives_offsets_of_the_size_of_its_heatmaps(strategy):
    network = build_network(NetworkConfig(strategy, association=True)).eval()
    with torch.inference_mode():
        output = network(torch.zeros(1, 3, 50, 70))
        plain = build_network(NetworkConfig(strategy)).eval()(torch.zeros(1, 3, 50, 70))
    assert output.offsets.shape == (1, 2, 25, 35)
    assert output.offsets.shape[-2:] == output.heatmaps.shape[-2:]
    assert plain.offsets is None


def test_the_anchor_is_the_landmark_with_most_edges():
    assert ENDOVIS.landmarks[ENDOVIS.anchor] == "head"
    assert RETINAL.landmarks[RETINAL.anchor] == "center"


def batch(instances, anchors, points=None, labels=None):
    """A batch of one frame."""
    instances = torch.tensor(instances)[None]
    count = len(anchors)
    points = torch.full((1, count, 1, 2), NAN) if points is None else torch.tensor(points).reshape(1, count, -1, 2)
    labels = (instances > 0).long() if labels is None else torch.tensor(labels)[None]
    return torch.tensor(anchors, dtype=torch.float32)[None], instances, labels, points.float()


def test_each_pixel_points_to_the_anchor_of_its_instrument():
    instances = np.zeros((6, 8), np.int64)
    instances[1, 2], instances[4, 7] = 1, 2
    target, asked = offset_targets(*batch(instances, [[20.0, -3.0], [0.0, 0.0]]))
    assert asked.sum() == 2
    np.testing.assert_allclose(target[0, :, 1, 2] * OFFSET_UNIT_PX, (18, -4))
    np.testing.assert_allclose(target[0, :, 4, 7] * OFFSET_UNIT_PX, (-7, -4), rtol=1e-6)


def test_nothing_is_asked_of_instruments_without_a_known_anchor_or_of_ignored_pixels():
    instances = np.array([[1, 2, 2, 0]])
    labels = np.array([[1, 1, 255, 0]])
    _, asked = offset_targets(*batch(instances, [[NAN, NAN], [3.0, 0.0]], labels=labels))
    np.testing.assert_array_equal(asked[0], [[False, True, False, False]])


def test_without_instances_only_the_places_of_landmarks_are_asked():
    instances = np.full((20, 40), 255)
    points = [[[5.0, 10.0]], [[30.0, 10.0]]]
    target, asked = offset_targets(*batch(instances, [[0.0, 0.0], [39.0, 0.0]], points))
    assert asked[0, 10, 5]
    assert asked[0, 10, 30]
    assert not asked[0, 10, 17]
    np.testing.assert_allclose(target[0, :, 10, 30] * OFFSET_UNIT_PX, (9, -10))
    _, crowded = offset_targets(*batch(instances, [[0.0, 0.0], [39.0, 0.0]], [[[5.0, 10.0]], [[6.0, 10.0]]]))
    assert not crowded[0, 10, 5]


def test_the_loss_is_smooth_l1_over_the_asked_pixels():
    targets = torch.zeros(1, 2, 1, 3)
    offsets = torch.tensor([[[[0.5, 3.0, 9.0]], [[0.0, 0.0, 9.0]]]])
    asked = torch.tensor([[[True, True, False]]])
    assert offset_loss(offsets, targets, asked) == pytest.approx((0.45 + 2.95) / 2)
    assert offset_loss(offsets, targets, torch.zeros_like(asked)) == 0


def test_synthetic_frames_have_instances_and_anchors():
    found = 0
    for seed in range(12):
        sample = render_frame(seed, (96, 120))
        np.testing.assert_array_equal(sample.instances > 0, sample.label_map > 0)
        seen = np.isfinite(sample.landmarks[:, ENDOVIS.anchor]).all(axis=-1)
        np.testing.assert_array_equal(sample.anchors[seen], sample.landmarks[seen, ENDOVIS.anchor])
        found += len(sample.anchors)
        for k, landmarks in enumerate(sample.landmarks):
            for x, y in landmarks[np.isfinite(landmarks).all(axis=-1)][:1]:
                assert sample.instances[round(y), round(x)] in {k + 1, *range(k + 2, len(sample.landmarks) + 1), 0}
    assert found > 8


def two_sided() -> Sample:
    instances = np.zeros((64, 64), np.uint8)
    instances[10:20, 5:60], instances[40:50, 5:60] = 1, 2
    landmarks = np.full((2, 5, 2), np.nan)
    landmarks[:, 2] = [[50, 15], [50, 45]]
    anchors = np.array([[50.0, 15.0], [90.0, 45.0]])
    labels = (instances > 0).astype(np.uint8)
    return Sample(np.zeros((64, 64, 3), np.uint8), labels, landmarks, np.ones((2, 5), bool), "s", 0, 0, instances, anchors)


def test_anchors_follow_crops_and_are_not_lost_out_of_view():
    crop = warp_sample(two_sided(), np.array([[2.0, 0.0, -20.0], [0.0, 2.0, 4.0]]), False, (0, 1, 2, 4, 3), (64, 64))
    # Source x of 90 becomes 160 crop px, and (160 + 0.5) / 2 - 0.5 map px.
    np.testing.assert_allclose(crop.anchors, [[39.75, 16.75], [79.75, 46.75]])
    assert set(np.unique(crop.instances)) == {0, 1}


def test_pasted_instruments_keep_their_own_anchors():
    below = warp_sample(two_sided(), IDENTITY, False, (0, 1, 2, 4, 3), (64, 64))
    above = warp_sample(two_sided(), np.array([[1.0, 0, 0], [0, 1.0, 12.0]]), False, (0, 1, 2, 4, 3), (64, 64))
    both = paste(below, above)
    assert set(np.unique(both.instances)) == {0, 1, 2, 3, 4}
    np.testing.assert_allclose(both.anchors, np.concatenate((below.anchors, above.anchors)))


@pytest.mark.parametrize(("before", "expected"), [(0, [0, 1, 2, 255]), (3, [0, 4, 5, 255]), (253, [0, 254, 255, 255])])
def test_instances_are_counted_on_and_unknown_beyond_uint8(before, expected):
    np.testing.assert_array_equal(renumbered(np.array([0, 1, 2, 255], np.uint8), before), expected)


def test_anchors_follow_the_pieces_of_a_layout():
    sample = two_sided()
    piece = cut(sample, Box(32, 0, 32, 32), (16, 16))
    np.testing.assert_allclose(piece.anchors, [[8.75, 7.25], [28.75, 22.25]])
    whole = lay(empty(sample), piece, 5, 7)
    np.testing.assert_allclose(whole.anchors, piece.anchors + np.array([5, 7]))


def tiny(output, association, **changes):
    """A run of two steps."""
    source = {"dataset": "synthetic", "seed": 5, "frames": 2}
    return parse_config(
        {
            "name": "tiny",
            "output": str(output),
            "network": {"association": association},
            "encoder_weights": "",
            "input_size": [64, 96],
            "crop": [64, 64],
            "train": [source],
            "validation": [source],
            "batch_size": 2,
            "steps": 2,
            "steps_per_epoch": 2,
            "workers": 0,
            "threads": 1,
            "accelerator": "cpu",
            **changes,
        },
        "the test",
    )


def test_an_association_is_trained_stored_and_added_to_weights_without_one(tmp_path):
    pytest.importorskip("lightning", reason="the training extra (lightning) is not installed")
    from csl_tracker.training.run import train

    plain = train(tiny(tmp_path / "plain", False), "test")
    assert load_weights(plain).description.network.association is False
    first = train(tiny(tmp_path / "first", True, init_weights=str(plain)), "test")
    model = load_weights(first)
    assert model.description.network.association
    with torch.inference_mode():
        assert model.network(torch.zeros(1, 3, 64, 96)).offsets.shape == (1, 2, 32, 48)
    back = train(tiny(tmp_path / "back", False, init_weights=str(first)), "test")
    assert load_weights(back).description.network == load_weights(plain).description.network


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnx"])
def test_engines_run_a_network_with_an_association(make_weights, engine):
    if engine != "torch":
        pytest.importorskip({"onnx": "onnxruntime"}.get(engine, engine))
    weights = make_weights(network=NetworkConfig(association=True))
    tracker = Tracker.from_weights(weights, device="cpu", engine=engine)
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    assert tracker.track(image).label_map.shape == (64, 96)
