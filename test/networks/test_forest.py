import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from csl_tracker.errors import ConfigError, WeightsError
from csl_tracker.heatmaps import HeatmapSpec
from csl_tracker.instruments import ENDOVIS
from csl_tracker.networks import NetworkConfig, build_network
from csl_tracker.networks.forest import (
    CONTEXT_RADII,
    LEAF,
    NUM_FEATURES,
    RINGS,
    SPOKES,
    ForestNetwork,
    ForestNodes,
    context_features,
    num_context_features,
    pixel_features,
    ring_offsets,
)
from csl_tracker.weights import ModelDescription, Preprocessing, load_weights, save_weights

REACH_PX = 60
"""Output px beyond which a pixel's features see nothing: the widest ring, and three standard deviations and more around it."""


def stump(outputs: int = 8) -> ForestNodes:
    """Lightness without smoothing, at most 50: background, above: everything else."""
    value = np.zeros((1, 3, outputs), np.float32)
    value[0, 1, 0] = 1
    value[0, 2, 1:] = 1
    return ForestNodes(
        np.array([[0, LEAF, LEAF]]),
        np.array([[50, 0, 0]], np.float32),
        np.array([[1, 0, 0]]),
        np.array([[2, 0, 0]]),
        value,
    )


def forest(nodes: ForestNodes, later: ForestNodes | None = None, classes: int = 3) -> ForestNetwork:
    """A network of two stages, by default the same one twice."""
    trees, room, outputs = nodes.value.shape
    config = NetworkConfig("forest", "none", "none", outputs - classes, classes, trees=trees, nodes=room)
    network = build_network(config)
    assert isinstance(network, ForestNetwork)
    network.set_stages([nodes, nodes if later is None else later])
    return network


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(("trees", "nodes"), [(0, 3), (2, 0)])
def test_a_forest_needs_trees_and_nodes(trees: int, nodes: int) -> None:
    with pytest.raises(ConfigError, match=f"{trees} trees with {nodes} nodes"):
        build_network(NetworkConfig("forest", "none", "none", trees=trees, nodes=nodes))


