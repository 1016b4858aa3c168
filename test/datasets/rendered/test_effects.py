"""Effects of a video chain: labels and landmarks stay true, and the same seed gives the same frame."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.datasets.rendered import effects_layout, effects_screen, effects_sensor
from csl_tracker.datasets.rendered.effects import EFFECTS, Recipe, draw_steps, random_effects, random_views
from csl_tracker.datasets.rendered.effects_pieces import Box, cut, lay
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.synthetic import render_frame

SIZE = (256, 320)
MOVING = ["zoom", "boxed", "shaped", "side_by_side", "top_bottom", "interlace", "resample", "defocus", "blur"]


@pytest.fixture(scope="module")
def scene() -> Sample:
    """A synthetic frame with instances."""
    sample = render_frame(4, SIZE)
    assert sample.label_map is not None
    assert len(sample.landmarks) == 2
    instances = np.where(np.arange(SIZE[1]) < SIZE[1] // 2, 1, 2) * (sample.label_map > 0)
    return replace(sample, instances=instances.astype(np.uint8))


def dot_sample(point: tuple[float, float], size: tuple[int, int] = SIZE, sigma: float = 3.0) -> Sample:
    """A bright dot at a landmark on black; its label is 1 above half its height."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    dot = np.exp(-((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / (2 * sigma**2))
    image = np.repeat(np.rint(255 * dot)[..., None], 3, axis=2).astype(np.uint8)
    labels = (dot > 0.5).astype(np.uint8)
    return Sample(image, labels, np.array([[point]]), np.ones((1, 1), bool), "s", 0, 0, labels.copy())


