from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from csl_tracker.drawing import colorize, draw_landmarks, draw_outlines, draw_overlay
from csl_tracker.instruments import ENDOVIS, IGNORE_LABEL, InstrumentSet
from csl_tracker.results import InstrumentEstimate, LandmarkEstimate, TrackingResult

BARE = InstrumentSet(landmarks=("center",), classes=("background", "tool"))


def result(
    size: tuple[int, int],
    points: list[tuple[float, float]],
    *,
    instruments: InstrumentSet = BARE,
    visible: bool = True,
    variance: float = 0.0,
    labels: np.ndarray | None = None,
) -> TrackingResult:
    landmarks = tuple(
        LandmarkEstimate(name, x, y, np.eye(2) * variance, 0.9, visible)
        for name, (x, y) in zip(instruments.landmarks, points, strict=True)
    )
    return TrackingResult((InstrumentEstimate(3, "left", landmarks, 0.9, 0.0, (0, 0, 0, 0)),), labels, size, 0.0)


def test_result_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="is for an image of"):
        draw_overlay(np.zeros((10, 10, 3), np.uint8), result((10, 11), [(1, 1)]), BARE)


@pytest.mark.parametrize(
    "points",
    [[(math.nan, math.nan)], [(-1e4, 50)], [(1e6, 1e6)], [(1e300, -1e300)]],
    ids=["nan", "left of the image", "far away", "beyond 32 bits"],
)
@pytest.mark.parametrize("variance", [0.0, math.nan, 1e12])
def test_odd_points_and_covariances_do_no_harm(points: list[tuple[float, float]], variance: float) -> None:
    draw_overlay(np.zeros((100, 100, 3), np.uint8), result((100, 100), points, variance=variance), BARE)


@pytest.mark.parametrize("size", [(1, 1), (8, 300), (256, 320), (1080, 1920)])
def test_any_size(size: tuple[int, int]) -> None:
    points = [(size[1] * 0.5, size[0] * 0.5)]
    drawn = draw_overlay(np.zeros((*size, 3), np.uint8), result(size, points), BARE)
    assert drawn.shape == (*size, 3)
    assert drawn.dtype == np.uint8


def test_image_itself_is_left_alone() -> None:
    image = np.full((100, 100, 3), 7, np.uint8)
    drawn = draw_overlay(image, result((100, 100), [(50, 50)]), BARE)
    assert (image == 7).all()
    assert (drawn != 7).any()


def test_unsure_landmarks_are_not_drawn() -> None:
    image = np.full((100, 100, 3), 7, np.uint8)
    np.testing.assert_array_equal(draw_overlay(image, result((100, 100), [(50, 50)], visible=False), BARE), image)


@pytest.mark.parametrize(("x", "y"), [(60.0, 200.0), (60.5, 200.25), (63.8125, 199.5)])
def test_discs_lie_where_the_landmark_is_to_a_fraction_of_a_pixel(x: float, y: float) -> None:
    drawn = draw_overlay(np.zeros((300, 300, 3), np.uint8), result((300, 300), [(x, y)]), BARE)
    red, green, _ = np.moveaxis(drawn[185:215, 45:80].astype(float), -1, 0)
    weight = red * (green == 0)  # the landmark's own magenta, not the white name beside it
    rows, columns = np.mgrid[185:215, 45:80]
    assert (weight * columns).sum() / weight.sum() == pytest.approx(x, abs=0.15)
    assert (weight * rows).sum() / weight.sum() == pytest.approx(y, abs=0.15)


def test_ellipse_has_the_two_sigma_radii_along_the_covariance() -> None:
    covariance = np.array([[400.0, 0.0], [0.0, 25.0]])
    angle = math.radians(30)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    base = result((400, 400), [(200, 200)])
    mark = replace(base.instruments[0].landmarks[0], covariance=turn @ covariance @ turn.T)
    turned = replace(base, instruments=(replace(base.instruments[0], landmarks=(mark,)),))
    image = np.zeros((400, 400, 3), np.uint8)
    changed = np.argwhere((draw_overlay(image, turned, BARE) != draw_overlay(image, base, BARE)).any(axis=-1))[:, ::-1] - 200
    along = changed @ turn
    assert np.abs(along[:, 0]).max() == pytest.approx(40, abs=2)
    assert np.abs(along[:, 1]).max() == pytest.approx(10, abs=2)


