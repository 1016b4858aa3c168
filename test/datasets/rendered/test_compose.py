import numpy as np
import pytest

from csl_tracker.datasets.rendered import compose as module
from csl_tracker.datasets.rendered.bank import WholeScene, open_bank, write_shard
from csl_tracker.datasets.rendered.build import Plan, prepare
from csl_tracker.datasets.rendered.compose import compose_frame
from csl_tracker.datasets.rendered.mesh_scene import View
from csl_tracker.datasets.rendered.parametric import PARAMETRIC
from csl_tracker.datasets.rendered.placement import draw_matrix, place
from csl_tracker.datasets.rendered.sprites import Sprite, ToolState
from csl_tracker.datasets.rendered.tissue import TissuePicture
from csl_tracker.datasets.rendered.transforms import facing, transform

SIZE = (120, 160)
VIEW = View((200, 200), 150.0)


def a_sprite(depth: float = 0.08) -> Sprite:
    """A tool from the left, drawn as a bar of white with labels; its depth is constant."""
    tool = PARAMETRIC["needle_driver"](np.random.default_rng(1))
    pose = transform(facing(np.array([1.0, 0, 0]), 0.4), np.array([0.0, 0.0, depth]))
    state = ToolState.of(tool, {name: pose @ link for name, link in tool.links({"jaw": 0.4}).items()}, {"jaw": 0.4})
    labels = np.zeros((24, 150), np.uint8)
    labels[:, :80], labels[:, 80:100], labels[:, 100:] = 1, 2, 4
    rgba = np.full((24, 150, 4), 255, np.uint8)
    return Sprite(rgba, labels, np.full((24, 150), depth, np.float32), (0, 88), VIEW, state)


@pytest.fixture
def bank(tmp_path):
    prepare(Plan(1, "", 200, 1, {}), tmp_path)
    write_shard(tmp_path, "sprites", 0, [a_sprite(0.05), a_sprite(0.09)])
    write_shard(tmp_path, "tissue", 0, [TissuePicture(np.full((100, 130, 3), (150, 60, 50), np.uint8), "liver", ("liver",))])
    return open_bank(tmp_path)


def test_the_same_seed_gives_the_same_frame_and_another_one_another(bank):
    first, second, other = (compose_frame(bank, seed, SIZE) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.landmarks, second.landmarks)
    assert (first.image != other.image).any()


def test_frames_are_valid_samples_and_some_have_no_tool(bank):
    counts = []
    for seed in range(60):
        sample = compose_frame(bank, seed, SIZE)
        assert sample.image.shape == (*SIZE, 3)
        assert set(np.unique(sample.label_map)) <= {0, 1, 2}
        np.testing.assert_array_equal(sample.label_map > 0, sample.instances > 0)
        assert sample.landmarks.shape == (*sample.labelled.shape, 2)
        assert sample.instances.max() <= len(sample.landmarks)
        seen = sample.landmarks[np.isfinite(sample.landmarks).all(axis=-1)]
        assert ((seen > -0.5) & (seen < np.array(SIZE[::-1]) - 0.5)).all()
        counts.append(int(sample.instances.max() > 0))
    assert 0.1 <= 1 - np.mean(counts) <= 0.5


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("zoom", [0.3, 0.5, 0.8, 1.7])
def test_a_dot_on_a_sprite_lands_where_the_matrix_says(seed, zoom):
    """Also after the halving against aliasing: half a pixel would be seen."""
    rng = np.random.default_rng(seed)
    sprite = a_sprite()
    y, x = np.mgrid[0:24, 0:150]
    spot = np.array([75.0, 12.0])
    dot = np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * 3.0**2))
    sprite.rgba[...] = np.dstack([255 * dot] * 3 + [255 * np.ones_like(dot)]).astype(np.uint8)
    angle = rng.uniform(0, 2 * np.pi)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if seed % 2:
        linear[:, 0] *= -1
    target = np.array([80.0, 60.0]) + rng.uniform(-0.5, 0.5, 2)
    matrix = np.concatenate([linear, (target - linear @ (spot + sprite.corner))[:, None]], axis=1)
    placed = place(sprite, matrix, SIZE)
    weight = placed.color[..., 0] * (placed.alpha > 0.99)
    weight[weight < 25] = 0
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    np.testing.assert_allclose(found, target, atol=0.12)
    assert placed.depth_divisor == pytest.approx(zoom * 200 / 160)


