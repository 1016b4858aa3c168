from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.datasets.endovis2015 import EndoVis2015Sequence, open_endovis2015
from csl_tracker.datasets.registry import FileSequence, open_dataset, select_landmarks
from csl_tracker.errors import DatasetError, WeightsError
from csl_tracker.instruments import ENDOVIS, InstrumentSet

POSES = ["60 40 1 0 1 0 5", "61 41 1 0 1 0 5"]


@pytest.fixture
def sequence(tmp_path: Path, write_sequence: Callable[..., Path]) -> EndoVis2015Sequence:
    point = {"class": "HeadPoint", "id": "tool1", "x": 80, "y": 30}
    write_sequence(tmp_path / "Dataset1", POSES, joints=[{"annotations": [point]}, {"annotations": []}])
    return open_endovis2015(tmp_path)[0]


def test_unknown_dataset_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no dataset 'endovis2105'; known are .*endovis2015, .*synthetic"):
        open_dataset("endovis2105", tmp_path)


@pytest.mark.parametrize(
    ("instruments", "text"),
    [
        (
            replace(ENDOVIS, landmarks=("center", "elbow"), skeleton=(), flip_pairs=(), shaft_axis=None, landmark_colors=()),
            "elbow",
        ),
        (replace(ENDOVIS, classes=("background", "tool"), class_colors=()), r"other classes than the dataset's: .* tool"),
    ],
)
def test_weights_for_other_names_are_refused(sequence: EndoVis2015Sequence, instruments: InstrumentSet, text: str) -> None:
    with pytest.raises(WeightsError, match=f"{text}.*Dataset1 has"):
        select_landmarks(sequence, instruments)


@pytest.mark.parametrize("name", ["endovis2015", "synthetic"])
def test_open_by_name(tmp_path: Path, write_sequence: Callable[..., Path], name: str) -> None:
    write_sequence(tmp_path / "Dataset1", POSES)
    [sequence] = open_dataset(name, tmp_path, ["Dataset1"])
    assert isinstance(sequence, FileSequence)
    assert len(sequence) == 2


def test_landmarks_and_classes_take_the_order_of_the_model(sequence: EndoVis2015Sequence) -> None:
    model = InstrumentSet(landmarks=("head", "center"), classes=("background", "manipulator", "shaft"))
    selected = select_landmarks(sequence, model)
    assert isinstance(selected, FileSequence)
    assert (selected.landmarks, selected.classes) == (model.landmarks, model.classes)
    first, second = selected
    np.testing.assert_array_equal(first.landmarks, [[[80, 30], [60, 40]]])
    np.testing.assert_array_equal(second.landmarks, [[[np.nan, np.nan], [61, 41]]])
    assert second.labelled.tolist() == [[False, True]]
    original = next(iter(sequence)).label_map
    assert original is not None
    assert first.label_map is not None
    np.testing.assert_array_equal(first.label_map, np.array([0, 2, 1])[original])


def test_model_without_classes_gets_no_label_map(sequence: EndoVis2015Sequence) -> None:
    selected = select_landmarks(sequence, InstrumentSet(landmarks=("center",), classes=("background",)))
    assert next(iter(selected)).label_map is None
