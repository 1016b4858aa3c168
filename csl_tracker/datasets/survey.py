"""Dataset survey: counts per sequence, landmark and class, problems, and a contact sheet of labelled frames."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np

from csl_tracker.arrays import Image, LabelMap
from csl_tracker.datasets.describe import instruments_of
from csl_tracker.datasets.registry import FileSequence
from csl_tracker.datasets.sample import Sample
from csl_tracker.datasets.sample import Sequence as SampleSequence
from csl_tracker.drawing import colorize, draw_landmarks, draw_overlay, landmark_colors
from csl_tracker.errors import DatasetError
from csl_tracker.instruments import IGNORE_LABEL, InstrumentSet
from csl_tracker.pixels import resize_image
from csl_tracker.results import TrackingResult

OFF_MASK = 0.5
"""Fraction of a landmark's points off all masks above which landmarks and masks are considered inconsistent."""
NEAR = 0.02
"""Maximum distance to a mask, as a fraction of the longer image side; tips are on the border of the mask."""

_TILE_WIDTH = 420
_CAPTION = 26
_COLUMNS = 4


@dataclass
class LandmarkCount:
    """Counts of one landmark over frames and instruments.

    Attributes:
        labelled: Number of annotations, including absent landmarks.
        visible: Annotations in view.
        with_mask: Visible ones in frames with masks.
        off_mask: Those that are off all masks.
    """

    labelled: int = 0
    visible: int = 0
    with_mask: int = 0
    off_mask: int = 0


@dataclass
class ClassCount:
    """Counts of one class.

    Attributes:
        frames: Number of frames with the class.
        pixels: Total pixels.
    """

    frames: int = 0
    pixels: int = 0


