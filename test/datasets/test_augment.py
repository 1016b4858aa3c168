import math
from dataclasses import replace

import numpy as np
import pytest

from csl_tracker.datasets.augment import AUGMENTATIONS, Augmentation, paste, photometric, random_affine, warp_sample
from csl_tracker.datasets.sample import Sample
from csl_tracker.instruments import ENDOVIS

CROP = (256, 256)
WORKING = (256, 320)
ORDER = ENDOVIS.flip_permutation()


def blob_sample(size: tuple[int, int], points: np.ndarray, sigma: float = 9.0) -> Sample:
    """Three points in red, green and blue as Gaussian blobs; the label map is where red is bright."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.zeros((*size, 3), np.uint8)
    for channel, (x, y) in enumerate(points[:3]):
        image[..., channel] = np.rint(255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)))
    landmarks = np.full((1, 5, 2), np.nan)
    landmarks[0, [0, 3, 4]] = points
    labels = (image[..., 0] > 20).astype(np.uint8)
    return Sample(image, labels, landmarks, np.ones((1, 5), bool), "s", 0, 0)


def centroid(plane: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
    weight = plane.astype(np.float64)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@pytest.mark.parametrize("size", [(576, 720), (480, 640), (288, 360)])
@pytest.mark.parametrize("seed", range(6))
def test_landmarks_and_labels_follow_the_image(size: tuple[int, int], seed: int) -> None:
    middle = np.array([size[1] / 2, size[0] / 2])
    points = middle + np.array([[0.3, 5.2], [-40.0, 20.0], [30.7, -25.1]]) * size[1] / 720
    sample = blob_sample(size, points, sigma=9.0 * size[1] / 720)
    geometry = Augmentation(rotation_deg=30, scale=(0.9, 1.3), stretch=0.1, shear=0.1, flip=0.5, upside_down=0.5)
    affine, mirrored = random_affine(np.random.default_rng(seed), geometry, size, WORKING, CROP)
    warped = warp_sample(sample, affine, mirrored, ORDER, CROP)
    assert mirrored == (np.linalg.det(affine[:, :2]) < 0)
    # Mirroring swaps the names of the claspers, which are here the points drawn in green and blue.
    for landmark, channel in ((0, 0), (4 if mirrored else 3, 1), (3 if mirrored else 4, 2)):
        found = (centroid(warped.image[..., channel]) + 0.5) / 2 - 0.5
        assert math.dist(found, warped.landmarks[0, landmark]) < 0.1
    assert math.dist(centroid(warped.label_map), warped.landmarks[0, 0]) < 0.3


def test_without_change_the_crop_is_what_the_tracker_sees() -> None:
    size = (576, 720)
    sample = blob_sample(size, np.array([[300.0, 200.0], [310.0, 210.0], [320.0, 220.0]]))
    affine, mirrored = random_affine(np.random.default_rng(0), AUGMENTATIONS["none"], size, WORKING, WORKING)
    warped = warp_sample(sample, affine, mirrored, ORDER, WORKING)
    expected = ((np.array([300.5, 200.5]) * 320 / 720 - 0.5) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(warped.landmarks[0, 0], expected)
    assert not mirrored


def test_what_leaves_the_crop_is_absent_and_unlabelled_stays_unlabelled() -> None:
    size = (256, 320)
    landmarks = np.full((2, 5, 2), np.nan)
    landmarks[0, 0], landmarks[0, 1], landmarks[1, 2] = (10, 10), (160, 128), (160, 140)
    labelled = np.ones((2, 5), bool)
    labelled[1, 3] = False
    sample = Sample(np.zeros((*size, 3), np.uint8), None, landmarks, labelled, "s", 0, 0)
    affine = np.array([[1.0, 0.0, -32.0], [0.0, 1.0, 0.0]])
    warped = warp_sample(sample, affine, False, ORDER, CROP)
    assert np.isnan(warped.landmarks[0, 0]).all()
    assert np.isfinite(warped.landmarks[0, 1]).all()
    assert warped.labelled.tolist() == [True, True, True, False, True]
    assert (warped.label_map == 255).all()
    mirrored = warp_sample(sample, affine, True, ORDER, CROP)
    assert mirrored.labelled.tolist() == [True, True, True, True, False]


def test_pasting_puts_the_tool_in_front() -> None:
    below = blob_sample((256, 256), np.array([[60.0, 60.0], [1.0, 1.0], [1.0, 1.0]]))
    above = blob_sample((256, 256), np.array([[180.0, 180.0], [1.0, 1.0], [1.0, 1.0]]), sigma=20)
    identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    a, b = (warp_sample(s, identity, False, ORDER, CROP) for s in (below, above))
    both = paste(a, b)
    assert both.landmarks.shape == (2, 5, 2)
    assert both.label_map[30, 30] == 1
    assert both.label_map[90, 90] == 1
    assert both.image[180, 180, 0] == 255
    assert both.image[60, 60, 0] == 255
    np.testing.assert_array_equal(both.image[120:130, 20:40], a.image[120:130, 20:40])
    empty = warp_sample(
        Sample(above.image, above.label_map * 0, above.landmarks, above.labelled, "s", 0, 0), identity, False, ORDER, CROP
    )
    assert paste(a, empty) is a


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_colour_changes_keep_geometry_and_are_repeatable(name: str) -> None:
    sample = blob_sample((256, 256), np.array([[60.0, 60.0], [90.0, 90.0], [120.0, 99.0]]))
    warped = warp_sample(sample, np.array([[1.0, 0, 0], [0, 1.0, 0]]), False, ORDER, CROP)
    for seed in range(8):
        one, other = (photometric(np.random.default_rng(seed), AUGMENTATIONS[name], warped) for _ in range(2))
        np.testing.assert_array_equal(one.image, other.image)
        assert one.image.dtype == np.uint8
        assert one.image.shape == warped.image.shape
        assert set(np.unique(one.label_map)) <= {0, 1, 255}
        np.testing.assert_array_equal(one.landmarks, warped.landmarks)
        if name == "none":
            np.testing.assert_array_equal(one.image, warped.image)


def test_the_papers_ranges() -> None:
    paper = AUGMENTATIONS["paper"]
    assert (paper.rotation_deg, paper.scale, paper.gamma, paper.channel_gain) == (5, (1.0, 1.2), (0.9, 1.1), (0.8, 1.2))
    assert replace(AUGMENTATIONS["paper_retinal"], flip=0.5) == paper  # section 3: flips for EndoVis
    assert AUGMENTATIONS["paper_retinal"].flip == 0


def test_the_papers_crops_show_no_more_border_than_rotation_brings() -> None:
    """A crop of 480x480 inside a frame of 640x480, scaled by 1 to 1.2: upright, it has no border."""
    rng = np.random.default_rng(0)
    working, crop = (480, 640), (480, 480)
    upright = replace(AUGMENTATIONS["paper"], rotation_deg=0.0)
    for _ in range(500):
        affine, _ = random_affine(rng, upright, (576, 720), working, crop)
        outer = np.array([[-0.5, -0.5], [479.5, -0.5], [-0.5, 479.5], [479.5, 479.5]])
        corners = (outer - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
        assert (corners >= -0.5 - 1e-6).all()
        assert (corners <= np.array([719.5, 575.5]) + 1e-6).all()
    # Rotated by at most 5 degrees, a corner of the crop leaves the frame by at most this share of its side.
    most = 0.0
    for _ in range(500):
        affine, _ = random_affine(rng, AUGMENTATIONS["paper"], working, working, crop)
        corners = (outer - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T
        most = max(most, float(-corners.min() - 0.5), float((corners - [639.5, 479.5]).max()))
    assert most < (640 * math.sin(math.radians(5)) + 480 * (1 - math.cos(math.radians(5)))) / 2 + 1


def test_the_papers_scale_and_gamma_are_uniform() -> None:
    rng = np.random.default_rng(0)
    paper = replace(AUGMENTATIONS["paper"], rotation_deg=0.0, flip=0.0)
    zooms = [random_affine(rng, paper, (480, 640), (480, 640), (480, 480))[0][0, 0] for _ in range(20_000)]
    assert np.mean(zooms) == pytest.approx(1.1, abs=0.002)  # uniform in the logarithm: 1.0970
    assert (min(zooms), max(zooms)) == (pytest.approx(1.0, abs=1e-3), pytest.approx(1.2, abs=1e-3))


def test_the_paper_applies_gamma_before_the_colour_factors() -> None:
    image = np.full((64, 64, 3), 60, np.uint8)
    points = np.array([[10.0, 10.0], [20.0, 20.0], [30.0, 30.0]])
    sample = warp_sample(blob_sample((64, 64), points), np.eye(2, 3), False, ORDER, (64, 64))
    fixed = replace(AUGMENTATIONS["paper"], gamma=(0.5, 0.5), channel_gain=(1.5, 1.5 + 1e-9))
    found = photometric(np.random.default_rng(0), fixed, replace(sample, image=image)).image
    assert int(found[0, 0, 0]) == round(1.5 * 255 * (60 / 255) ** 0.5)
    after = photometric(np.random.default_rng(0), replace(fixed, gamma_first=False), replace(sample, image=image)).image
    assert int(after[0, 0, 0]) == round(255 * (1.5 * 60 / 255) ** 0.5)


@pytest.mark.parametrize(("ignored", "pastes"), [((0, 0), True), ((30, 60), False)])
def test_a_landmark_is_not_pasted_without_its_instrument(ignored: tuple[int, int], pastes: bool) -> None:
    """Mixed training: a mask that does not know the part of the tool on which a landmark lies."""
    points = np.array([[60.0, 30.0], [100.0, 60.0], [20.0, 90.0]])
    identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    upper, lower = (
        warp_sample(blob_sample((128, 128), shifted), identity, False, ORDER, (128, 128), 1)
        for shifted in (points, points[::-1])
    )
    upper.label_map[ignored[0] : ignored[0] + 2, ignored[1] : ignored[1] + 2] = 255
    result = paste(lower, upper, 1)
    assert (len(result.landmarks) == 2) == pastes
    assert (result is lower) != pastes
