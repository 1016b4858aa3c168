import cv2
import numpy as np
import pytest
import torch

from csl_tracker.pixels import Resize, from_corner

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
    np.testing.assert_allclose(forth.inverse.points(forth.points(points)), points, atol=1e-9)
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
