from __future__ import annotations

import cv2
import numpy as np
import pytest
from pycocotools import mask as reference

from csl_tracker.datasets.coco_masks import (
    SPECK,
    decode_rle,
    decode_segmentation,
    encode_rle,
    fill_polygons,
    mask_to_polygons,
    polygons_for_people,
)

SIZE = (3, 4)


def blobs(seed: int) -> np.ndarray:
    """Parts with holes and parts that touch at corners, in an image of any small size."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 60, 2)
    smooth = cv2.GaussianBlur(rng.random((height, width)), (0, 0), rng.uniform(0.3, 5))
    return np.asarray(smooth > np.median(smooth))


@pytest.mark.parametrize(
    ("segmentation", "text"),
    [
        ("1 2 3", "is a str"),
        ([[1, 2, 3, 4]], "has a polygon of 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "has a polygon of 7 numbers"),
        ([[1, 2, 3, 4, 5, "x"]], "x and y of its vertices, as numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "not finite"),
        ({"size": [4, 3], "counts": [12]}, r"is for an image of \[height, width\] \[4, 3\] and the image has \[3, 4\]"),
        ({"counts": [12]}, "is for an image of .* None"),
        ({"size": [3, 4], "counts": [5, 6]}, "run lengths of 11 px together and the image has 12"),
        ({"size": [3, 4], "counts": [-1, 13]}, "no run lengths of whole numbers"),
        ({"size": [3, 4]}, "no run lengths"),
        ({"size": [3, 4], "counts": "<\x7f"}, "the character .* which is none of theirs"),
        ({"size": [3, 4], "counts": "P"}, "are cut off"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        decode_segmentation(segmentation, SIZE)


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_no_mask(nothing: object) -> None:
    assert decode_segmentation(nothing, SIZE) is None


def test_run_lengths_go_down_the_columns_and_begin_with_background() -> None:
    expected = np.array([[0, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 0]], bool)
    for counts in ([4, 4, 4], "444"):
        np.testing.assert_array_equal(decode_rle({"size": [3, 4], "counts": counts}, SIZE), expected)


@pytest.mark.parametrize("seed", range(25))
def test_compressed_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    mask = blobs(seed) if seed > 1 else np.full((7, 300), bool(seed))
    theirs = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert (ours["size"], ours["counts"]) == (theirs["size"], theirs["counts"].decode())
    np.testing.assert_array_equal(decode_rle(ours, mask.shape), mask)  # type: ignore[arg-type]


def test_polygon_is_measured_from_the_corner_of_the_image() -> None:
    """A square from corner (1, 1) to (3, 2) covers the two pixels in row 1, columns 1 and 2, and no more."""
    expected = np.zeros(SIZE, bool)
    expected[1, 1:3] = True
    square = [1, 1, 3, 1, 3, 2, 1, 2]
    np.testing.assert_array_equal(decode_segmentation([square], SIZE), expected)
    np.testing.assert_array_equal(decode_segmentation(square, SIZE), expected)  # as some tools write it
    np.testing.assert_array_equal(decode_segmentation([[0, 0, 4, 0, 4, 3, 0, 3]], SIZE), np.ones(SIZE, bool))


def test_several_polygons_are_united() -> None:
    mask = decode_segmentation([[0, 0, 2, 0, 2, 3, 0, 3], [1, 0, 3, 0, 3, 3, 1, 3]], SIZE)
    assert mask is not None
    np.testing.assert_array_equal(mask.sum(axis=0), [3, 3, 3, 0])


@pytest.mark.parametrize("seed", range(20))
def test_pixels_of_a_polygon_are_those_whose_centres_it_holds(seed: int) -> None:
    """Against the winding of the polygon around every centre, also where it leaves the image.

    COCO's code rounds outlines to a fifth of a pixel and so differs near them alone.
    """
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-6, 36, (rng.integers(3, 8), 2))
    filled = fill_polygons([vertices], (24, 30))
    for row in range(24):
        for column in range(30):
            x, y = column + 0.5, row + 0.5
            inside, nearest = False, np.inf
            for (x0, y0), (x1, y1) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
                if (y0 <= y) != (y1 <= y) and x >= x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                    inside = not inside
                share = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
                nearest = min(nearest, np.hypot(x0 + share * (x1 - x0) - x, y0 + share * (y1 - y0) - y))
            assert filled[row, column] == inside or nearest < 0.75


@pytest.mark.parametrize("seed", range(2, 27))
def test_polygons_of_a_mask_give_it_back(seed: int) -> None:
    mask = blobs(seed)
    if mask.any():
        np.testing.assert_array_equal(decode_segmentation(mask_to_polygons(mask), mask.shape), mask)  # type: ignore[arg-type]


def test_polygons_for_people_have_few_vertices_and_stay_close() -> None:
    mask = cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 80, 1, cv2.FILLED).astype(bool)
    mask = mask & ~cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 30, 1, cv2.FILLED).astype(bool)
    polygons = polygons_for_people(mask)
    assert sum(map(len, polygons)) / 2 < 80
    back = decode_segmentation(polygons, (200, 200))
    assert back is not None
    assert (back ^ mask).sum() / mask.sum() < 0.02


def test_specks_are_not_for_people() -> None:
    mask = np.zeros((200, 200), bool)
    mask[50:60, 50:60] = True
    mask[100, 100] = True
    assert SPECK * mask.size == 4
    assert len(mask_to_polygons(mask)) == 2
    assert len(polygons_for_people(mask)) == 1
    assert not polygons_for_people(mask & (np.arange(200) >= 100))


def test_an_outline_without_end_is_refused() -> None:
    zigzag = np.zeros((100_000, 2))
    zigzag[1::2] = (5, 60)
    with pytest.raises(ValueError, match="an outline of 6000000 px, and 2000000 are the limit"):
        fill_polygons([zigzag], (60, 80))


@pytest.mark.parametrize("polygon", [[1, 1] * 3, [9e6, 9e6, 9e6 + 3, 9e6, 9e6, 9e6 + 3], [-9, -9, -3, -9, -3, -3]])
def test_polygons_without_a_pixel_of_the_image(polygon: list[float]) -> None:
    mask = decode_segmentation([polygon], SIZE)
    assert mask is not None
    assert not mask.any()


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ("4", "4 px together"),
        ("44", "8 px together"),
        ("4440", "16 px together"),
        ("O", "no run lengths"),
        ("oooooooo0", "longer than any image"),
    ],
)
def test_run_lengths_that_do_not_fill_the_image_are_refused(counts: str, text: str) -> None:
    """pycocotools would give memory that nobody wrote."""
    with pytest.raises(ValueError, match=text):
        decode_rle({"size": [3, 4], "counts": counts}, SIZE)


def test_runs_beyond_64_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="px together"):
        decode_rle({"size": [3, 4], "counts": [10**30, 12]}, SIZE)
