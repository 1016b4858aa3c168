"""The page of a recorded bag's evaluation: one HTML file that needs nothing from elsewhere.

Everything that comes from bags is escaped. The video is inside the page up to :data:`INLINE_BYTES`, beyond that beside it.
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from csl_tracker import metrics
from csl_tracker.evaluation.bag_metrics import BagFigures
from csl_tracker.output import write_text
from csl_tracker.reporting import report_charts as charts

INLINE_BYTES = 16 << 20
"""The largest video that goes into the page: base64 makes it a third larger, and some browsers refuse 32 MB."""
CURVE_PX = tuple(range(61))
CURVE_ALPHA = tuple(index / 100 for index in range(51))

Row = Sequence[Any]


def write_report(
    path: Path, report: Mapping[str, Any], measured: BagFigures, video: Path | None, fps: float, problems: Sequence[str]
) -> None:
    """Write the page.

    Args:
        path: Where it goes.
        report: The JSON's content: figures with ``command``, ``date``, ``machine``, ``versions``.
        measured: Figures and worst frames.
        video: The overlay video, in the folder of the page; it is removed when the page holds it. None without images.
        fps: Its frames a second.
        problems: What is unusual about the bags, in sentences.

    Raises:
        DatasetError: The page cannot be written.
    """
    figures = measured.figures
    inline = video is not None and video.stat().st_size <= INLINE_BYTES
    title = f"Tracking of {figures['name']}"
    parts = {
        "TITLE": escape(title),
        "SUMMARY": escape(_summary(figures)),
        "PROBLEMS": "".join(f'<p class="problem" role="note">{escape(text)}</p>' for text in problems),
        "PLAYER": _player(measured, video, inline, fps),
        "SECTIONS": "\n".join(_sections(measured)),
        "PROVENANCE": _provenance(report),
        "STYLE": page_style(),
        "SCRIPT": _part("script.js"),
    }
    # In one pass, so that nothing that a bag says is taken for a place of the template.
    write_text(path, re.sub("@([A-Z]+)@", lambda place: parts[place[1]], _part("page.html")))
    if inline and video is not None:
        os.unlink(video)


def page_style() -> str:
    """The style sheet of the pages."""
    return _part("style.css")


def _part(name: str) -> str:
    return (resources.files("csl_tracker.reporting") / "report_page" / name).read_text(encoding="utf-8")


def _summary(figures: Mapping[str, Any]) -> str:
    models = ", ".join(figures["models"]) or "an unnamed model"
    text = f"{figures['answered_frames']} of {figures['frames']} {figures['frames_are']} answered by {models}"
    return f"{text} on {figures['poses_topic']}."


def _player(measured: BagFigures, video: Path | None, inline: bool, fps: float) -> str:
    view = []
    if video is not None:
        source = video.name
        if inline:
            kind = "video/webm" if video.suffix == ".webm" else "video/mp4"
            source = f"data:{kind};base64,{base64.b64encode(video.read_bytes()).decode()}"
        view.append(
            f'<figure><video controls muted playsinline preload="auto" src="{escape(source)}"></video>'
            "<figcaption>Poses (discs, lines, two-sigma ellipses) and truth (crosses)"
            f"{'' if inline else f'; the video is the file {escape(video.name)} beside this page'}.</figcaption>"
            f'<p class="steps" data-fps="{fps:.9g}" data-frames="{len(measured.figures["details"]["stamp_ns"])}">'
            '<button type="button" data-step="-1">Previous frame</button> <output></output>'
            ' <button type="button" data-step="1">Next frame</button></p></figure>'
        )
    pictured = [frame for frame in measured.worst if frame.picture is not None]
    if pictured:
        view.append(
            '<figure><img id="picture" alt="" hidden><figcaption id="caption" aria-live="polite"></figcaption></figure>'
        )
    start = measured.figures["details"]["stamp_ns"][0] if measured.figures["details"]["stamp_ns"] else 0
    buttons, pictures = [], []
    for frame in measured.worst:
        text = _error_text(frame.error_px)
        label = f"frame {frame.index}: {frame.landmark} {text}"
        said = f"{label}, {(frame.stamp_ns - start) * 1e-9:.3f} s after the first frame, stamp {frame.stamp_ns * 1e-9:.6f} s"
        buttons.append(
            f'<li><button type="button" data-frame="{frame.index}" data-time="{(frame.index + 0.5) / fps:.4f}"'
            f' title="{escape(said)}">{escape(label)}</button></li>'
        )
        if frame.picture is not None:
            content = f"data:image/jpeg;base64,{base64.b64encode(frame.picture).decode()}"
            pictures.append(f'<script type="text/plain" id="frame-{frame.index}">{content}</script>')
    chosen = f'<h2>Worst frames</h2><ol class="frames">{"".join(buttons)}</ol>' if buttons else ""
    return f'<div class="view">{"".join(view)}</div>{chosen}{"".join(pictures)}'


def _sections(measured: BagFigures) -> list[str]:
    figures = measured.figures
    found = []
    accuracy = figures["accuracy"]
    if accuracy is None:
        found.append("<h2>Accuracy</h2><p>There is no ground truth, and so no accuracy.</p>")
    else:
        found += _accuracy(measured, accuracy)
    found.append("<h2>Frames and stamps</h2>" + _table(("", "count"), _frame_rows(figures)))
    found += _timing(figures)
    jitter = figures["jitter"]
    position, intervals = jitter["position_px"], jitter["publishing_interval_ms"]
    rows: list[Row] = [(f"position, {key}, px", position[key]) for key in ("rms", "median", "p95")]
    names = {"median": "median", "sd": "standard deviation", "p95_off_median": "95 % within the median ±", "max": "longest"}
    rows += [(f"publishing interval, {text}, ms", intervals[key]) for key, text in names.items()]
    note = intervals["not_applicable"]
    found.append(
        "<h2>Jitter</h2>"
        + _table(("", ""), rows)
        + (f'<p class="note">Publishing interval: not applicable, {escape(note)}.</p>' if note else "")
        + '<p class="note">Position: length of (p[k+1] - p[k]) - (t[k+1] - t[k]) over neighbouring frames, p the pose and t the'
        " truth.</p>"
    )
    return found


def _accuracy(measured: BagFigures, accuracy: Mapping[str, Any]) -> list[str]:
    figures = measured.figures
    head = ("", "visible", "error, px", "median", "p95", "< 20 px", "KBB 0.15", "missed", "false positive")
    parts = {"all landmarks": accuracy, **accuracy["landmarks"]}
    rows = [
        (
            name,
            part["visible"],
            part["landmark_error_px"]["mean"],
            part["landmark_error_px"]["median"],
            part["landmark_error_px"]["p95"],
            part["threshold_score_20px"],
            part["kbb_0.15"],
            part["miss_rate"],
            part["false_positive_rate"],
        )
        for name, part in parts.items()
        if name == "all landmarks" or name in figures["scored_landmarks"]
    ]
    found = ["<h2>Localisation</h2>" + _table(head, rows)]
    if figures["landmarks_not_published"]:
        names = escape(", ".join(figures["landmarks_not_published"]))
        found.append(f'<p class="note">In the truth alone, and not scored: {names}.</p>')
    shares = [("DICE", "dice"), ("precision", "precision"), ("recall", "recall")]
    if accuracy["segmented_frames"]:
        rows = [(name, *(part[key] for _, key in shares)) for name, part in {"tool": accuracy, **accuracy["classes"]}.items()]
        found.append("<h2>Segmentation</h2>" + _table(("", *(title for title, _ in shares)), rows))
    else:
        found.append("<h2>Segmentation</h2><p>No label maps of tracker and truth stand at the same stamps.</p>")
    errors, boxes = _pooled(figures["details"])
    if errors:
        curve = list(zip(map(float, CURVE_PX), metrics.threshold_curve(errors, CURVE_PX), strict=True))
        found.append(
            "<h2>Threshold score</h2>"
            + charts.share_curve(_known(curve), "threshold, px", "share of landmarks below", "Threshold score curve")
        )
        kbb = _known(list(zip(CURVE_ALPHA, metrics.kbb_curve(errors, boxes, CURVE_ALPHA), strict=True)))
        if kbb:
            found.append("<h2>KBB score</h2>" + charts.share_curve(kbb, "alpha", "share of landmarks below", "KBB score curve"))
    details = figures["details"]
    stamps = details["stamp_ns"]
    if stamps:
        seconds = [(stamp - stamps[0]) * 1e-9 for stamp in stamps]
        dropped = [index for index, answered in enumerate(details["answered"]) if not answered]
        marks = [
            (frame.index, frame.error_px, f"frame {frame.index}: {frame.landmark} {_error_text(frame.error_px)}")
            for frame in measured.worst
        ]
        values = [math.nan if value is None else value for value in details["mean_error_px"]]
        found.append(
            "<h2>Error over time</h2><figure>"
            + charts.errors_over_time(seconds, values, dropped, marks)
            + "<figcaption>Line: mean over the landmarks of a frame. Rings: the largest error of one landmark in the worst"
            " frames; choose one to see it. Ticks below the axis: frames without poses.</figcaption></figure>"
        )
    found += _calibration(figures["calibration"])
    return found


def _calibration(calibration: Mapping[str, Any]) -> list[str]:
    if calibration["ece"] is None:
        return []
    within = f"share within {calibration['within_px']:g} px"
    return [
        "<h2>Calibration of the confidence</h2><figure>"
        + charts.reliability(calibration["bins"], within)
        + f"<figcaption>Expected calibration error {calibration['ece']:.3f} over {calibration['count']} guesses: the mean"
        " over the guesses of the distance between the share that is right in a bin and the bin's mean confidence."
        "</figcaption></figure>"
    ]


def _frame_rows(figures: Mapping[str, Any]) -> list[Row]:
    keys = {
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
    return [(text, figures[key]) for key, text in keys.items()]


def _timing(figures: Mapping[str, Any]) -> list[str]:
    keys = ("p50", "p90", "p95", "p99", "max")
    names = {
        "latency_ms": "publication of the image to reception of its poses, ms",
        "recorder_delay_ms": "recording of the image to recording of its poses, ms",
        "processing_ms": "the tracker's own time, ms",
    }
    rows = [(text, *(figures[name][key] for key in keys)) for name, text in names.items()]
    found = ["<h2>Latency</h2>" + _table(("", *keys), rows)]
    if figures["latency_not_applicable"]:
        found.append(f'<p class="note">Latency: not applicable, {escape(figures["latency_not_applicable"])}.</p>')
    values = [value for value in figures["details"]["latency_ms"] if value is not None]
    if values and figures["latency_not_applicable"] is None:
        found.append(f"<figure>{charts.histogram(values, 'latency, ms', 'Histogram of latency')}</figure>")
    return found


def _pooled(details: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    parts = details.get("landmarks", {}).values()
    errors = [math.nan if value is None else value for part in parts for value in part["error_px"]]
    return errors, [math.nan if value is None else value for part in parts for value in part["box_px"]]


def _known(curve: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in curve if y is not None]


def _table(head: Sequence[str], rows: Sequence[Row]) -> str:
    title = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "".join(
        f'<tr><th scope="row">{escape(str(row[0]))}</th>{"".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{title}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def _error_text(error_px: float) -> str:
    return f"{error_px:.1f} px" if math.isfinite(error_px) else "without a guess"


def _provenance(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    lines = [
        f"<code>{escape(report['command'])}</code>",
        escape(f"{report['date']}, {machine['cpu']}, {machine['cores']} cores, GPU {machine['gpu'] or 'none'}"),
        escape(f"input {report['input_sha256']}"),
        escape(", ".join(f"{name} {version}" for name, version in report["versions"].items())),
    ]
    return "<br>".join(lines)