def test_name_stays_inside_the_image_and_reads_on_a_small_one() -> None:
    for point in [(0, 0), (319, 0), (0, 255), (319, 255)]:
        image = np.full((256, 320, 3), 90, np.uint8)
        drawn = draw_overlay(image, result((256, 320), [point]), BARE)
        white = (drawn > 200).all(axis=-1)
        assert white.sum() > 60
        rows, columns = np.nonzero(white)
        assert columns.min() > 0
        assert columns.max() < 319
        assert rows.min() > 0
        assert rows.max() < 255


def test_classes_are_blended_and_ignored_pixels_are_not() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[5:10, 5:10], labels[5:10, 10:15], labels[15:, :] = 1, 2, IGNORE_LABEL
    image = np.full((20, 30, 3), 100, np.uint8)
    drawn = draw_overlay(image, TrackingResult((), labels, (20, 30), 0.0), ENDOVIS)
    assert (drawn[labels == 0] == 100).all()
    assert (drawn[labels == IGNORE_LABEL] == 100).all()
    for label in (1, 2):
        expected = 0.65 * 100 + 0.35 * np.array(ENDOVIS.class_colors[label])
        np.testing.assert_allclose(drawn[labels == label].mean(axis=0), expected, atol=1)


def test_truth_is_drawn_as_crosses_and_absent_truth_is_not() -> None:
    image = np.zeros((200, 200, 3), np.uint8)
    empty = TrackingResult((), None, (200, 200), 0.0)
    drawn = draw_overlay(image, empty, BARE, [[(50.0, 60.0)], [(math.nan, math.nan)]])
    rows, columns = np.nonzero(drawn.any(axis=-1))
    assert (rows.mean(), columns.mean()) == (pytest.approx(60, abs=0.5), pytest.approx(50, abs=0.5))


@pytest.mark.parametrize("instruments", [ENDOVIS, BARE])
def test_colorize(instruments: InstrumentSet) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    picture = colorize(labels, instruments).reshape(256, 3)
    assert picture[0].tolist() == [0, 0, 0]
    assert picture[IGNORE_LABEL].tolist() == [128, 128, 128]
    colors = {tuple(picture[label]) for label in range(instruments.num_classes)}
    assert len(colors) == instruments.num_classes
    if instruments.class_colors:
        assert picture[: instruments.num_classes].tolist() == [list(c) for c in instruments.class_colors]


def test_outlines_leave_what_lies_below_in_sight() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 20:50], labels[0, 0] = 1, IGNORE_LABEL
    image = np.full((60, 80, 3), 90, np.uint8)
    drawn = draw_outlines(image, labels, ENDOVIS, weight=4.0)
    assert (image == 90).all()
    assert (drawn[30, 35] == 90).all()
    assert (drawn[0, 0] == 90).all()
    assert tuple(drawn[20, 35]) == ENDOVIS.class_colors[1]
    assert (draw_outlines(image, np.zeros((60, 80), np.uint8), ENDOVIS) == image).all()


def test_landmarks_are_discs_where_sure_and_rings_where_not() -> None:
    image = np.full((640, 640, 3), 90, np.uint8)
    points = np.full((2, 5, 2), math.nan)
    points[0, :2], points[1, 0] = [(100, 100), (200, 100)], (400, 400)
    sure = np.ones((2, 5), bool)
    sure[1] = False
    drawn = draw_landmarks(image, points, ENDOVIS, sure)
    assert tuple(drawn[100, 100]) == ENDOVIS.landmark_colors[0]
    assert tuple(drawn[100, 150]) == (255, 255, 255), "center and shaft are joined"
    assert (drawn[400, 400] == 90).all(), "a ring is hollow"
    assert tuple(drawn[400, 404]) == ENDOVIS.landmark_colors[0]
    wide = draw_landmarks(image, points, ENDOVIS, weight=3.0)
    assert tuple(wide[400, 400]) == ENDOVIS.landmark_colors[0], "everything is sure when nothing is said"
    assert (wide != 90).any(axis=-1).sum() > 2 * (drawn != 90).any(axis=-1).sum()


def test_landmarks_far_away_or_unknown_draw_nothing() -> None:
    image = np.full((50, 50, 3), 90, np.uint8)
    points = np.array([[(math.nan, math.nan), (-1e4, 3), (3, math.nan), (1e4, 1e4), (1e4, -1e4)]])
    assert (draw_landmarks(image, points, ENDOVIS, np.zeros((1, 5), bool)) == image).all()
    assert (draw_landmarks(image, np.empty((0, 5, 2)), ENDOVIS) == image).all()
