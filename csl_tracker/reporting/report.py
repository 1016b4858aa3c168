"""The report of a recorded bag: one self-contained HTML file.

Videos up to :data:`INLINE_BYTES` are embedded; larger ones are stored next to the page.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from csl_tracker import metrics
from csl_tracker.evaluation.bag_metrics import BagMetrics
from csl_tracker.evaluation.pose_errors import WorstFrame
from csl_tracker.output import write_text
from csl_tracker.reporting import report_charts as charts
from csl_tracker.reporting.film_times import inside
from csl_tracker.reporting.page import Page, PageFrame, Player, Section, Video
from csl_tracker.reporting.table import Cell, cell_text

INLINE_BYTES = 16 << 20
"""Maximum size of an embedded video: base64 adds a third, and some browsers reject 32 MB."""
_THRESHOLDS_PX = tuple(range(61))
_ALPHAS = tuple(index / 100 for index in range(51))


def write_report(
    path: Path,
    report: Mapping[str, Any],
    measured: BagMetrics,
    video: Path | None,
    starts_ns: Sequence[int],
    problems: Sequence[str],
) -> None:
    """Write the page.

    Args:
        path: Output file.
        report: The JSON's content: the values with ``command``, ``date``, ``machine``, ``versions``.
        measured: Values and worst frames.
        video: The overlay video, in the folder of the page; deleted if embedded. None without images.
        starts_ns: Start of each frame of the video, ns; empty without a video.
        problems: Sentences about anomalies in the bags.

    Raises:
        DatasetError: The page cannot be written.
    """
    values, machine = measured.values, report["machine"]
    inline = video is not None and video.stat().st_size <= INLINE_BYTES
    page = Page(
        title=f"Tracking of {values['name']}",
        sections=list(_sections(measured)),
        summary=_summary(values),
        problems=problems,
        player=_player(measured, video, inline, starts_ns),
        command=report["command"],
        provenance=(
            f"{report['date']}, {machine['cpu']}, {machine['cores']} cores, GPU {machine['gpu'] or 'none'}",
            f"input {report['input_sha256']}",
            ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        ),
    )
    write_text(path, page.html())
    if inline and video is not None:
        video.unlink()


def _summary(values: Mapping[str, Any]) -> str:
    models = ", ".join(values["models"]) or "an unnamed model"
    text = f"{values['answered_frames']} of {values['frames']} {values['frames_are']} answered by {models}"
    return f"{text} on {values['poses_topic']}."


def _player(measured: BagMetrics, video: Path | None, inline: bool, starts_ns: Sequence[int]) -> Player:
    stamps = measured.values["details"]["stamp_ns"]
    shown = None
    if video is not None:
        kind = "video/webm" if video.suffix == ".webm" else "video/mp4"
        source, beside = (_data_url(kind, video.read_bytes()), "") if inline else (video.name, video.name)
        shown = Video(source, beside, " ".join(f"{start * 1e-9:.4f}" for start in starts_ns))
    return Player(shown, [_frame(frame, stamps[0], inside(starts_ns)) for frame in measured.worst])


def _frame(frame: WorstFrame, start_ns: int, times: Sequence[float]) -> PageFrame:
    label = f"frame {frame.index}: {frame.landmark} {_error_text(frame.error_px)}"
    seconds = (frame.stamp_ns - start_ns) * 1e-9
    title = f"{label}, {seconds:.3f} s after the first frame, stamp {frame.stamp_ns * 1e-9:.6f} s"
    picture = "" if frame.picture is None else _data_url("image/jpeg", frame.picture)
    time = f"{times[frame.index]:.4f}" if frame.index < len(times) else ""  # no video
    return PageFrame(frame.index, time, label, title, picture)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _sections(measured: BagMetrics) -> Iterator[Section]:
    values = measured.values
    if values["accuracy"] is None:
        yield Section("Accuracy", "There is no ground truth, and so no accuracy.")
    else:
        yield _localisation(values)
        yield _segmentation(values["accuracy"])
        yield from _curves(values["details"])
        yield from _errors_over_time(measured)
        yield from _calibration(values["calibration"])
    yield Section("Frames and stamps", head=("", "count"), rows=_texts((text, values[key]) for key, text in _COUNTS.items()))
    yield _latency(values)
    yield _jitter(values["jitter"])


def _localisation(values: Mapping[str, Any]) -> Section:
    accuracy = values["accuracy"]
    head = ("", "visible landmarks", "error, px", "median", "p95", "< 20 px", "KBB 0.15", "missed", "false positive")
    parts = {"all landmarks": accuracy, **accuracy["landmarks"]}
    rows = [
        (
            name,
            part["visible"],
            *(part["landmark_error_px"][key] for key in ("mean", "median", "p95")),
            *(part[key] for key in ("threshold_score_20px", "kbb_0.15", "miss_rate", "false_positive_rate")),
        )
        for name, part in parts.items()
        if name == "all landmarks" or name in values["scored_landmarks"]
    ]
    others = ", ".join(values["landmarks_not_published"])
    notes = [f"In the truth alone, and not scored: {others}."] if others else []
    return Section("Localisation", head=head, rows=_texts(rows), notes=notes)


def _segmentation(accuracy: Mapping[str, Any]) -> Section:
    if not accuracy["segmented_frames"]:
        return Section("Segmentation", "No label maps of tracker and truth stand at the same stamps.")
    rows = (
        (name, accuracy["segmented_frames"], *(part[key] for key in ("dice", "precision", "recall")))
        for name, part in {"tool": accuracy, **accuracy["classes"]}.items()
    )
    return Section("Segmentation", head=("", "images", "DICE", "precision", "recall"), rows=_texts(rows))


def _curves(details: Mapping[str, Any]) -> Iterator[Section]:
    errors, boxes = _pooled(details)
    if not errors:
        return
    threshold = _known(list(zip(map(float, _THRESHOLDS_PX), metrics.threshold_curve(errors, _THRESHOLDS_PX), strict=True)))
    below = "share of landmarks below"
    yield Section("Threshold score", chart=charts.share_curve(threshold, "threshold, px", below, "Threshold score curve"))
    kbb = _known(list(zip(_ALPHAS, metrics.kbb_curve(errors, boxes, _ALPHAS), strict=True)))
    if kbb:
        yield Section("KBB score", chart=charts.share_curve(kbb, "alpha", below, "KBB score curve"))


def _errors_over_time(measured: BagMetrics) -> Iterator[Section]:
    details = measured.values["details"]
    stamps = details["stamp_ns"]
    if not stamps:
        return
    seconds = [(stamp - stamps[0]) * 1e-9 for stamp in stamps]
    dropped = [index for index, answered in enumerate(details["answered"]) if not answered]
    marks = [
        (frame.index, frame.error_px, f"frame {frame.index}: {frame.landmark} {_error_text(frame.error_px)}")
        for frame in measured.worst
    ]
    errors = [math.nan if value is None else value for value in details["mean_error_px"]]
    caption = (
        "Line: mean over the landmarks of a frame. Rings: the largest error of one landmark in the worst frames; choose one to"
        " see it. Ticks below the axis: frames without poses."
    )
    yield Section("Error over time", chart=charts.errors_over_time(seconds, errors, dropped, marks), caption=caption)


def _calibration(calibration: Mapping[str, Any]) -> Iterator[Section]:
    if calibration["ece"] is None:
        return
    caption = (
        f"Expected calibration error {calibration['ece']:.3f} over {calibration['count']} guesses: the mean over the guesses of"
        " the distance between the share that is right in a bin and the bin's mean confidence."
    )
    drawing = charts.reliability(calibration["bins"], f"share within {calibration['within_px']:g} px")
    yield Section("Calibration of the confidence", chart=drawing, caption=caption)


_COUNTS = {
    "frames": "frames",
    "answered_frames": "with poses",
    "dropped_frames": "dropped: without poses",
    "frames_not_replayed": "not replayed, and not counted",
    "longest_gap_frames": "longest run of dropped frames",
    "instruments": "instruments in all poses",
    "duplicated_pose_arrays": "further pose arrays of the same image",
    "resent_images": "images that the replay published again",
    "repeated_image_stamps": "images with the stamp of an earlier one",
    "rounded_pose_stamps": "pose arrays whose stamps are rounded",
    "unmatched_pose_stamps": "pose stamps that no image has",
    "unmatched_truth_stamps": "truth stamps that no image has",
    "nan_landmarks": "landmarks claimed visible without a usable position",
    "undecodable_images": "images that could not be decoded",
}
_TIMES = {
    "latency_ms": "publication of the image to reception of its poses, ms",
    "recorder_delay_ms": "recording of the image to recording of its poses, ms",
    "processing_ms": "the tracker's own time, ms",
}


def _latency(values: Mapping[str, Any]) -> Section:
    keys = ("p50", "p90", "p95", "p99", "max")
    rows = _texts((text, *(values[name][key] for key in keys)) for name, text in _TIMES.items())
    reason = values["latency_not_applicable"]
    if reason:
        return Section("Latency", head=("", *keys), rows=rows, notes=[f"Latency: not applicable, {reason}."])
    known = [value for value in values["details"]["latency_ms"] if value is not None]
    drawing = charts.histogram(known, "latency, ms", "Histogram of latency") if known else None
    return Section("Latency", head=("", *keys), rows=rows, chart=drawing)


def _jitter(jitter: Mapping[str, Any]) -> Section:
    position, intervals = jitter["position_px"], jitter["publishing_interval_ms"]
    names = {"median": "median", "sd": "standard deviation", "p95_off_median": "95 % within the median ±", "max": "longest"}
    rows = [(f"position, {key}, px", position[key]) for key in ("rms", "median", "p95")]
    rows += [(f"publishing interval, {text}, ms", intervals[key]) for key, text in names.items()]
    reason = intervals["not_applicable"]
    notes = [f"Publishing interval: not applicable, {reason}."] if reason else []
    notes.append("Position: length of (p[k+1] - p[k]) - (t[k+1] - t[k]) over neighbouring frames, p the pose and t the truth.")
    return Section("Jitter", head=("", ""), rows=_texts(rows), notes=notes)


def _pooled(details: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    parts = details.get("landmarks", {}).values()
    errors = [math.nan if value is None else value for part in parts for value in part["error_px"]]
    return errors, [math.nan if value is None else value for part in parts for value in part["box_px"]]


def _known(curve: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in curve if y is not None]


def _texts(rows: Iterable[Sequence[Cell]]) -> list[list[str]]:
    return [[cell_text(cell, 3) for cell in row] for row in rows]


def _error_text(error_px: float) -> str:
    return f"{error_px:.1f} px" if math.isfinite(error_px) else "without a guess"
