from dataclasses import replace

import numpy as np
import pytest

from csl_tracker.errors import DatasetError
from csl_tracker.tracker import Tracker
from csl_tracker.training.adaptation.empties import empty_frame
from csl_tracker.training.adaptation.gate import Figures, measure, objection, open_held_out

BEFORE = Figures(0.9, 90, 0.001, 40, 0.0, 12)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, None),
        ({"dice": 0.891}, None),
        ({"dice": 0.8899}, "the DICE of 90 held-out frames fell from 0.9000 to 0.8899, by more than 0.01"),
        ({"empty_share": 0.0011}, None),
        ({"empty_share": 0.0013}, "on 40 held-out frames without instruments rose from 0.00100 to 0.00130"),
        ({"video_share": 0.0003}, "on 12 frames of the videos without instruments rose from 0.00000 to 0.00030"),
        ({"dice": 0.95, "empty_share": 0.0, "video_share": None}, None),
    ],
)
def test_what_is_refused(changes, text):
    found = objection(BEFORE, replace(BEFORE, **changes))
    assert (found is None) if text is None else (found is not None and text in found)


def test_synthetic_frames_are_measured_with_their_numbers(random_weights):
    held_out = open_held_out("", 8, (128, 160))
    found = measure(Tracker.from_weights(random_weights, "cpu", "torch"), held_out, [], {}, "test")
    assert found.dice_frames + found.empty_frames == 8 + 4
    assert found.dice_frames >= 6
    assert 0 <= found.dice <= 1
    assert (found.video_share, found.video_frames) == (None, 0)


def test_empty_frames_depend_on_seed_and_number_only():
    first, again, other = (empty_frame(5, index, (64, 96)) for index in (2, 2, 4))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (64, 96, 3)
    assert (first != other).any()


def test_a_bank_holds_families_out_where_it_has_them(make_bank):
    with_family = open_held_out(make_bank("hand-held scissors", "needle driver"), 10, (128, 160))
    assert with_family.families == ("hand-held scissors",)
    assert len(with_family.bank.sprites) == 1
    without = open_held_out(make_bank("needle driver"), 10, (128, 160))
    assert without.families == ()
    assert any((sample.label_map > 0).any() for sample in without.labelled())


def test_a_bank_without_instruments_is_refused(make_bank):
    with pytest.raises(DatasetError, match="has no instruments; render some with csl-tracker render"):
        open_held_out(make_bank(), 10, (128, 160))
