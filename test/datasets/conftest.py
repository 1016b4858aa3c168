"""A small dataset on disk, written frame by frame, for the tests of loaders, cache and evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.video import VideoWriter

HEIGHT, WIDTH = 96, 128


def write_video(path: Path, frames: int, paint: Callable[[int], np.ndarray], crf: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 25, crf=crf) as writer:
        for index in range(frames):
            writer.write(paint(index))


def picture(index: int) -> np.ndarray:
    image = np.full((HEIGHT, WIDTH, 3), (150, 60, 50), np.uint8)
    image[:, :, 2] = 10 * index
    return image


def mask(left: int, value: int = 160) -> np.ndarray:
    """A shaft (or other value) of 40 columns from ``left`` on, rows 20 to 60, its last 16 columns manipulator."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[20:60, left : left + 40] = value
    labels[20:60, left + 24 : left + 40] = 70
    return labels


def pose_line(x: float, y: float, axis: float = 1.0) -> str:
    return f"{x} {y} {axis} 0 {axis} 0 12.5"


@pytest.fixture
def write_sequence() -> Callable[..., Path]:
    """Write one sequence folder with everything in it: single instrument, `poses` lines, optional JSON entries."""

    def write(
        folder: Path, poses: list[str], frames: int | None = None, masks: int | None = None, joints: object = None
    ) -> Path:
        frames = len(poses) if frames is None else frames
        write_video(folder / "Video.avi", frames, picture)
        write_video(folder / "Segmentation.avi", frames if masks is None else masks, lambda _: mask(30))
        (folder / "Pose.txt").write_text("\n".join(poses) + "\n")
        if joints is not None:
            (folder / "test1_labels.json").write_text(json.dumps(joints))
        return folder

    return write
