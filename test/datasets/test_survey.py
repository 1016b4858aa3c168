from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csl_tracker.datasets.describe import instruments_of
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.survey import ContactSheet, draw_labels, survey_sequence
from csl_tracker.errors import DatasetError


@dataclass
class Made:
    """A sequence made by the test; an error in its list is raised there."""

    samples: list[Sample | DatasetError]
    name: str = "made"
    landmarks: tuple[str, ...] = ("tip", "shaft")
    classes: tuple[str, ...] = ("background", "tool", "ring")
    slots: tuple[str, ...] = ("left",)
    fps: float = 25.0
    size: tuple[int, int] = (40, 60)
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        for item in self.samples:
            if isinstance(item, DatasetError):
                raise item
            yield item


def sample(frame: int = 0, **changes: Any) -> Sample:
    label_map = np.zeros((40, 60), np.uint8)
    label_map[10:20, 10:30] = 1
    label_map[10:20, 30:35] = 2
    settings = {
        "image": np.zeros((40, 60, 3), np.uint8),
        "label_map": label_map,
        "landmarks": np.array([[[12.0, 12.0], [20.0, 15.0]]]),
        "labelled": np.ones((1, 2), bool),
        "sequence": "made",
        "frame": frame,
        "stamp_ns": frame * 40_000_000,
    }
    return Sample(**{**settings, **changes})  # type: ignore[arg-type]


def test_counts() -> None:
    absent = np.array([[[np.nan, np.nan], [20.0, 15.0]]])
    unlabelled = sample(2, label_map=None, landmarks=np.full((1, 2, 2), np.nan), labelled=np.zeros((1, 2), bool))
    survey = survey_sequence(Made([sample(0), sample(1, landmarks=absent), unlabelled]))
    assert (survey.frames, survey.frames_with_landmarks, survey.frames_with_masks) == (3, 2, 2)
    assert {name: (count.labelled, count.visible) for name, count in survey.landmarks.items()} == {
        "tip": (2, 1),
        "shaft": (2, 2),
    }
    assert {name: (count.frames, count.pixels) for name, count in survey.classes.items()} == {
        "background": (2, 2 * (2400 - 250)),
        "tool": (2, 400),
        "ring": (2, 100),
        "ignore": (0, 0),
    }
    assert survey.problems == []


def nan(*names: int) -> np.ndarray:
    points = np.array([[[12.0, 12.0], [20.0, 15.0]]])
    points[0, list(names)] = np.nan
    return points


@pytest.mark.parametrize(
    ("samples", "problem"),
    [
        ([sample(0, label_map=np.full((40, 60), 7, np.uint8))], "Frame 0 has the label 7, which no class owns."),
        (
            [sample(i, label_map=np.zeros((40, 60), np.uint8)) for i in (3, 4, 5)],
            "Frame 3 has visible landmarks and an empty mask, as do 2 other frames.",
        ),
        (
            [sample(0, label_map=np.zeros((20, 30), np.uint8))],
            "Frame 0 has a mask of 30x20 px, which is not the size of its image.",
        ),
        ([sample(0, landmarks=np.array([[[12.0, 12.0], [60.0, 15.0]]]))], "Frame 0 has shaft outside of its image."),
        ([sample(0), sample(0)], "Frame 0 has a stamp that is not later."),
        ([sample(0, image=np.zeros((20, 60, 3), np.uint8), label_map=None)], "Frame 0 has 60x20 px and not 60x40."),
        ([sample(0, labelled=np.array([[True, False]]), landmarks=nan(1))], "Nobody labelled shaft."),
        ([sample(0, landmarks=nan(1))], "In no frame is there any shaft, though it was looked for."),
        ([sample(0, label_map=(sample().label_map == 1).astype(np.uint8))], "No pixel is of the class ring."),
        (
            [sample(0, label_map=None, landmarks=nan(0, 1), labelled=np.zeros((1, 2), bool))],
            "No frame has a landmark or a mask: nothing can be learnt from this sequence.",
        ),
        ([sample(0), DatasetError("The image x is broken.")], "Only 1 of 2 frames can be read: The image x is broken."),
        (
            [sample(i, landmarks=np.array([[[12.0, 12.0], [50.0, 35.0]]])) for i in range(5)],
            "Most points of shaft lie far from the masks: landmarks and masks may be of different images, sizes or frames.",
        ),
    ],
)
def test_problems(samples: list[Any], problem: str) -> None:
    assert problem in survey_sequence(Made(samples)).problems


def test_what_the_loader_noted_is_told() -> None:
    assert survey_sequence(Made([sample(0)], notes=("Something is odd.",))).problems == ["Something is odd."]


def test_sheet_shows_frames_from_everywhere_and_names_the_colours() -> None:
    sequences: list[Any] = [Made([sample(i, sequence=name) for i in range(30)], name=name) for name in ("one", "two")]
    sheet = ContactSheet(sequences, 6)
    taken = [(item.sequence, item.frame) for sequence in sequences for item in sequence if sheet.look(item)]
    assert taken == [("one", 4), ("one", 14), ("one", 24), ("two", 4), ("two", 14), ("two", 24)]
    image = sheet.image()
    assert image is not None
    assert image.shape[1] == 4 * 420  # two rows: six frames and the legend


def test_sheet_of_few_frames_and_of_none() -> None:
    sheet = ContactSheet([Made([sample(0), sample(1)])], 16)
    assert sheet.image() is None
    sheet.look(sample(0))
    assert sheet.image() is not None


def test_labels_are_drawn_in_their_colours_where_they_are() -> None:
    made = Made([])
    instruments = instruments_of(made)
    assert instruments is not None
    drawn = draw_labels(sample(), instruments)
    tool, ring = (np.array(instruments.class_colors[label]) for label in (1, 2))
    np.testing.assert_allclose(drawn[18, 27], 0.35 * tool, atol=1)
    np.testing.assert_allclose(drawn[18, 33], 0.35 * ring, atol=1)
    np.testing.assert_allclose(drawn[12, 12], instruments.landmark_colors[0], atol=1)
    assert not drawn[30:].any()


def test_a_sequence_without_any_name_is_still_shown() -> None:
    bare = sample(0, landmarks=np.empty((1, 0, 2)), labelled=np.empty((1, 0), bool), label_map=None)
    made = Made([bare], landmarks=(), classes=("background",))
    assert instruments_of(made) is None
    sheet = ContactSheet([made], 1)
    assert sheet.look(bare)
    assert sheet.image() is not None