@dataclass
class SequenceSurvey:
    """Survey of one sequence.

    Attributes:
        name: Its name.
        frames: Number of readable frames.
        stated_frames: Length of the sequence.
        width: px.
        height: px.
        fps: Frame rate, 1/s.
        slots: Its instruments.
        frames_with_landmarks: Frames with a visible landmark.
        frames_with_masks: Frames with a label map.
        landmarks: Counts by name.
        classes: Counts by name; ``ignore`` counts pixels without a class.
        problems: One sentence each.
    """

    name: str
    stated_frames: int
    width: int
    height: int
    fps: float
    slots: tuple[str, ...]
    frames: int = 0
    frames_with_landmarks: int = 0
    frames_with_masks: int = 0
    landmarks: dict[str, LandmarkCount] = field(default_factory=dict)
    classes: dict[str, ClassCount] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a JSON file."""
        return asdict(self)


def survey_sequence(
    sequence: FileSequence,
    progress: Callable[[], Any] | None = None,
    look: Callable[[Sample], Any] | None = None,
) -> SequenceSurvey:
    """Read a sequence once and count its labels, one frame at a time.

    A read error ends the survey; earlier counts are kept, and the error is added to ``problems``.

    Args:
        sequence: The sequence.
        progress: Called after each frame.
        look: Called with each sample.
    """
    height, width = sequence.size
    survey = SequenceSurvey(sequence.name, len(sequence), width, height, sequence.fps, sequence.slots)
    survey.landmarks = {name: LandmarkCount() for name in sequence.landmarks}
    survey.classes = {name: ClassCount() for name in (*sequence.classes, "ignore")}
    survey.problems += getattr(sequence, "notes", ())
    faults: Counter[str] = Counter()
    first: dict[str, int] = {}
    stamp = -1
    try:
        for sample in sequence:
            for fault in [
                *_count(survey, sample, sequence),
                *(["has a stamp that is not later"] if sample.stamp_ns <= stamp else []),
            ]:
                faults[fault] += 1
                first.setdefault(fault, sample.frame)
            stamp = sample.stamp_ns
            if look is not None:
                look(sample)
            if progress is not None:
                progress()
    except DatasetError as error:
        survey.problems.append(f"Only {survey.frames} of {len(sequence)} frames can be read: {error}")
    for fault, count in faults.items():
        others = f", as do {count - 1} other frames" if count > 1 else ""
        survey.problems.append(f"Frame {first[fault]} {fault}{others}.")
    survey.problems += _missing(survey)
    return survey


def _count(survey: SequenceSurvey, sample: Sample, sequence: SampleSequence) -> list[str]:
    """Count one sample; returns its faults as clauses."""
    faults: list[str] = []
    survey.frames += 1
    height, width = sample.image.shape[:2]
    if (height, width) != sequence.size:
        faults.append(f"has {width}x{height} px and not {sequence.size[1]}x{sequence.size[0]}")
    survey.frames_with_landmarks += bool(sample.visible.any())
    labels = sample.label_map
    if labels is not None:
        survey.frames_with_masks += 1
        if labels.shape == (height, width):
            faults += _count_pixels(survey, labels, sequence.classes, bool(sample.visible.any()))
        else:
            faults.append(f"has a mask of {labels.shape[1]}x{labels.shape[0]} px, which is not the size of its image")
            labels = None
    return faults + _count_landmarks(survey, sample, sequence.landmarks, labels)


def _count_pixels(survey: SequenceSurvey, labels: LabelMap, classes: Sequence[str], has_landmarks: bool) -> list[str]:
    """Count the pixels of one label map; returns its faults."""
    faults: list[str] = []
    pixels = np.bincount(labels.ravel(), minlength=256)
    names = dict(enumerate(classes)) | {IGNORE_LABEL: "ignore"}
    for value in np.flatnonzero(pixels).tolist():
        if value in names:
            survey.classes[names[value]].frames += 1
            survey.classes[names[value]].pixels += int(pixels[value])
        else:
            faults.append(f"has the label {value}, which no class owns")
    if has_landmarks and pixels[0] == labels.size:
        faults.append("has visible landmarks and an empty mask")
    return faults


def _count_landmarks(survey: SequenceSurvey, sample: Sample, landmarks: Sequence[str], labels: LabelMap | None) -> list[str]:
    """Count the landmarks of one sample, and those far from the label map; returns their faults."""
    faults: list[str] = []
    height, width = sample.image.shape[:2]
    visible = sample.visible
    radius = math.ceil(NEAR * max(height, width))
    for index, name in enumerate(landmarks):
        count = survey.landmarks[name]
        count.labelled += int(sample.labelled[:, index].sum())
        for x, y in sample.landmarks[visible[:, index], index]:
            count.visible += 1
            if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
                faults.append(f"has {name} outside of its image")
            elif labels is not None:
                count.with_mask += 1
                column, row = math.floor(x + 0.5), math.floor(y + 0.5)
                near = labels[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1]
                count.off_mask += int(not near.any())
    return faults


def _missing(survey: SequenceSurvey) -> list[str]:
    """Missing and inconsistent labels, as sentences."""
    problems = []
    if not survey.frames_with_landmarks and not survey.frames_with_masks:
        problems.append("No frame has a landmark or a mask: nothing can be learnt from this sequence.")
        return problems
    if survey.frames_with_landmarks:
        never = [name for name, count in survey.landmarks.items() if not count.labelled]
        if never:
            problems.append(f"Nobody labelled {', '.join(never)}.")
        unseen = [name for name, count in survey.landmarks.items() if count.labelled and not count.visible]
        if unseen:
            problems.append(f"In no frame is there any {', '.join(unseen)}, though it was looked for.")
    if survey.frames_with_masks:
        empty = [name for name, count in survey.classes.items() if not count.frames and name not in ("ignore", "background")]
        if empty:
            problems.append(f"No pixel is of the class {', '.join(empty)}.")
    off = [name for name, count in survey.landmarks.items() if count.off_mask > OFF_MASK * max(count.with_mask, 4)]
    if off:
        problems.append(
            f"Most points of {', '.join(off)} lie far from the masks: landmarks and masks may be of different images, sizes or"
            " frames."
        )
    return problems


class ContactSheet:
    """Contact sheet: evenly spaced frames of a dataset with their labels drawn.

    Args:
        sequences: The dataset.
        count: Number of frames.
    """

    def __init__(self, sequences: Sequence[FileSequence], count: int = 16) -> None:
        self._sets = {sequence.name: instruments_of(sequence) for sequence in sequences}
        total = sum(len(sequence) for sequence in sequences)
        wanted = {round((index + 0.5) * total / count - 0.5) for index in range(count)} if total > count else set(range(total))
        self._wanted: set[tuple[str, int]] = set()
        start = 0
        for sequence in sequences:
            self._wanted |= {(sequence.name, index - start) for index in wanted if start <= index < start + len(sequence)}
            start += len(sequence)
        self._tiles: list[Image] = []
        self._seen: Counter[str] = Counter()

    def look(self, sample: Sample) -> bool:
        """Add the sample if it is selected for the sheet; returns whether it was."""
        index = self._seen[sample.sequence]
        self._seen[sample.sequence] += 1
        wanted = (sample.sequence, index) in self._wanted
        if wanted:
            self._tiles.append(_tile(sample, self._sets[sample.sequence]))
        return wanted

    def image(self) -> Image | None:
        """The sheet, uint8 (H, W, 3), RGB; None without frames."""
        if not self._tiles:
            return None
        tiles = [*self._tiles, *_legends(self._sets.values())]
        height = max(tile.shape[0] for tile in tiles)
        columns = min(_COLUMNS, len(tiles))
        rows = -(-len(tiles) // columns)
        sheet = np.full((rows * height, columns * _TILE_WIDTH, 3), 24, np.uint8)
        for index, tile in enumerate(tiles):
            top, left = index // columns * height, index % columns * _TILE_WIDTH
            sheet[top : top + tile.shape[0], left : left + _TILE_WIDTH] = tile
        return sheet


def draw_labels(sample: Sample, instruments: InstrumentSet, weight: float = 1.0) -> Image:
    """Draw a sample's label map and its visible landmarks over its image.

    Args:
        sample: The sample.
        instruments: Names and colours of its landmarks and classes.
        weight: Factor of disc size and line width, for images that are shown small.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    size = (sample.image.shape[0], sample.image.shape[1])
    labels = sample.label_map if sample.label_map is not None and sample.label_map.shape == size else None
    drawn = draw_overlay(sample.image, TrackingResult((), labels, size, 0.0), instruments)
    points = np.where(sample.visible[..., None], sample.landmarks, np.nan)
    return draw_landmarks(drawn, points, instruments, weight=weight)


