"""Landmarks that one instrument lacks are ignored around that instrument alone."""

from __future__ import annotations

import numpy as np
import pytest

from csl_tracker.datasets.augment import paste, warp_sample
from csl_tracker.datasets.sample import Sample
from csl_tracker.instruments import ENDOVIS

SIZE = (160, 240)
ORDER = ENDOVIS.flip_permutation()
AS_IT_IS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def two_tools(instances: bool = True, unknown: bool = False) -> Sample:
    """Two square instruments; landmark 1 of the second, and landmark 3 (mirrored: 4) of the first, are unlabelled."""
    numbers = np.zeros(SIZE, np.uint8)
    numbers[60:100, 30:70], numbers[60:100, 170:210] = 1, 2
    if unknown:
        numbers[0:10, 110:120] = 255
    points = np.full((2, 5, 2), np.nan)
    points[0, :3], points[1, 0] = (50.0, 80.0), (190.0, 80.0)
    labelled = np.ones((2, 5), bool)
    labelled[1, 1] = labelled[0, 3] = False
    labels = (numbers > 0).astype(np.uint8)
    return Sample(np.zeros((*SIZE, 3), np.uint8), labels, points, labelled, "s", 0, 0, numbers if instances else None)


def test_an_unlabelled_landmark_is_ignored_around_its_instrument() -> None:
    crop = warp_sample(two_tools(), AS_IT_IS, False, ORDER, SIZE)
    assert crop.labelled.all()
    assert crop.unasked is not None
    assert crop.unasked.shape == (5, 80, 120)
    assert not crop.unasked[[0, 2, 4]].any()
    for landmark, left in ((1, 85), (3, 15)):
        rows, columns = np.nonzero(crop.unasked[landmark])
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (18, 61, left - 12, left + 31)
        assert crop.unasked[landmark].sum() == 44 * 44


def test_mirroring_swaps_what_is_unlabelled() -> None:
    mirror = np.array([[-1.0, 0.0, SIZE[1] - 1], [0.0, 1.0, 0.0]])
    crop = warp_sample(two_tools(), mirror, True, ORDER, SIZE)
    assert crop.unasked is not None
    assert [bool(plane.any()) for plane in crop.unasked] == [False, True, False, False, True]
    assert np.nonzero(crop.unasked[4])[1].min() > 60, "the first instrument is on the right now"


def test_without_instances_the_whole_frame_is_ignored() -> None:
    crop = warp_sample(two_tools(instances=False), AS_IT_IS, False, ORDER, SIZE)
    assert crop.unasked is None
    assert crop.labelled.tolist() == [True, False, True, False, True]


def test_an_instrument_out_of_view_hides_nothing() -> None:
    crop = warp_sample(two_tools(), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), False, ORDER, (160, 128))
    assert crop.unasked is not None
    assert not crop.unasked[1].any()
    assert crop.unasked[3].any()


def test_pixels_of_an_unknown_instrument_are_ignored() -> None:
    crop = warp_sample(two_tools(unknown=True), AS_IT_IS, False, ORDER, SIZE)
    assert crop.unasked is not None
    assert crop.unasked[[1, 3], 0, 57].all()
    assert not crop.unasked[[0, 2, 4]].any()


@pytest.mark.parametrize("first", [True, False])
def test_pasting_keeps_what_is_ignored_on_both(first: bool) -> None:
    known = warp_sample(two_tools(instances=False), AS_IT_IS, False, ORDER, SIZE)
    partly = warp_sample(two_tools(), AS_IT_IS, False, ORDER, SIZE)
    both = paste(partly, known) if first else paste(known, partly)
    assert both.unasked is not None
    np.testing.assert_array_equal(both.unasked, partly.unasked)
    assert both.labelled.tolist() == [True, False, True, False, True]
