import cv2
import numpy as np
import pytest
import torch

from csl_tracker.pixels import Resize, from_corner, halvings, resize_image, resize_matrices

SIZES = [
    ((576, 720), (256, 320)),
    ((256, 320), (576, 720)),
    ((1080, 1920), (224, 384)),
    ((100, 101), (64, 33)),
    ((7, 5), (7, 5)),
]


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_points_follow_what_opencv_and_torch_do(source: tuple[int, int], target: tuple[int, int]) -> None:
    """A ramp holds its own coordinate; after a resize every pixel must hold the source coordinate that the map gives."""
    ramp = np.tile(np.arange(source[1], dtype=np.float32), (source[0], 1))
    by_opencv = cv2.resize(ramp, (target[1], target[0]), interpolation=cv2.INTER_LINEAR)[0]
    by_torch = torch.nn.functional.interpolate(
        torch.from_numpy(ramp)[None, None], target, mode="bilinear", align_corners=False
    )[0, 0, 0].numpy()
    columns = np.arange(target[1])
    expected = Resize(target, source).points(np.stack((columns, np.zeros_like(columns)), axis=1))[:, 0]
    inside = (expected >= 0) & (expected <= source[1] - 1)
    assert inside.sum() >= target[1] - 2 * (1 + target[1] // source[1])
    np.testing.assert_allclose(by_opencv[inside], expected[inside], atol=2e-2)
    np.testing.assert_allclose(by_torch[inside], expected[inside], atol=2e-3)


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_the_inverse_undoes(source: tuple[int, int], target: tuple[int, int]) -> None:
    points = np.array([[0.0, 0.0], [3.25, 4.5], [-0.5, source[0] - 0.5]])
    forth = Resize(source, target)
    np.testing.assert_allclose(Resize(forth.target, forth.source).points(forth.points(points)), points, atol=1e-9)
    np.testing.assert_allclose(forth.points([[-0.5, -0.5], [source[1] - 0.5, source[0] - 0.5]])[0], [-0.5, -0.5])
    np.testing.assert_allclose(forth.points([source[1] - 0.5, source[0] - 0.5]), [target[1] - 0.5, target[0] - 0.5])


def test_matrix_and_points_agree() -> None:
    resize = Resize((480, 640), (576, 720))
    points = np.random.default_rng(0).uniform(0, 480, (20, 2))
    matrix = resize.matrix()
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], resize.points(points))


def test_covariances_follow_samples() -> None:
    rng = np.random.default_rng(1)
    covariance = np.array([[4.0, 1.5], [1.5, 2.0]])
    samples = rng.multivariate_normal((50.0, 40.0), covariance, 200_000)
    resize = Resize((480, 640), (576, 720))
    np.testing.assert_allclose(resize.covariances(covariance), np.cov(resize.points(samples).T), rtol=0.03)


def test_nan_stays_nan() -> None:
    assert np.isnan(Resize((2, 2), (4, 4)).points([np.nan, np.nan])).all()


@pytest.mark.parametrize(
    ("point", "from_the_corner"),
    [
        ((0.0, 0.0), (0.5, 0.5)),  # the first pixel's centre
        ((-0.5, -0.5), (0.0, 0.0)),  # the image's own corner
        ((719.5, 575.5), (720.0, 576.0)),  # and the opposite one of 720x576
        ((12.25, 7.0), (12.75, 7.5)),
    ],
)
def test_seen_from_the_corner_of_the_image(point: tuple[float, float], from_the_corner: tuple[float, float]) -> None:
    np.testing.assert_array_equal(from_corner(point), from_the_corner)
    np.testing.assert_array_equal(from_corner([point, (np.nan, 0)])[1], [np.nan, 0.5])


RESIZES = [
    ((576, 720), (256, 320), [(288, 360)]),
    ((1080, 1920), (224, 384), [(540, 960), (270, 480)]),
    ((512, 640), (256, 320), [(256, 320)]),
    ((480, 640), (256, 320), []),
    ((1081, 1920), (224, 384), []),  # an odd side: area means
    ((90, 70), (96, 96), []),
    ((64, 64), (64, 64), []),
    ((2, 2), (1, 1), [(1, 1)]),
    ((600, 100), (100, 90), []),  # one side shrinks much, the other hardly
]


@pytest.mark.parametrize(("source", "target", "steps"), RESIZES)
def test_an_image_is_halved_while_it_can_be_and_the_rest_is_linear(source, target, steps) -> None:
    assert halvings(source, target) == steps
    image = np.random.default_rng(0).integers(0, 256, (*source, 3), np.uint8)
    expected = torch.from_numpy(image).permute(2, 0, 1)[None].double()
    for _ in steps:
        expected = torch.nn.functional.avg_pool2d(expected, 2).add(0.5).floor()
    size = steps[-1] if steps else source
    if max(size[0] / target[0], size[1] / target[1]) > 2:
        expected = torch.from_numpy(cv2.resize(image, target[::-1], interpolation=cv2.INTER_AREA)).permute(2, 0, 1)[None]
    else:
        expected = torch.nn.functional.interpolate(expected, target, mode="bilinear", align_corners=False)
    found = resize_image(image, target)
    assert (found.dtype, found.shape) == (np.uint8, (*target, 3))
    assert np.abs(found - expected[0].permute(1, 2, 0).numpy()).max() <= 1.0


@pytest.mark.parametrize(("source", "target", "steps"), RESIZES)
def test_an_image_keeps_its_place_when_it_is_resized(source, target, steps) -> None:
    """A ramp holds its own coordinate."""
    ramp = np.tile(np.linspace(0, 255, source[1]), (source[0], 1))
    found = resize_image(np.rint(ramp).astype(np.uint8), target)
    columns = Resize(target, source).points(np.stack((np.arange(target[1]), np.zeros(target[1])), axis=1))[:, 0]
    inside = (columns >= 1) & (columns <= source[1] - 2)
    expected = columns * 255 / max(1, source[1] - 1)
    assert np.abs(found[:, inside] - expected[inside]).max(initial=0) <= 1.5


def test_a_fine_pattern_is_not_aliased() -> None:
    stripes = np.zeros((480, 1600, 3), np.uint8)
    stripes[:, ::2] = 255
    for width in (1600, 1599):  # halved, and where nothing can be halved
        found = resize_image(np.ascontiguousarray(stripes[:, :width]), (120, 320))
        assert np.abs(found.astype(int) - 127).max() <= 26


@pytest.mark.parametrize(("source", "target"), [((288, 360), (256, 320)), ((601, 700), (256, 320)), ((100, 90), (128, 96))])
def test_the_last_step_as_matrices(source, target) -> None:
    plane = np.random.default_rng(0).integers(0, 256, source, np.uint8)
    rows, columns = resize_matrices(source, target)
    assert (rows.dtype, rows.shape, columns.shape) == (np.float32, (target[0], source[0]), (target[1], source[1]))
    assert np.abs(rows @ plane @ columns.T - resize_image(plane, target)).max() < 1.0