def _tile(sample: Sample, instruments: InstrumentSet | None) -> Image:
    height, width = sample.image.shape[:2]
    # Drawn at full size and shrunk to the tile: enlarge discs and lines.
    drawn = sample.image if instruments is None else draw_labels(sample, instruments, weight=1.3)
    small = resize_image(drawn, (max(1, round(height * _TILE_WIDTH / width)), _TILE_WIDTH))
    tile = np.full((small.shape[0] + _CAPTION, _TILE_WIDTH, 3), 24, np.uint8)
    tile[_CAPTION:] = small
    masks = "" if sample.label_map is not None else ", no masks"
    _text(tile, (8, 18), f"{sample.sequence} {sample.frame}: {int(sample.visible.sum())} landmarks{masks}")
    return tile


def _legends(sets: Any) -> list[Image]:
    """One legend tile for each distinct set."""
    legends = []
    for instruments in dict.fromkeys(item for item in sets if item is not None):
        entries = [(name, color, True) for name, color in zip(instruments.landmarks, landmark_colors(instruments), strict=True)]
        areas = colorize(np.arange(instruments.num_classes, dtype=np.uint8)[None], instruments)[0]
        for label, name in enumerate(instruments.classes[1:], 1):
            entries.append((name, (int(areas[label, 0]), int(areas[label, 1]), int(areas[label, 2])), False))
        tile = np.full((_CAPTION * (len(entries) + 1), _TILE_WIDTH, 3), 24, np.uint8)
        for row, (name, color, is_point) in enumerate(entries):
            center = (18, row * _CAPTION + 17)
            if is_point:
                cv2.circle(tile, center, 7, color, cv2.FILLED, cv2.LINE_AA)
            else:
                cv2.rectangle(tile, (center[0] - 8, center[1] - 8), (center[0] + 8, center[1] + 8), color, cv2.FILLED)
            _text(tile, (36, center[1] + 5), name)
        legends.append(tile)
    return legends


def _text(image: Image, place: tuple[int, int], text: str) -> None:
    shown = text.encode("ascii", "replace").decode()  # OpenCV's font is ASCII only
    cv2.putText(image, shown, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (230, 230, 230), 1, cv2.LINE_AA)
