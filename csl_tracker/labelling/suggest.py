"""Write the chosen frames of a video with predicted labels, as files for labelling tools."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from csl_tracker.datasets.coco_writer import CocoWriter
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import ConfigError
from csl_tracker.instruments import InstrumentSet
from csl_tracker.labelling.cvat import project_labels
from csl_tracker.labelling.label_studio import labelling_interface, task
from csl_tracker.labelling.selection import Candidate, Choice, Judge, Pool, choose
from csl_tracker.output import write_text
from csl_tracker.text import csv_cell
from csl_tracker.tracker import Tracker
from csl_tracker.video import VideoReader

CSV_NAME = "suggestions.csv"
LABELS_NAME = "cvat_labels.json"
TASKS_NAME = "label_studio.json"
INTERFACE_NAME = "label_studio.xml"

_COLUMNS = ("rank", "frame", "time_s", "image", "reason", "score", "doubt", "jump", "mirror", "distance")


@dataclass(frozen=True)
class SuggestedFrames:
    """Description of the chosen frames for :class:`csl_tracker.datasets.coco_writer.CocoWriter`."""

    name: str
    fps: float
    slots: tuple[str, ...]
    landmarks: tuple[str, ...]
    classes: tuple[str, ...]


def check_numbers(count: int, spacing_s: float, every: int) -> None:
    """Check the numeric arguments of :func:`find_frames`.

    Raises:
        ConfigError: A number is out of range.
    """
    for name, value in (("count", count), ("every", every)):
        if value < 1:
            raise ConfigError(f"The {name} of suggested frames is {value}; give 1 or more.")
    if not (math.isfinite(spacing_s) and spacing_s >= 0):
        raise ConfigError(f"The spacing of suggested frames is {spacing_s} s; give 0 or more.")


def find_frames(
    reader: VideoReader,
    tracker: Tracker,
    count: int,
    spacing_s: float = 1.0,
    every: int = 1,
    mirror: bool = False,
    progress: Callable[[], Any] | None = None,
) -> list[Choice]:
    """Track a video once and choose the frames that are most worth labelling.

    Args:
        reader: The video; one frame is in memory at a time.
        tracker: The tracker; its identities are reset.
        count: Largest number of frames.
        spacing_s: Shortest time between two of them, s.
        every: Evaluate only every n-th frame.
        mirror: Also track the mirror image of every frame, which doubles the time.
        progress: Called after every frame of the video.

    Returns:
        Choices in order of rank, by the rule of :mod:`csl_tracker.labelling.selection`.

    Raises:
        ConfigError: A number is out of range.
        DatasetError: The video cannot be decoded.
    """
    check_numbers(count, spacing_s, every)
    tracker.reset()
    twin = Tracker(tracker.model, tracker.engine, tracker.max_instruments, tracker.confidence_threshold) if mirror else None
    judge = Judge(tracker.model.instruments, reader.size, every)
    pool = Pool(count, spacing_s)
    for frame, (time_ns, image) in enumerate(reader.timed()):
        if frame % every == 0:
            stamp_s = time_ns * 1e-9
            result = tracker.track(image, stamp_s)
            mirrored = None
            if twin is not None:
                mirrored = twin.track(np.ascontiguousarray(image[:, ::-1]), stamp_s, segmentation=False)
            pool.add(judge.mark(frame, stamp_s, image, result, mirrored))
        if progress is not None:
            progress()
    return choose(pool.candidates(), count, spacing_s)


def write_suggestions(
    writer: CocoWriter,
    frames: SuggestedFrames,
    reader: VideoReader,
    tracker: Tracker,
    choices: Sequence[Choice],
    progress: Callable[[], Any] | None = None,
) -> None:
    """Read the video again and write the chosen frames, their predicted labels and the reasons.

    Args:
        writer: Editable writer of the output folder; it stays open.
        frames: Result of :func:`describe`.
        reader: The video.
        tracker: Predicts the masks; the poses are those of the choices.
        choices: The chosen frames.
        progress: Called after every written frame.

    Raises:
        DatasetError: The video cannot be decoded, or the disk is full.
    """
    instruments: InstrumentSet = tracker.model.instruments
    wanted = {choice.candidate.frame: choice for choice in choices}
    images: dict[int, str] = {}
    tasks = []
    for frame, (stamp_ns, image) in enumerate(reader.timed()):
        if frame not in wanted:
            continue
        label_map = tracker.track(image).label_map if instruments.num_classes > 1 else None
        landmarks, labelled = _landmarks(wanted[frame].candidate, frames)
        sample = Sample(image, label_map, landmarks, labelled, frames.name, frame, stamp_ns)
        images[frame] = writer.write(sample)
        tasks.append(task(sample, frames.slots, instruments, images[frame], tracker.model.name))
        if progress is not None:
            progress()
        if len(images) == len(wanted):
            break
    shapes = [points for choice in choices for points in _landmarks(choice.candidate, frames)[0]]
    labels = project_labels(instruments, frames.slots, shapes)
    write_text(writer.partial / LABELS_NAME, json.dumps(labels, indent=2, allow_nan=False) + "\n")
    write_text(writer.partial / TASKS_NAME, json.dumps(tasks, allow_nan=False))
    write_text(writer.partial / INTERFACE_NAME, labelling_interface(instruments, frames.slots))
    write_text(writer.partial / CSV_NAME, _table(choices, images))


def describe(name: str, reader: VideoReader, tracker: Tracker, choices: Sequence[Choice]) -> SuggestedFrames:
    """Describe the chosen frames.

    Args:
        name: Name of the sequence.
        reader: The video.
        tracker: The tracker that evaluated it.
        choices: The frames; the slots of their instruments become the sequence's.
    """
    seen = {item.slot for choice in choices for item in choice.candidate.instruments}
    slots = tuple(sorted(seen, key=lambda slot: (slot not in ("left", "right"), slot))) or ("left",)
    instruments = tracker.model.instruments
    return SuggestedFrames(name, reader.fps, slots, instruments.landmarks, instruments.classes)


def _landmarks(
    candidate: Candidate, frames: SuggestedFrames
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    """Landmarks as in a Sample; invisible ones count as not labelled, since a person will check them."""
    shape = (len(frames.slots), len(frames.landmarks))
    landmarks, labelled = np.full((*shape, 2), np.nan), np.zeros(shape, bool)
    for item in candidate.instruments:
        slot = frames.slots.index(item.slot)
        for index, mark in enumerate(item.landmarks):
            if mark.visible:
                landmarks[slot, index], labelled[slot, index] = (mark.x, mark.y), True
    return landmarks, labelled


def _table(choices: Sequence[Choice], images: dict[int, str]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for choice in choices:
        item = choice.candidate
        marks = (item.score, item.doubt, item.jump, item.mirror)
        distance = "" if math.isnan(choice.distance) else f"{choice.distance:.4f}"
        place = (choice.rank, item.frame, f"{item.stamp_s:.3f}", csv_cell(images[item.frame]), csv_cell(choice.reason))
        rows.writerow([*place, *(f"{mark:.4f}" for mark in marks), distance])
    return text.getvalue()
