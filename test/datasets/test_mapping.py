"""Names of one dataset as those of another: what is refused, what is left out, and what goes where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.datasets.cache import FrameCache
from csl_tracker.datasets.mapping import Matching
from csl_tracker.datasets.registry import select_landmarks
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import WeightsError
from csl_tracker.instruments import ENDOVIS, RETINAL, InstrumentSet


@dataclass
class Made:
    """Two frames in memory: the first with masks, where there are classes, the second without."""

    landmarks: tuple[str, ...]
    classes: tuple[str, ...]
    name: str = "made"
    slots: tuple[str, ...] = ("instrument",)
    fps: float = 25.0
    size: tuple[int, int] = (4, 6)
    files: tuple[Path, ...] = field(default_factory=tuple)

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Sample]:
        for frame in range(2):
            labels = np.zeros((4, 6), np.uint8)
            labels.flat[: len(self.classes)] = range(len(self.classes))
            labels[3] = 255
            points = np.arange(2.0 * len(self.landmarks)).reshape(1, -1, 2)
            yield Sample(
                image=np.zeros((4, 6, 3), np.uint8),
                label_map=labels if len(self.classes) > 1 and frame == 0 else None,
                landmarks=points,
                labelled=np.ones((1, len(self.landmarks)), bool),
                sequence=self.name,
                frame=frame,
                stamp_ns=0,
            )


PARTS = ("background", "shaft", "wrist", "clasper")
WHOLE = InstrumentSet(landmarks=("center",), classes=("background", "tool"))


@pytest.mark.parametrize(
    ("sequence", "instruments", "matching", "said"),
    [
        (Made((), PARTS), ENDOVIS, None, "they have center, .*the sequence made has none; use weights"),
        (
            Made(ENDOVIS.landmarks, PARTS),
            ENDOVIS,
            Matching(),
            "other classes than the dataset's: .* made has background, shaft, w",
        ),
        (
            Made(("tip", "center"), ("background",)),
            WHOLE,
            Matching(landmarks={"tip": "center"}),
            "Two landmarks of .* 'center'",
        ),
        (Made(("center",), PARTS), WHOLE, Matching(classes={"shaft": "tool"}), "other classes"),
    ],
)
def test_other_names_are_refused(sequence: Made, instruments: InstrumentSet, matching: Matching | None, said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        select_landmarks(sequence, instruments, matching)


@pytest.mark.parametrize(
    ("theirs", "ours", "renamed", "expected"),
    [
        (PARTS, ENDOVIS.classes, {}, [0, 1, 2, 2]),
        (PARTS, ("background", "tool"), {}, [0, 1, 1, 1]),
        (("background", "shaft", "manipulator"), ("background", "tool"), {}, [0, 1, 1]),
        (("background", "tool"), ENDOVIS.classes, {}, [0, 255]),  # shaft or manipulator? nobody knows
        (("background", "shaft", "manipulator"), PARTS, {}, [0, 1, 255]),
        (("background", "grasper", "hook"), ("background", "tool"), {"grasper": "tool"}, [0, 1, 255]),
        (PARTS, ENDOVIS.classes, {"wrist": "ignore"}, [0, 1, 255, 2]),
        (PARTS, ENDOVIS.classes, {"background": "ignore"}, [255, 1, 2, 2]),
    ],
)
def test_classes_go_to_what_they_are_a_part_of(
    theirs: tuple[str, ...], ours: tuple[str, ...], renamed: dict[str, str], expected: list[int]
) -> None:
    model = InstrumentSet(landmarks=("center",), classes=ours)
    selected = select_landmarks(Made(("center",), theirs), model, Matching(partial=True, classes=renamed))
    first, second = selected
    assert first.label_map is not None
    assert first.label_map.flat[: len(expected)].tolist() == expected
    assert (first.label_map[3] == 255).all()
    assert (second.label_map, selected.segmented) == (None, set(expected) - {0, 255})


@pytest.mark.parametrize(
    ("theirs", "ours", "renamed", "expected"),
    [
        (PARTS, ENDOVIS.classes, {}, [0, 1, 1, 1]),
        (("background", "tool"), ENDOVIS.classes, {}, [0, 1]),
        (("background", "shaft", "manipulator"), PARTS, {}, [0, 1, 1]),
        (("background", "grasper", "hook"), ("background", "tool"), {"grasper": "tool"}, [0, 1, 255]),
        (("background", "tool"), ("background", "tool"), {"background": "ignore"}, [255, 1]),
        (("background", "liver"), ENDOVIS.classes, {}, None),
    ],
)
def test_a_tool_is_a_tool_whatever_its_class(
    theirs: tuple[str, ...], ours: tuple[str, ...], renamed: dict[str, str], expected: list[int] | None
) -> None:
    made = Made(("center",), theirs)
    model = InstrumentSet(landmarks=("center",), classes=ours)
    first, second = (select_landmarks(made, model, Matching(partial=True, classes=renamed)).tools(sample) for sample in made)
    assert second is None
    assert (None if first is None else first.flat[: len(theirs)].tolist()) == expected
    assert first is None or (first[3] == 255).all()


def test_missing_landmarks_are_not_labelled() -> None:
    made = Made(("tip_a", "center"), ("background",))
    selected = select_landmarks(made, RETINAL, Matching(partial=True, landmarks={"tip_a": "left_tip"}))
    sample = next(iter(selected))
    np.testing.assert_array_equal(sample.landmarks, [[[0, 1], [np.nan, np.nan], [2, 3]]])
    assert sample.labelled.tolist() == [[True, False, True]]
    assert (selected.labelled, selected.segmented) == (("left_tip", "center"), set())


def test_a_dataset_without_masks_needs_no_leave() -> None:
    selected = select_landmarks(Made(ENDOVIS.landmarks, ("background",)), ENDOVIS)
    assert (next(iter(selected)).label_map, selected.mapping) == (None, "")


def test_the_cache_knows_renamed_content_and_frames_without_masks(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    made = Made(("center",), PARTS, files=(source,))
    one = FrameCache(select_landmarks(made, ENDOVIS, Matching(partial=True)), tmp_path)
    other = FrameCache(select_landmarks(made, ENDOVIS, Matching(partial=True, classes={"wrist": "ignore"})), tmp_path)
    assert one.folder != other.folder
    assert [sample.label_map is None for sample in one] == [False, True]
    labels = [one[0].label_map, other[0].label_map]
    assert labels[0] is not None
    assert labels[1] is not None
    assert (labels[0].flat[2], labels[1].flat[2]) == (2, 255)
