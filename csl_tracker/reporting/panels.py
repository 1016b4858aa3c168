"""Qualitative panels like Fig. 5 of the paper: one row per frame, columns for the ground truth and each model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from csl_tracker.arrays import FloatArray, Image, Mask
from csl_tracker.datasets.registry import FileSequence, select_landmarks
from csl_tracker.datasets.sample import Sample
from csl_tracker.drawing import draw_landmarks, draw_outlines
from csl_tracker.errors import DatasetError
from csl_tracker.evaluation.runs import SequenceResult
from csl_tracker.evaluation.sequence import SequenceEvaluator
from csl_tracker.instruments import InstrumentSet
from csl_tracker.pixels import Resize
from csl_tracker.reporting import plot_style
from csl_tracker.tracker import Tracker

COLUMN_IN = 1.75
"""Width of an image, inches."""
_DRAWN_WIDTH = 720  # minimum width in px, for smooth lines and discs
_OUTLINE_WEIGHT, _LANDMARK_WEIGHT = 1.4, 2.2  # the images are shown smaller than drawn
_SVG_DPI = 110.0


@dataclass(frozen=True)
class _Cell:
    picture: Image
    caption: str


def choose_frames(part: SequenceResult) -> dict[str, int]:
    """Select frames for a panel by rule.

    Args:
        part: Results of the reference model on the sequence.

    Returns:
        ``best``, ``median`` and ``worst`` -> frame number, by the mean error over the visible landmarks (infinite without a
        guess; ties by frame number). Fewer entries if there are fewer frames.

    Raises:
        DatasetError: No frame of the sequence has a visible landmark.
    """
    errors = part.pooled()
    sizes = np.where(np.isnan(errors.error), math.inf, errors.error)
    means = sorted((float(sizes[errors.frame == frame].mean()), int(frame)) for frame in np.unique(errors.frame))
    if not means:
        raise DatasetError(f"No frame of sequence {part.name} has a visible landmark; choose another sequence for the panels.")
    chosen = {"best": means[0][1], "worst": means[-1][1], "median": means[(len(means) - 1) // 2][1]}
    unique = {frame: rule for rule, frame in reversed(chosen.items())}
    return {rule: chosen[rule] for rule in ("best", "median", "worst") if unique[chosen[rule]] == rule}


def write_panels(
    models: Sequence[tuple[str, Path]],
    sequence: FileSequence,
    out: Path,
    frames: Sequence[int],
    labels: Sequence[str] = (),
    device: str = "auto",
    engine: str = "auto",
) -> list[Path]:
    """Draw frames with the ground truth and the output of each model.

    Landmarks are the best guesses: discs above the working threshold, rings below. Masks are outlines. The caption has the
    frame's DICE, its mean landmark error, and the number of landmarks without a guess.

    Args:
        models: Names and weights.
        sequence: The sequence.
        out: Output path; ``.png`` and ``.svg`` replace its suffix.
        frames: Frame numbers, one per row.
        labels: Row labels, such as ``worst``; may be empty.
        device: Device of the models.
        engine: Engine of the models.

    Returns:
        Paths of the PNG and SVG files.

    Raises:
        DatasetError: The sequence lacks a frame, or a file cannot be written.
        WeightsError: Weights cannot be used, or have other landmarks or classes.
    """
    if labels and len(labels) != len(frames):
        raise ValueError(f"{len(labels)} labels for {len(frames)} frames")
    samples = _samples(sequence, frames)
    columns: list[list[_Cell]] = []
    for index, (_, weights) in enumerate(models):
        tracker = Tracker.from_weights(weights, device, engine, max_instruments=len(sequence.slots), always_report=True)
        if index == 0:
            columns.append([_truth(sample, sequence, tracker.model.instruments) for sample in samples])
        columns.append([_predicted(sample, sequence, tracker) for sample in samples])
    looks = plot_style.lines([name for name, _ in models])
    titles = [f"{sequence.name}: truth", *(looks[name].label for name, _ in models)]
    rows = [f"frame {frame}" for frame in frames]
    if labels:
        rows = [f"{label}\n{row}" for label, row in zip(labels, rows, strict=True)]
    height, width = sequence.size
    with plot_style.styled():
        picture_height = COLUMN_IN * height / width
        figure, grid = plot_style.pictures(len(frames), len(columns), COLUMN_IN, picture_height)
        for column, (title, cells) in enumerate(zip(titles, columns, strict=True)):
            for row, cell in enumerate(cells):
                axes = grid[row][column]
                axes.imshow(cell.picture)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.set_xlabel(cell.caption, fontsize=8, labelpad=2)
                if row == 0:
                    axes.set_title(title)
                if column == 0:
                    axes.set_ylabel(rows[row])
        stem = out.with_suffix("") if out.suffix in (".png", ".svg") else out
        return plot_style.save(figure, stem, svg_dpi=_SVG_DPI)


def _samples(sequence: FileSequence, frames: Sequence[int]) -> list[Sample]:
    unknown = [frame for frame in frames if not 0 <= frame < len(sequence)]
    if unknown or not frames:
        asked = f"frame {unknown[0]} was" if unknown else "no frame was"
        raise DatasetError(f"For the panels of {sequence.name} {asked} asked for; it has the frames 0 to {len(sequence) - 1}.")
    found: dict[int, Sample] = {}
    for index, sample in enumerate(sequence):
        if index in frames:
            found[index] = sample
        if index == max(frames):
            break
    return [found[frame] for frame in frames]


def _truth(sample: Sample, sequence: FileSequence, instruments: InstrumentSet) -> _Cell:
    converted = select_landmarks(sequence, instruments).convert(sample)
    return _Cell(_picture(converted.image, converted.label_map, converted.landmarks, None, instruments), "")


def _predicted(sample: Sample, sequence: FileSequence, tracker: Tracker) -> _Cell:
    instruments = tracker.model.instruments
    tracker.reset()
    result = tracker.track(sample.image)
    evaluator = SequenceEvaluator(sequence, instruments)
    evaluator.add(sample, result)
    figures = evaluator.report()
    points = np.full((len(result.instruments), instruments.num_landmarks, 2), math.nan)
    visible = np.zeros(points.shape[:2], bool)
    for row, instrument in enumerate(result.instruments):
        points[row] = [(landmark.x, landmark.y) for landmark in instrument.landmarks]
        visible[row] = [landmark.visible for landmark in instrument.landmarks]
    picture = _picture(sample.image, result.label_map, points, visible, instruments)
    shares = "" if figures["dice"] is None else f"DICE {figures['dice']:.2f}"
    error = figures["landmark_error_px"]["mean"]
    distance = "" if error is None else f"{error:.1f} px"
    absent = f"{figures['unanswered']} without a guess" if figures["unanswered"] else ""
    return _Cell(picture, ", ".join(text for text in (shares, distance, absent) if text))


def _picture(
    image: Image, label_map: Image | None, points: FloatArray, visible: Mask | None, instruments: InstrumentSet
) -> Image:
    height, width = image.shape[:2]
    factor = max(1, math.ceil(_DRAWN_WIDTH / width))
    resize = Resize((height, width), (height * factor, width * factor))
    canvas = np.asarray(cv2.resize(image, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC), np.uint8)
    if label_map is not None:
        labels = cv2.resize(label_map, (width * factor, height * factor), interpolation=cv2.INTER_NEAREST)
        canvas = draw_outlines(canvas, np.asarray(labels, np.uint8), instruments, _OUTLINE_WEIGHT)
    return draw_landmarks(canvas, resize.points(points), instruments, visible, _LANDMARK_WEIGHT)