@pytest.mark.parametrize(
    ("array", "value"),
    [("feature", NUM_FEATURES), ("feature", -2), ("left", 0), ("right", 3), ("right", -1)],
)
def test_nodes_that_lead_nowhere_are_refused(array: str, value: int) -> None:
    """Else a damaged file would make a walk without an end."""
    nodes = stump()
    getattr(nodes, array)[0, 0] = value
    with pytest.raises(WeightsError, match="Node 0 of tree 0 of the forest leads nowhere"):
        forest(nodes)


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (33, 31), (2, 2), (1, 1), (1, 7)])
def test_any_input_size_gives_half_the_size(size: tuple[int, int]) -> None:
    output = forest(stump())(torch.full((2, 3, *size), 200.0))
    half = (-(-size[0] // 2), -(-size[1] // 2))
    assert output.points is None
    assert output.heatmaps is not None
    assert output.scores is not None
    assert output.heatmaps.shape == (2, 5, *half)
    assert output.scores.shape == (2, 3, *half)
    torch.testing.assert_close(output.heatmaps, torch.ones(2, 5, *half))


@pytest.mark.parametrize("size", [(20, 24), (19, 23)])
def test_an_output_pixel_covers_two_by_two_input_pixels(size: tuple[int, int]) -> None:
    """The lightness of each output pixel is that of the mean of its input pixels; an odd edge is continued."""
    image = noise(0, *size, 3)
    even = np.pad(image, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge").astype(np.float64)
    mean = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4 / 255
    linear = np.where(mean <= 0.04045, mean / 12.92, ((mean + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.212671, 0.715160, 0.072169)
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    np.testing.assert_allclose(pixel_features(image)[0], lightness, atol=0.25)


def test_a_bright_block_lights_its_own_output_pixels() -> None:
    image = torch.zeros(1, 3, 128, 128)
    image[..., 20:60, 30:80] = 255
    scores = forest(stump())(image).scores[0]
    rows, columns = torch.nonzero(scores[1] > scores[0], as_tuple=True)
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (10, 29, 15, 39)


@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_the_orientation_of_stripes_is_told(angle: int) -> None:
    """Stripes of one direction: full coherence, and the doubled angle of their gradient."""
    rows, columns = np.mgrid[:96, :96]
    along = np.cos(np.radians(angle)) * columns + np.sin(np.radians(angle)) * rows
    image = np.repeat((127.5 + 100 * np.sin(along / 3))[..., None], 3, axis=2)
    _strength, cosine, sine = pixel_features(image)[6:9, 24, 24]
    assert cosine == pytest.approx(np.cos(np.radians(2 * angle)), abs=0.03)
    assert sine == pytest.approx(np.sin(np.radians(2 * angle)), abs=0.03)


def test_rings_look_where_they_say() -> None:
    """A red point is seen in red-green (CIE a) exactly by the pixels whose ring meets it."""
    image = np.zeros((160, 160, 3), np.uint8)
    image[80:82, 80:82, 0] = 255
    features = pixel_features(image)
    first_ring = NUM_FEATURES - len(RINGS) * SPOKES * 7
    for spoke, (dx, dy) in enumerate(ring_offsets(RINGS[0][0], turned=False)):
        seen = features[first_ring + 7 * spoke + 1]
        assert divmod(int(seen.argmax()), 80) == (40 - dy, 40 - dx)


def test_landmarks_lie_on_instruments() -> None:
    """A heatmap is the forest's times the probability of anything but background."""
    nodes = stump()
    nodes.value[0, 2] = (0.75, 0.25, 0, 0.8, 0.4, 0.2, 0.1, 0)
    output = forest(nodes)(torch.full((1, 3, 8, 8), 255.0))
    torch.testing.assert_close(output.heatmaps[0, :, 2, 2], torch.tensor([0.2, 0.1, 0.05, 0.025, 0]))
    torch.testing.assert_close(output.scores[0, :2, 2, 2], torch.log(torch.tensor([0.75, 0.25])))


def test_a_later_stage_reads_the_maps_around() -> None:
    """A single marked pixel is seen by the pixels whose rings meet it, in the channel that was marked."""
    maps = np.zeros((4, 70, 90), np.float32)
    maps[2, 35, 45] = 1
    features = context_features(np.full((NUM_FEATURES, 70, 90), 7, np.float32), maps)
    assert len(features) == num_context_features(4)
    local = len(features) - 4 * (1 + len(CONTEXT_RADII) * SPOKES)
    assert (features[:local] == 7).all()
    np.testing.assert_array_equal(features[local : local + 4], maps)
    around = features[local + 4 :].reshape(len(CONTEXT_RADII), SPOKES, 4, 70, 90)
    for ring, radius in enumerate(CONTEXT_RADII):
        for spoke, (dx, dy) in enumerate(ring_offsets(radius, turned=bool(ring % 2))):
            assert math.hypot(dx, dy) == pytest.approx(radius, abs=1)
            assert divmod(int(around[ring, spoke, 2].argmax()), 90) == (35 - dy, 45 - dx)
            assert not around[ring, spoke, [0, 1, 3]].any()


def test_the_last_stage_speaks_and_hears_the_first() -> None:
    """The second forest asks for the first map of the first, which is the background's, and turns it round."""
    later = stump()
    later.feature[0, 0] = num_context_features(8) - 8 * (1 + len(CONTEXT_RADII) * SPOKES)
    later.threshold[0, 0] = 0.5
    network = forest(stump(), later)
    for level, expected in ((0.0, 1.0), (255.0, 0.0)):
        heatmaps = network(torch.full((1, 3, 24, 24), level)).heatmaps
        torch.testing.assert_close(heatmaps, torch.full_like(heatmaps, expected))


def test_a_frame_is_judged_alike_at_any_place_of_a_batch() -> None:
    frames = torch.from_numpy(noise(1, 3, 3, 48, 64)).float()
    network = forest(stump())
    whole = network(frames)
    for i in range(3):
        alone = network(frames[i : i + 1])
        torch.testing.assert_close(whole.heatmaps[i : i + 1], alone.heatmaps, rtol=0, atol=0)
        torch.testing.assert_close(whole.scores[i : i + 1], alone.scores, rtol=0, atol=0)


def test_what_is_far_away_changes_nothing() -> None:
    image = noise(2, 256, 320, 3)
    padded = np.pad(image, ((0, 22), (0, 44), (0, 0)))
    inside = pixel_features(image)[:, : 128 - REACH_PX, : 160 - REACH_PX]
    np.testing.assert_allclose(pixel_features(padded)[:, : 128 - REACH_PX, : 160 - REACH_PX], inside, atol=2e-3)


def test_features_are_finite_on_flat_images() -> None:
    for level in (0, 255):
        assert np.isfinite(pixel_features(np.full((30, 40, 3), level, np.uint8))).all()


def random_forest(outputs: int = 8, trees: int = 5) -> tuple[ForestNodes, object]:
    """A fitted forest of scikit-learn and its nodes; features and targets are noise, so that the trees are deep."""
    ensemble = pytest.importorskip("sklearn.ensemble", reason="the training extra (scikit-learn) is not installed")
    from csl_tracker.training.forest import export

    rng = np.random.default_rng(3)
    features = rng.normal(size=(600, NUM_FEATURES)).astype(np.float32)
    # Few different values: thresholds then lie on midpoints that 32 bits do not hold.
    features[:, :20] = rng.integers(0, 5, (600, 20)) * np.float32(0.1)
    fitted = ensemble.RandomForestRegressor(trees, max_features=8, random_state=0).fit(features, rng.random((600, outputs)))
    return export(fitted), fitted


def test_the_walk_is_scikit_learns() -> None:
    nodes, fitted = random_forest()
    rng = np.random.default_rng(4)
    unseen = rng.normal(size=(500, NUM_FEATURES)).astype(np.float32)
    unseen[:, :20] = rng.integers(0, 5, (500, 20)) * np.float32(0.1)
    nodes.check(NUM_FEATURES)
    # The padding of the shorter trees is numbered like scikit-learn's nodes and never reached.
    np.testing.assert_array_equal(nodes.leaves(unseen), fitted.apply(unseen).T)
    np.testing.assert_allclose(nodes.predict(unseen), fitted.predict(unseen), rtol=1e-5, atol=1e-6)


def test_a_value_on_the_threshold_goes_left_as_in_64_bits() -> None:
    """Between neighbours in 32 bits a threshold has no 32-bit form; rounded up it would send both to the left."""
    ensemble = pytest.importorskip("sklearn.ensemble", reason="the training extra (scikit-learn) is not installed")
    from csl_tracker.training.forest import export

    near = np.nextafter(np.float32(8), np.float32(9))
    values = np.array([near, np.nextafter(near, np.float32(9))], np.float32)
    features = np.zeros((40, NUM_FEATURES), np.float32)
    features[:, 7] = np.repeat(values, 20)
    fitted = ensemble.RandomForestRegressor(3, bootstrap=False, max_features=None, random_state=0)
    fitted.fit(features, np.column_stack((features[:, 7] > near, features[:, 7] <= near)).astype(float))
    np.testing.assert_allclose(export(fitted).predict(features), fitted.predict(features))
    assert len(np.unique(fitted.predict(features)[:, 0])) == 2


def test_weights_are_plain_tensors_and_come_back_the_same(tmp_path: Path) -> None:
    network = forest(random_forest()[0])
    description = ModelDescription(
        "wood", network.config, ENDOVIS, HeatmapSpec(2.0), Preprocessing((0.0,) * 3, (1.0,) * 3, (48, 64), "stretch")
    )
    save_weights(tmp_path / "wood.safetensors", network, description)
    loaded = load_weights(tmp_path / "wood.safetensors")
    assert loaded.description.network == network.config
    assert NetworkConfig.from_dict(json.loads(json.dumps(network.config.to_dict()))) == network.config
    image = torch.from_numpy(noise(5, 1, 3, 48, 64)).float()
    for model in (loaded.network, copy.deepcopy(loaded.network)):
        torch.testing.assert_close(model(image), network(image), rtol=0, atol=0)


def test_scores_are_logarithms_of_probabilities() -> None:
    nodes = random_forest()[0]
    nodes.value[..., :3] /= nodes.value[..., :3].sum(axis=2, keepdims=True) + 1e-9
    scores = forest(nodes)(torch.from_numpy(noise(6, 1, 3, 40, 40)).float()).scores
    torch.testing.assert_close(functional.softmax(scores, dim=1), scores.exp(), rtol=0, atol=1e-3)
