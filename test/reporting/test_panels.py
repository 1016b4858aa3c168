from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import DatasetError, WeightsError
from csl_tracker.evaluation.runs import parse_run
from csl_tracker.instruments import ENDOVIS, InstrumentSet
from csl_tracker.networks import NetworkConfig
from csl_tracker.reporting.panels import choose_frames, write_panels

Make = Callable[..., Any]


@dataclass
class Video:
    """Four frames of 64x80 px, each of a gray of its own."""

    landmarks: tuple[str, ...] = ENDOVIS.landmarks
    classes: tuple[str, ...] = ENDOVIS.classes
    slots: tuple[str, ...] = ("left", "right")
    name: str = "Dataset1"
    fps: float = 25.0
    size: tuple[int, int] = (64, 80)
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Sample]:
        for frame in range(4):
            image = np.full((*self.size, 3), 40 + 50 * frame, np.uint8)
            mask = np.zeros(self.size, np.uint8)
            mask[20:40, 30:] = 1
            points = np.full((2, len(self.landmarks), 2), math.nan)
            points[0, 0] = (30, 30)
            yield Sample(image, mask, points, np.ones(points.shape[:2], bool), self.name, frame, frame * 40_000_000)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([3.0, 1.0, 2.0, 9.0, 4.0], {"best": 1, "median": 0, "worst": 3}),
        ([3.0, None, 2.0], {"best": 2, "median": 0, "worst": 1}),
        ([5.0, 5.0, 5.0], {"best": 0, "median": 1, "worst": 2}),
        ([5.0, 1.0], {"best": 1, "worst": 0}),
        ([5.0], {"best": 0}),
    ],
)
def test_frames_are_chosen_by_rule(
    make_run: Make, sequence: Make, landmark: Make, errors: list[float | None], expected: dict[str, int]
) -> None:
    part = parse_run(make_run("csl", {"Dataset1": sequence({"center": landmark(errors)})})).sequences["Dataset1"]
    assert choose_frames(part) == expected


def test_frames_are_chosen_by_the_mean_of_their_landmarks(make_run: Make, sequence: Make, landmark: Make) -> None:
    marks = {"center": landmark([9.0, 1.0, 3.0], frames=[5, 6, 7]), "head": landmark([1.0, 8.0], frames=[5, 7])}
    part = parse_run(make_run("csl", {"Dataset1": sequence(marks)})).sequences["Dataset1"]
    assert choose_frames(part) == {"best": 6, "median": 5, "worst": 7}


def test_no_frame_to_choose(make_run: Make, sequence: Make, landmark: Make) -> None:
    part = parse_run(make_run("csl", {"Dataset1": sequence({"center": landmark([])})})).sequences["Dataset1"]
    with pytest.raises(DatasetError, match="No frame of sequence Dataset1 has a visible landmark"):
        choose_frames(part)


@pytest.mark.parametrize(("frames", "text"), [([1, 4], "frame 4 was"), ([-1], "frame -1 was"), ([], "no frame was")])
def test_frames_that_are_not_there(tmp_path: Path, random_weights: Path, frames: list[int], text: str) -> None:
    with pytest.raises(DatasetError, match=f"For the panels of Dataset1 {text} asked for; it has the frames 0 to 3"):
        write_panels([("csl", random_weights)], Video(), tmp_path / "panels", frames)
    assert not list(tmp_path.iterdir())


def test_weights_for_other_landmarks(tmp_path: Path, make_weights: Make) -> None:
    names = ("left_tip", "right_tip", "joint", "shaft", "head")
    alien = make_weights(instruments=InstrumentSet(landmarks=names, classes=ENDOVIS.classes), network=NetworkConfig())
    with pytest.raises(WeightsError, match="left_tip"):
        write_panels([("csl", alien)], Video(), tmp_path / "panels", [0], device="cpu", engine="torch")
    assert not list(tmp_path.iterdir())


def test_labels_that_do_not_fit(tmp_path: Path, random_weights: Path) -> None:
    with pytest.raises(ValueError, match="1 labels for 2 frames"):
        write_panels([("csl", random_weights)], Video(), tmp_path / "panels", [0, 1], ["best"])


def test_rows_are_frames_and_columns_are_models(tmp_path: Path, random_weights: Path) -> None:
    models = [("csl", random_weights), ("sl", random_weights)]
    for name in ("a.png", "b"):
        written = write_panels(models, Video(), tmp_path / name, [3, 0], ["worst", "best"], "cpu", "torch")
        assert [path.name for path in written] == [f"{name[0]}.png", f"{name[0]}.svg"]
    for suffix in ("png", "svg"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    texts = (tmp_path / "a.svg").read_text()
    for text in ("Dataset1: truth", "CSL", "SL", "worst", "frame 3", "best", "frame 0"):
        assert f"<!-- {text} -->" in texts, text
    picture = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_GRAYSCALE)
    height, width = picture.shape
    for column in (0.25, 0.55, 0.85):
        above, below = (picture[int(height * row) - 20 : int(height * row) + 20, int(width * column)] for row in (0.3, 0.8))
        assert np.median(above) > np.median(below) + 100, "frame 3 is bright and above, frame 0 dark and below"