@pytest.mark.parametrize("seed", range(20))
def test_the_cut_end_of_a_shaft_stays_out_of_view(seed):
    sprite = a_sprite()
    matrix = draw_matrix(np.random.default_rng(seed), sprite, SIZE)
    cut = np.array([[0.0, row] for row in range(88, 112)]) @ matrix[:, :2].T + matrix[:, 2]
    outside = (cut < -0.5).any(axis=1) | (cut[:, 0] > SIZE[1] - 0.5) | (cut[:, 1] > SIZE[0] - 0.5)
    assert outside.all()


def frame_of(bank, monkeypatch, order, matrices):
    """A frame with the sprites of this order at these matrices, over a plain background."""
    sprites, left = [bank.sprite(number) for number in order], list(matrices)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_background", lambda rng, bank, kind, size: np.full((*SIZE, 3), 60, np.float32))
        patch.setattr(module, "_COUNTS", dict.fromkeys(module._COUNTS, (*[0.0] * len(order), 1.0)))
        patch.setattr(module, "draw_matrix", lambda rng, sprite, size, target: left.pop(0))
        patch.setattr(type(bank), "sprite", lambda self, number: sprites.pop(0))
        return compose_frame(bank, 3, SIZE)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]], ids=["near first", "far first"])
def test_the_nearer_tool_is_in_front_whatever_the_order(bank, monkeypatch, order):
    flat = np.array([[0.8, 0.0, -10.0], [0.0, 0.8, -20.0]])
    upright = np.array([[0.0, -0.8, 160.0], [0.8, 0.0, -20.0]])
    sample = frame_of(bank, monkeypatch, order, [flat, upright])
    near = order.index(0) + 1
    both = (sample.instances == near).sum(), (sample.instances == 3 - near).sum()
    assert both[0] > both[1] > 0
    crossing = sample.instances[60 - 8 : 60 + 8, 80 - 8 : 80 + 8]
    assert (crossing == near).any()


def test_a_landmark_behind_another_tool_is_absent_but_labelled(bank, monkeypatch):
    matrix = np.array([[0.8, 0.0, 0.0], [0.0, 0.8, -20.0]])
    sample = frame_of(bank, monkeypatch, [1, 0], [matrix, matrix])
    assert sample.labelled.all()
    hidden, seen = np.isfinite(sample.landmarks).all(axis=-1)
    assert not hidden[:3].any()
    assert seen.any()


def test_a_landmark_in_the_tissue_of_a_scene_is_absent(tmp_path):
    """The tissue's surface lies before the shaft's end, and behind the claspers."""
    sprite = a_sprite(0.08)
    points = VIEW.project(sprite.tool.endovis_points())
    depth = np.full((200, 200), 0.2, np.float32)
    depth[:, : round(points[1, 0]) + 3] = 0.05
    empty = np.zeros((200, 200), np.uint8)
    image = np.zeros((200, 200, 3), np.uint8)
    prepare(Plan(1, "", 200, 1, {}), tmp_path)
    write_shard(tmp_path, "scenes", 0, [WholeScene(image, empty, empty, depth, VIEW, (sprite.tool,), "liver", ("liver",))])
    bank = open_bank(tmp_path)
    seen = [compose_frame(bank, seed, (200, 200)) for seed in range(30)]
    assert not any(np.isfinite(sample.landmarks[0, :2]).any() for sample in seen)
    assert any(np.isfinite(sample.landmarks[0, 2:]).all() for sample in seen)


def test_the_left_clasper_is_on_the_left_of_the_shaft_also_when_mirrored(bank, monkeypatch):
    for mirror in (1.0, -1.0):
        matrix = np.array([[0.8 * mirror, 0.0, 80 - 80 * mirror], [0.0, 0.8, -20.0]])
        points = frame_of(bank, monkeypatch, [1], [matrix]).landmarks[0]
        axis, left, right = points[2] - points[0], points[3] - points[2], points[4] - points[2]
        assert axis[0] * left[1] - axis[1] * left[0] < axis[0] * right[1] - axis[1] * right[0]
