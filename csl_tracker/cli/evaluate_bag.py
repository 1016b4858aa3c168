"""``csl-tracker evaluate-bag``: evaluate the poses in a bag of any tracker, and write a report."""

from __future__ import annotations

import argparse
import logging
from contextlib import ExitStack, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from csl_tracker.errors import BagError, ConfigError
from csl_tracker.messages import topics
from csl_tracker.paths import user_path
from csl_tracker.reporting import table

EXAMPLE = """examples:
  csl-tracker evaluate-bag poses.mcap
  csl-tracker evaluate-bag recording --ground-truth frames.mcap --poses /other_tracker/poses --out output/other

Writes figures.json and report.html, a page that works offline, into the folder of --out. A video of more than 16 MiB is written
next to the page as overlay.mp4; a smaller one is embedded."""

NAMES = ("figures.json", "report.html", "overlay.mp4")

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    parser.add_argument("recorded", type=user_path, metavar="RECORDED", help="bag of the poses")
    parser.add_argument(
        "--ground-truth",
        type=user_path,
        metavar="BAG",
        help="bag of the ground truth and, if it has them, of the images (default: RECORDED)",
    )
    parser.add_argument("--poses", metavar="TOPIC", help="topic of the poses (default: the tracker's, or the only one)")
    parser.add_argument("--topic", help="image topic (default: the only one)")
    parser.add_argument("--out", type=user_path, metavar="DIR", help="folder of the results (output/evaluate-bag/NAME)")
    parser.add_argument("--overwrite", action="store_true", help="replace the results in DIR")
    parser.add_argument("--no-video", action="store_true", help="no overlay video; the report still shows the worst frames")


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the JSON and the report, and print the main results."""
    import cv2

    from csl_tracker.arrays import Image
    from csl_tracker.evaluation.bag_metrics import evaluate_bag
    from csl_tracker.evaluation.recorded_bag import RecordedBag
    from csl_tracker.messages.images import message_to_rgb
    from csl_tracker.output import write_json
    from csl_tracker.provenance import machine, portable, portable_command, sha256_of, versions
    from csl_tracker.reporting.film_times import FilmTimes
    from csl_tracker.reporting.report import write_report
    from csl_tracker.video import Film, VideoWriter

    out: Path = args.out or Path("output") / "evaluate-bag" / args.recorded.resolve().name.split(".")[0]
    _check_folder(out, args.overwrite)
    bag = RecordedBag(args.recorded, args.ground_truth, message_to_rgb, args.poses, args.topic)
    problems = list(bag.problems)
    if args.ground_truth is not None and not bag.has_truth:
        raise BagError(
            f"The bag {args.ground_truth} has no ground truth ({topics.TRUTH_POSES} or {topics.TRUTH_SEGMENTATION}); create one"
            " with 'csl-tracker bag make'."
        )
    if not bag.has_truth:
        problems.append(
            f"The bag {args.recorded} has no ground truth, so accuracy is not measured; name a bag with ground truth by"
            " --ground-truth."
        )
    for problem in problems:
        logger.warning("%s", problem)

    def encode(image: Image) -> bytes:
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, 85))
        return bytes(data)

    video = out / "overlay.mp4" if bag.has_images and not args.no_video else None
    with ExitStack() as stack:
        stack.callback(_remove_empty, out)  # if stopped or failed before there was a result
        writer = None if video is None else stack.enter_context(VideoWriter(video, bag.fps, crf=23))
        film = None if writer is None else Film(writer)
        times = FilmTimes(round(1e9 / bag.fps))
        show = None if film is None else lambda image, stamp_ns: film.add(image, times.add(stamp_ns))
        measured = evaluate_bag(bag, show, encode)
    if film is not None and film.changed is not None:
        problems.append(film.changed)
        logger.warning("%s", film.changed)
    if writer is not None and not len(writer):
        video = None
    report: dict[str, Any] = {
        "kind": "evaluate-bag",
        "command": portable_command(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "input_sha256": sha256_of(bag.files),
        "problems": portable([_shorter(text, args) for text in problems]),
        **measured.values,
    }
    write_json(out / "figures.json", report)
    write_report(out / "report.html", report, measured, video, times.starts_ns, report["problems"])
    if video is None:
        (out / "overlay.mp4").unlink(missing_ok=True)  # from an earlier run
    _print(measured.values)
    print(f"wrote {out / 'report.html'} and figures.json")
    if bag.damage is not None:
        raise bag.damage
    return 0


def _check_folder(out: Path, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"The path {out} of --out is a file; name a folder.")
    found = [name for name in NAMES if (out / name).exists()]
    if found and not overwrite:
        raise ConfigError(f"The folder {out} has {' and '.join(found)}; give --overwrite to replace them, or another --out.")


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty, or never created
        folder.rmdir()


def _shorter(text: str, args: argparse.Namespace) -> str:
    """Remove the bags' folders, so that results can be published."""
    for path in (args.recorded, args.ground_truth):
        if path is not None and path.is_absolute():
            text = text.replace(str(path), path.name)
    return text


def _print(figures: dict[str, Any]) -> None:
    def number(value: float | None, unit: str = "", digits: int = 1) -> str:
        return "-" if value is None else f"{value:.{digits}f}{unit}"

    accuracy = figures["accuracy"] or {}
    error = accuracy.get("landmark_error_px") or {}
    latency, reason = figures["latency_ms"], figures["latency_not_applicable"]
    rows = [
        ("poses", f"{figures['poses_topic']}, {', '.join(figures['models']) or 'unnamed model'}"),
        ("frames / with poses / dropped", f"{figures['frames']} / {figures['answered_frames']} / {figures['dropped_frames']}"),
        ("pose arrays that match no image", _unmatched(figures)),
        ("visible landmarks", str(accuracy.get("visible", "-"))),
        ("landmark error, mean / median", f"{number(error.get('mean'), ' px')} / {number(error.get('median'), ' px')}"),
        ("within 20 px", number(accuracy.get("threshold_score_20px"), digits=3)),
        ("DICE", number(accuracy.get("dice"), digits=3)),
        ("jitter of positions, rms", number(figures["jitter"]["position_px"]["rms"], " px")),
        (
            "latency p50 / p95 / p99 / max",
            f"not applicable: {reason}"
            if reason
            else " / ".join(number(latency[key], " ms") for key in ("p50", "p95", "p99", "max")),
        ),
    ]
    if figures["duplicated_pose_arrays"]:
        rows.insert(3, ("further ones of the same image", f"{figures['duplicated_pose_arrays']}; only the first one counts"))
    print("\n".join(table.plain(rows)))


def _unmatched(figures: dict[str, Any]) -> str:
    """Number of pose stamps without an image, with the tolerance."""
    count, rounded = figures["unmatched_pose_stamps"], figures["rounded_pose_stamps"]
    notes = [f"stamps may differ by {figures['stamp_tolerance_ms']:g} ms"]
    if rounded:
        notes.append(f"{rounded} do")
    if count:
        notes.append(f"the nearest to an image is {figures['nearest_unmatched_ms']:.3f} ms away: copy the image's header")
    return f"{count} ({', '.join(notes)})"
