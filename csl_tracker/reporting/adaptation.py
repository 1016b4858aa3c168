"""The report of ``csl-tracker adapt``: one self-contained HTML page, and a summary for the terminal."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from csl_tracker.arrays import Image
from csl_tracker.output import write_text
from csl_tracker.reporting.page import Page, Picture, Section
from csl_tracker.reporting.report_charts import Axes
from csl_tracker.reporting.table import cell_text
from csl_tracker.training.adaptation.gate import MAX_DICE_LOSS, MAX_PIXEL_GAIN
from csl_tracker.training.adaptation.run import Outcome, Shown

PICTURE_WIDTH = 480
"""Width of the pictures, px."""
_GATE = (
    ("DICE on held-out frames", "dice", "dice_frames"),
    ("share of pixels called instrument, held-out frames without instruments", "empty_share", "empty_frames"),
    ("the same, frames of the videos on which the old weights saw nothing", "video_share", "video_frames"),
)


def write_report(path: Path, outcome: Outcome) -> None:
    """Write the page.

    Raises:
        DatasetError: It cannot be written.
    """
    record = outcome.record
    machine = record["machine"]
    page = Page(
        title=f"Adaptation of {record['weights']}",
        sections=list(_sections(outcome)),
        summary=summary(outcome),
        problems=[outcome.refusal] if outcome.refusal else [],
        command=record["command"],
        provenance=(
            f"{record['date']}, {machine['cpu']}, {machine['cores']} cores, GPU {machine['gpu'] or 'none'}",
            *(f"video {name} {digest}" for name, digest in zip(record["videos"], record["videos_sha256"], strict=True)),
            ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        ),
    )
    write_text(path, page.html())


def summary(outcome: Outcome) -> str:
    """What was used and what changed, in two sentences."""
    made, record = outcome.pseudo_labels, outcome.record
    text = f"{made.kept} of {len(made.records)} sampled frames passed the checks with instruments."
    if "after" not in record:
        return text
    before, after = record["before"], record["after"]
    numbers = ", ".join(
        f"{what} {before[key]:.4f} before, {after[key]:.4f} after (n = {after[count]})"
        for what, key, count in (("held-out DICE", *_GATE[0][1:]), ("false pixels on empty frames", *_GATE[1][1:]))
        if before[key] is not None and after[key] is not None
    )
    return f"{text} Change: {numbers}."


def _sections(outcome: Outcome) -> Iterator[Section]:
    record = outcome.record
    if "after" in record:
        yield _gate(record)
        yield _labels(record)
    yield _frames(outcome)
    if outcome.shown:
        yield _pictures(outcome.shown)
    curve = record.get("loss", {})
    points = [(float(x), y) for x, y in zip(curve.get("step", ()), curve.get("loss", ()), strict=True) if y is not None]
    if len(points) > 1:
        top = 1.05 * max(y for _, y in points)
        axes = Axes((points[0][0], points[-1][0]), (0.0, top), "step", "training loss")
        caption = "A falling loss does not mean better weights: the pseudo-labels are predictions of the old ones."
        yield Section("Training", chart=axes.drawing("Training loss", axes.polyline(points)), caption=caption)


def _gate(record: Mapping[str, Any]) -> Section:
    before, after = record["before"], record["after"]
    rows = [(title, str(after[count]), _cell(before[key]), _cell(after[key])) for title, key, count in _GATE]
    text = (
        f"New weights are refused if the DICE falls by more than {MAX_DICE_LOSS:g}, or a share of false pixels rises by more"
        f" than {MAX_PIXEL_GAIN:g}. Held-out frames are rendered or synthetic: they show harm, but not the gain on the videos."
    )
    families = record["held_out_families"]
    note = "The frames of the gate come from a bank's families that the training does not use: " + ", ".join(families) + "."
    return Section("Gate", text, ("", "frames", "before", "after"), rows, notes=[note] if families else [])


def _labels(record: Mapping[str, Any]) -> Section:
    pairs = list(zip(record["labels_before"], record["labels_after"], strict=True))
    if not pairs:
        return Section(
            "Labelled frames",
            "No labels were given (--labels), so whether the new weights are better on real frames is not known.",
        )
    head = ("sequence", "", "frames", "DICE", "visible landmarks", "error, px", "median", "missed", "false positive")
    rows = [(_title(row), when, *_row(row)) for pair in pairs for when, row in zip(("before", "after"), pair, strict=True)]
    notes = ["Frames of one video resemble each other, so n frames are not n independent measurements."]
    if any(row["of_the_videos"] for row, _ in pairs):
        notes.append("The new weights learned from sequences marked with *: their figures say nothing about other videos.")
    return Section("Labelled frames", head=head, rows=rows, left=(0, 1), notes=notes)


def _title(row: Mapping[str, Any]) -> str:
    return f"{row['dataset']} {row['sequence']}{' *' if row['of_the_videos'] else ''}"


def _row(row: Mapping[str, Any]) -> list[str]:
    error = row["landmark_error_px"]
    values = (row["frames"], row["dice"], row["visible"], error["mean"], error["median"])
    return [cell_text(value, 3) for value in (*values, row["miss_rate"], row["false_positive_rate"])]


def _frames(outcome: Outcome) -> Section:
    made = outcome.pseudo_labels
    rows = [(reason.value, str(count)) for reason, count in made.counts.items()]
    rows.append(("all sampled frames", str(len(made.records))))
    notes = [
        f"Landmarks: {made.landmarks} labelled, {made.dropped} left out since another view did not confirm them,"
        f" {made.wrong_side} left out since left and right lie on the wrong sides.",
        f"Of the pixels of frames with instruments, {100 * made.ignored_share:.2f} % are ignored since the views disagree.",
    ]
    return Section("Frames", head=("", "frames"), rows=rows, notes=notes)


def _pictures(shown: Sequence[Shown]) -> Section:
    pictures = []
    for item in shown:
        title = f"{item.video}, frame {item.frame}, {item.time_s:.2f} s"
        pictures.append(Picture(_jpeg(item.before), f"{title}: before ({item.outcome})"))
        if item.after is not None:
            pictures.append(Picture(_jpeg(item.after), f"{title}: after"))
    text = "Evenly spaced sampled frames, whether they were used or not."
    return Section("Before and after" if shown[0].after is not None else "Old weights", text, pictures=pictures)


def _jpeg(image: Image) -> str:
    """The ``data:`` URL of a picture, not enlarged."""
    height, width = image.shape[:2]
    if width > PICTURE_WIDTH:
        size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"