def centroid(weights: np.ndarray, near: np.ndarray, reach: int) -> np.ndarray:
    """Weighted mean position within a square around a point."""
    x, y = np.rint(near).astype(int)
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]]
    inside = (abs(rows - y) <= reach) & (abs(columns - x) <= reach)
    weight = weights.astype(np.float64) * inside
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def check(sample: Sample, size: tuple[int, int] = SIZE) -> None:
    """Shapes, types and ranges of a sample."""
    assert (sample.image.shape, sample.image.dtype) == ((*size, 3), np.uint8)
    assert sample.landmarks.dtype == np.float64
    assert sample.labelled.dtype == bool
    assert sample.landmarks.shape[:2] == sample.labelled.shape
    known = sample.landmarks[np.isfinite(sample.landmarks).all(axis=-1)]
    assert (known >= -0.5).all()
    assert (known <= np.array(size[::-1]) - 0.5).all()
    for plane in (sample.label_map, sample.instances):
        if plane is not None:
            assert (plane.shape, plane.dtype) == (size, np.uint8)
    if sample.label_map is not None:
        assert set(np.unique(sample.label_map)) <= {0, 1, 2, 255}


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_an_effect_keeps_the_sample_valid_and_depends_on_its_seed_alone(scene: Sample, name: str, strength: float) -> None:
    before = scene.image.copy(), scene.landmarks.copy(), scene.label_map.copy()  # type: ignore[union-attr]
    for seed in range(2):
        first = EFFECTS[name].apply(np.random.default_rng(seed), scene, strength)
        again = EFFECTS[name].apply(np.random.default_rng(seed), scene, strength)
        check(first)
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.landmarks, again.landmarks)
        np.testing.assert_array_equal(first.label_map, again.label_map)
    for now, then in zip((scene.image, scene.landmarks, scene.label_map), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_changes_the_image_and_without_geometry_neither_landmarks_nor_known_labels(scene: Sample, name: str) -> None:
    changes = []
    for seed in range(4):
        after = EFFECTS[name].apply(np.random.default_rng(seed), scene, 1.0)
        changes.append(np.abs(after.image.astype(float) - scene.image).mean())
        if EFFECTS[name].geometric:
            continue
        np.testing.assert_array_equal(after.landmarks, scene.landmarks)
        np.testing.assert_array_equal(after.instances, scene.instances)
        known = after.label_map != 255
        np.testing.assert_array_equal(after.label_map[known], scene.label_map[known])  # type: ignore[index]
    assert np.mean(changes) > 0.5


@pytest.mark.parametrize("name", ["smoke", "fog", "dark", "bright", "noise", "blur", "defocus", "jpeg", "cast", "resample"])
def test_strength_decides_how_much_changes(scene: Sample, name: str) -> None:
    def change(strength: float) -> float:
        seeds = range(8)
        frames = [EFFECTS[name].apply(np.random.default_rng(seed), scene, strength).image for seed in seeds]
        return float(np.mean([np.abs(frame.astype(float) - scene.image).mean() for frame in frames]))

    assert change(1.0) > 1.5 * change(0.1)


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("size", [(256, 320), (241, 333)])
def test_a_dot_is_found_at_its_landmark(name: str, size: tuple[int, int]) -> None:
    """Of dots in view: to 0.15 px, or to half a block where pixels are repeated; the label's centre to 0.8 px."""
    found = 0
    for seed in range(14):
        rng = np.random.default_rng(seed)
        point = (float(rng.uniform(90, size[1] - 90)), float(rng.uniform(70, size[0] - 70)))
        sample = dot_sample(point, size)
        after = EFFECTS[name].apply(rng, sample, float(rng.uniform()))
        check(after, size)
        bright = after.image.mean(axis=2)
        if name in ("boxed", "shaped"):
            bright = np.where(bright >= 30, bright, 0)  # screens that are not quite black
        for landmark in after.landmarks[np.isfinite(after.landmarks).all(axis=-1)]:
            if (landmark < 22).any() or (landmark > np.array(size[::-1]) - 23).any():
                continue
            tolerance = 0.6 if name == "resample" else 0.15
            np.testing.assert_allclose(centroid(bright, landmark, 20), landmark, atol=tolerance, err_msg=f"{name} {seed}")
            labels = (after.label_map == 1).astype(float)
            np.testing.assert_allclose(centroid(labels, landmark, 20), landmark, atol=0.8, err_msg=f"{name} {seed}")
            found += 1
    assert found >= 6


@pytest.mark.parametrize(("name", "across"), [("side_by_side", True), ("top_bottom", False)])
def test_stereo_pictures_double_the_instruments(scene: Sample, name: str, across: bool) -> None:
    for seed in range(8):
        after = EFFECTS[name].apply(np.random.default_rng(seed), scene, 0.5)
        assert len(after.landmarks) == len(after.labelled) == 2 * len(scene.landmarks)
        assert after.instances is not None
        assert set(np.unique(after.instances)) == {0, 1, 2, 3, 4}
        middle = SIZE[1] / 2 if across else SIZE[0] / 2
        one, other = after.landmarks[..., 0 if across else 1].reshape(2, -1)
        assert (one[np.isfinite(one)] < middle).all()
        assert (other[np.isfinite(other)] > middle).all()
        columns = np.nonzero(after.instances >= 3)[1 if across else 0]
        assert (columns >= middle - 1).all()


def test_a_frame_of_many_instruments_is_not_doubled() -> None:
    sample = dot_sample((100.0, 100.0))
    crowd = replace(sample, landmarks=np.repeat(sample.landmarks, 9, axis=0), labelled=np.ones((9, 1), bool))
    assert effects_layout.side_by_side(np.random.default_rng(0), crowd, 0.5) is crowd


@pytest.mark.parametrize("name", ["boxed", "shaped"])
def test_outside_the_picture_all_is_background_and_absent(name: str) -> None:
    """The frame is white with one class; what is not white is outside of the picture."""
    points = np.random.default_rng(0).uniform((0, 0), SIZE[::-1], (40, 2))[:, None]
    white = Sample(np.full((*SIZE, 3), 255, np.uint8), np.ones(SIZE, np.uint8), points, np.ones((40, 1), bool), "s", 0, 0, None)
    gone = 0
    for seed in range(12):
        after = EFFECTS[name].apply(np.random.default_rng(seed), white, 0.8)
        inside = after.image.min(axis=2) > 200
        assert after.label_map is not None
        assert after.label_map[inside].all()
        assert not after.label_map[after.image.min(axis=2) < 60].any()
        seen = np.isfinite(after.landmarks).all(axis=-1)
        assert after.labelled.all()
        places = np.rint(after.landmarks[seen]).astype(int)
        assert (after.image[places[:, 1], places[:, 0]] > 60).all()
        gone += int((~seen).sum())
    assert gone > 0


@pytest.mark.parametrize("effect", [effects_screen.bars, effects_screen.logos])
def test_opaque_overlays_hide_instruments(effect: Callable[[np.random.Generator, Sample, float], Sample]) -> None:
    rows, columns = np.mgrid[4:252:8, 4:316:8]
    points = np.stack((columns.ravel(), rows.ravel()), axis=1).astype(float)[:, None]
    grey = Sample(
        np.full((*SIZE, 3), 128, np.uint8),
        np.ones(SIZE, np.uint8),
        points,
        np.ones((len(points), 1), bool),
        "s",
        0,
        0,
        np.ones(SIZE, np.uint8),
    )
    hidden_frames = 0
    for seed in range(12):
        after = effect(np.random.default_rng(seed), grey, 1.0)
        assert after.label_map is not None
        hidden = after.label_map == 0
        hidden_frames += bool(hidden.any())
        np.testing.assert_array_equal(after.instances == 0, hidden)
        places = points[:, 0].astype(int)
        below = hidden[places[:, 1], places[:, 0]]
        np.testing.assert_array_equal(np.isnan(after.landmarks).any(axis=(1, 2)), below)
        assert after.labelled.all()
    assert hidden_frames >= 6


@pytest.mark.parametrize("effect", [effects_screen.text, effects_screen.marks])
def test_thin_overlays_keep_labels(scene: Sample, effect: Callable[[np.random.Generator, Sample, float], Sample]) -> None:
    after = effect(np.random.default_rng(3), scene, 1.0)
    assert (after.image != scene.image).any()
    assert after.label_map is scene.label_map
    assert after.landmarks is scene.landmarks


def test_an_inset_hides_what_lies_below_and_shows_the_scene_again() -> None:
    twice = plain = 0
    for seed in range(20):
        after = effects_layout.inset(np.random.default_rng(seed), dot_sample((160.0, 128.0)), 0.8)
        seen = after.landmarks[np.isfinite(after.landmarks).all(axis=-1)]
        twice += len(after.landmarks) == 2
        plain += len(after.landmarks) == 1
        for landmark in seen:
            x, y = np.rint(landmark).astype(int)
            assert after.label_map is not None
            assert after.label_map[y, x] == 1
    assert twice >= 3
    assert plain >= 3


def test_noise_is_that_of_a_sensor() -> None:
    """Without bias in linear light; stronger where there is more light; correlated between pixels in some frames."""
    correlations = []
    for seed in range(12):
        image = np.zeros((64, 128, 3), np.uint8)
        image[:, :64], image[:, 64:] = 60, 150
        sample = dot_sample((10.0, 10.0), (64, 128))
        noisy = effects_sensor.noise(np.random.default_rng(seed), replace(sample, image=image), 0.5).image
        light = effects_sensor.to_linear(noisy)
        dim, lit = light[8:-8, 8:56], light[8:-8, 72:-8]
        truth = effects_sensor.to_linear(image)[0, [0, 64], 0]
        np.testing.assert_allclose([dim.mean(), lit.mean()], truth, rtol=0.15)
        assert lit.std() > dim.std()
        correlations.append(np.corrcoef(lit[:, :-1, 1].ravel(), lit[:, 1:, 1].ravel())[0, 1])
    assert min(correlations) < 0.1
    assert max(correlations) > 0.2


def test_two_fields_of_a_comb_differ_and_moved_oppositely() -> None:
    sample = dot_sample((160.0, 128.0), sigma=6.0)
    after = effects_sensor.interlace(np.random.default_rng(1), sample, 1.0).image[..., 0].astype(float)
    columns = np.arange(SIZE[1])
    even, odd = ((field * columns).sum() / field.sum() for field in (after[::2], after[1::2]))
    assert abs(odd - even) > 3
    assert (even + odd) / 2 == pytest.approx(160.0, abs=0.2)


def test_cutting_and_laying_keep_a_landmark_on_its_dot() -> None:
    sample = dot_sample((120.3, 90.7))
    piece = cut(sample, Box(60, 40, 160, 120), (90, 120))
    np.testing.assert_allclose(piece.landmarks[0, 0], ((120.3 - 60 + 0.5) * 0.75 - 0.5, (90.7 - 40 + 0.5) * 0.75 - 0.5))
    after = lay(sample, piece, 100, 60)
    assert np.isnan(after.landmarks[0]).all(), "the piece lies on the first dot"
    np.testing.assert_allclose(centroid(after.image[..., 0], after.landmarks[1, 0], 12), after.landmarks[1, 0], atol=0.1)
    assert after.instances is not None
    assert set(np.unique(after.instances)) == {0, 2}


def test_without_masks_and_instances_all_effects_work(scene: Sample) -> None:
    bare = replace(scene, label_map=None, instances=None)
    for effect in EFFECTS.values():
        after = effect.apply(np.random.default_rng(0), bare, 0.7)
        check(after)
        assert after.label_map is None
        assert after.instances is None


def test_a_recipe_bounds_number_strength_and_names(scene: Sample) -> None:
    every = Recipe(dict.fromkeys(EFFECTS, 1.0), (0.2, 0.3), most=3)
    steps = draw_steps(np.random.default_rng(0), every, EFFECTS)
    assert len(steps) == 3
    assert all(0.2 <= one.strength <= 0.3 for one in steps)
    assert [one.name for one in steps] == [name for name in EFFECTS if name in {one.name for one in steps}]
    only = Recipe({"jpeg": 1.0})
    assert [one.name for one in draw_steps(np.random.default_rng(0), only, EFFECTS)] == ["jpeg"]
    assert random_effects(np.random.default_rng(0), scene, Recipe({})) is scene
    with pytest.raises(ValueError, match=r"no effects \['rain'\]; known are smoke"):
        Recipe({"rain": 1.0})


def test_random_effects_are_reproducible_and_varied(scene: Sample) -> None:
    frames = [random_effects(np.random.default_rng(seed), scene) for seed in range(15)]
    for seed, frame in enumerate(frames):
        check(frame)
        np.testing.assert_array_equal(frame.image, random_effects(np.random.default_rng(seed), scene).image)
    assert len({frame.image.tobytes() for frame in frames}) > 10


def test_views_share_their_geometry_and_differ_in_the_rest(scene: Sample) -> None:
    different = moved = 0
    for seed in range(12):
        one, other = random_views(np.random.default_rng(seed), [scene, scene], Recipe(most=8))
        np.testing.assert_array_equal(one.landmarks, other.landmarks)
        np.testing.assert_array_equal(one.labelled, other.labelled)
        np.testing.assert_array_equal(one.instances, other.instances)
        known = (one.label_map != 255) & (other.label_map != 255)
        np.testing.assert_array_equal(one.label_map[known], other.label_map[known])
        different += (one.image != other.image).any()
        moved += one.landmarks.shape != scene.landmarks.shape or not np.array_equal(
            one.landmarks, scene.landmarks, equal_nan=True
        )
    assert different > 8
    assert moved > 2


def test_the_benchmark_of_robustness_stays_unseen() -> None:
    """Training effects share no code with the frozen corruptions."""
    folder = Path(effects_layout.__file__).parent
    for path in folder.glob("effects*.py"):
        assert not re.search(r"^\s*(from|import)\b.*corruptions", path.read_text(encoding="utf-8"), re.MULTILINE), path.name
