"""Writes synthetic sequences in the layout of EndoVis 2015 robotic."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.datasets.synthetic.sequence import SyntheticSequence
from csl_tracker.errors import DatasetError
from csl_tracker.video import VideoWriter

GRAY = np.array([0, 160, 70], np.uint8)
"""Gray value of background, shaft and manipulator in the mask videos."""

_JOINTS = {"shaft": "ShaftPoint", "head": "HeadPoint", "left_clasper": "LeftClasperPoint", "right_clasper": "RightClasperPoint"}
_TOOL_IDS = {"left": "tool2", "right": "tool1"}


def write_endovis2015(sequence: SyntheticSequence, root: Path, progress: Callable[[], Any] | None = None) -> Path:
    """Write the folder of one sequence: video, masks, poses and joints.

    The folder appears when it is complete; what an interrupted call left behind is removed by the next.

    Args:
        sequence: What to write.
        root: Folder of the dataset; the sequence's folder is made in it and gets its name.
        progress: Called after every frame.

    Returns:
        The sequence's folder.

    Raises:
        DatasetError: The folder cannot be written to.
    """
    folder = root / sequence.name
    partial = root / f".{sequence.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise DatasetError(
            f"{root} cannot be written to ({error.strerror}); give a folder that can be made or written."
        ) from error
    slots = sequence.slots
    prefixes = [f"{slot.capitalize()}_Instrument_" for slot in slots] if len(slots) > 1 else [""]
    poses: list[list[str]] = [[] for _ in slots]
    joints: list[dict[str, Any]] = []
    video = VideoWriter(partial / "Video.avi", sequence.fps, crf=14)
    masks = [VideoWriter(partial / f"{prefix}Segmentation.avi", sequence.fps, crf=8) for prefix in prefixes]
    try:
        for sample in sequence:
            time = sequence.time(sample.frame)
            video.write(sample.image)
            for writer, layer in zip(masks, sequence.scene.layers(time), strict=True):
                writer.write(GRAY[layer])
            for rows, pose, landmarks in zip(poses, sequence.scene.poses(time), sample.landmarks, strict=True):
                rows.append(_pose_line(landmarks[sequence.landmarks.index("center")], pose.angle, pose.bend, pose.opening))
            joints.append(_joint_entry(sequence, sample.frame, sample.landmarks))
            if progress is not None:
                progress()
        for writer in (video, *masks):
            writer.close()
    except BaseException:
        for writer in (video, *masks):
            writer.abort()
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for prefix, rows in zip(prefixes, poses, strict=True):
        (partial / f"{prefix}Pose.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    number = "".join(character for character in sequence.name if character.isdigit()) or "1"
    (partial / f"test{number}_labels.json").write_text(json.dumps(joints), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)
    return folder


def _pose_line(center: npt.NDArray[np.float64], angle: float, bend: float, opening: float) -> str:
    x, y = (f"{value:.2f}" for value in center) if np.isfinite(center).all() else ("-1", "-1")
    axes = (math.cos(angle), math.sin(angle), math.cos(angle + bend), math.sin(angle + bend))
    return " ".join([x, y, *(f"{value:.6f}" for value in axes), f"{math.degrees(opening):.3f}"])


def _joint_entry(sequence: SyntheticSequence, frame: int, landmarks: npt.NDArray[np.float64]) -> dict[str, Any]:
    annotations = []
    for slot, points in zip(sequence.slots, landmarks, strict=True):
        for name, joint in _JOINTS.items():
            x, y = points[sequence.landmarks.index(name)]
            if math.isfinite(x):
                annotations.append({"class": joint, "id": _TOOL_IDS[slot], "x": round(float(x), 3), "y": round(float(y), 3)})
    return {"class": "image", "filename": f"{sequence.name}/img_{frame:06d}_raw.png", "annotations": annotations}
