"""``csl-tracker demo``: bag, node, replay and evaluation, on an embedded synthetic sequence or the user's own input.

The frames are written to an mcap bag. The tracker node runs in its own process; a replay node sends it the frames and records
the answers. Both bags are then evaluated and drawn as an overlay video.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from csl_tracker import provenance
from csl_tracker.bags.frame_writer import BagOptions, RecordedFrame, sequence_frames, video_frames, write_frames
from csl_tracker.bags.reader import BagReader
from csl_tracker.cli.tracking import add_network_arguments, weights_of
from csl_tracker.datasets.mapping import map_names
from csl_tracker.datasets.registry import open_dataset
from csl_tracker.errors import ConfigError, CslTrackerError, DatasetError
from csl_tracker.evaluation.bag_labels import BagLabels, labels_at_beginning
from csl_tracker.evaluation.bag_metrics import evaluate_bag
from csl_tracker.evaluation.recorded_bag import RecordedBag
from csl_tracker.instruments import ENDOVIS, InstrumentSet
from csl_tracker.messages import topics
from csl_tracker.messages.images import message_to_rgb
from csl_tracker.node.processes import NodeProcess, free_domain_id, private_environment, sigterm_as_interrupt
from csl_tracker.paths import user_path
from csl_tracker.reporting import table
from csl_tracker.video import IMAGE_SUFFIXES, Film, VideoReader, VideoWriter
from csl_tracker.weights import ModelDescription, read_description

logger = logging.getLogger(__name__)

HELP = "run bag, node and evaluation on an embedded synthetic sequence or on your own input"

DEFAULT_FRAMES = 250
DEFAULT_SEED = 2015
SIZE = (576, 720)
ANSWER_TIMEOUT_S = 5.0
"""Time before an unanswered frame is sent again, s."""
BAG_SUFFIXES = (".mcap", ".db3", ".bag")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--input", type=user_path, help="a video, a bag with an image topic, or the folder of an EndoVis 2015 sequence"
    )
    parser.add_argument("--output", type=user_path, default=Path("output/demo"), help="folder of the results (%(default)s)")
    parser.add_argument("--frames", type=int, help=f"number of frames (default: all; synthetic sequence: {DEFAULT_FRAMES})")
    parser.add_argument("--rate", type=float, help="replay at this multiple of the input's own rate instead of in lock-step")
    add_network_arguments(parser)
    parser.add_argument(
        "--max-instruments", type=int, help="largest number of visible instruments (default: as annotated, else 2)"
    )
    parser.add_argument("--topic", help="image topic in the bag (default: the only one)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="seed of the synthetic sequence (%(default)s)")
    parser.add_argument("--keep-bag", action="store_true", help="also keep the bag of the frames, as frames.mcap")


@dataclass(frozen=True)
class Input:
    """Input of the node.

    Attributes:
        name: Name in the results.
        bag: Bag of the frames.
        sha256: Hash of the input files, or of the rendered pixels.
        topic: Image topic in the bag; None for the only one.
        own: Whether the demo wrote the bag.
    """

    name: str
    bag: Path
    sha256: str
    topic: str | None
    own: bool


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    if args.frames is not None and args.frames < 1:
        raise ConfigError(f"--frames is {args.frames}; give 1 or more.")
    if args.rate is not None and args.rate <= 0:
        raise ConfigError(f"--rate is {args.rate}; give a number above 0, or omit it for lock-step.")
    weights = weights_of(args)
    description = read_description(weights)  # report a wrong file before the work starts
    with _work_folder(args.output) as work, sigterm_as_interrupt():
        source = _open_input(args, work, description)
        labels = labels_at_beginning(source.bag, source.topic, message_to_rgb)
        if labels.landmarks and not set(labels.landmarks) & set(description.instruments.landmarks):
            map_names(labels, description.instruments)  # raises an error with the landmarks of both
        recording = work / "poses.mcap"
        began = time.monotonic()
        _track(args, weights, source, labels, recording, work)
        tracking_s = time.monotonic() - began
        figures = _evaluate(args, source, recording, description.instruments, work / "overlay.mp4")
        metrics = _metrics(args, source, weights, figures, tracking_s)
        (work / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
        names = ["overlay.mp4", "poses.mcap", "metrics.json"]
        if args.keep_bag and source.own:
            names.append("frames.mcap")
        for name in names:
            os.replace(work / name, args.output / name)
    _print_table(metrics, args.output)
    return 0


@contextmanager
def _work_folder(output: Path) -> Iterator[Path]:
    """A temporary folder next to the results; removed at the end, with the output folder if that is empty."""
    new = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".demo.", dir=output))
    except OSError as error:
        raise ConfigError(f"The results cannot be written to {output} ({error.strerror}); choose another --output.") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if new and not any(output.iterdir()):
            output.rmdir()


def _open_input(args: argparse.Namespace, work: Path, description: ModelDescription) -> Input:
    """Detect the kind of input, and write its frames to a bag unless it is one.

    Raises:
        DatasetError: The input does not exist or has an unknown format.
        BagError: The bag cannot be read.
    """
    path: Path | None = args.input
    frames_bag = work / "frames.mcap"
    if path is None:
        return _synthetic_input(args, frames_bag)
    if not path.exists():
        raise DatasetError(f"The input {path} does not exist; name a video, a bag, or the folder of an EndoVis 2015 sequence.")
    if path.suffix in BAG_SUFFIXES or (path / "metadata.yaml").is_file():
        with BagReader(path) as bag:
            topic = bag.image_topic(args.topic)
        files = [path] if path.is_file() else sorted(item for item in path.iterdir() if item.is_file())
        return Input(path.name, path, provenance.sha256_of(files), topic, own=False)
    if path.is_dir() and not any(item.suffix.lower() in IMAGE_SUFFIXES for item in path.iterdir()):
        sequences = open_dataset("endovis2015", path)
        if len(sequences) != 1:
            raise DatasetError(
                f"The folder {path} has {len(sequences)} sequences ({', '.join(item.name for item in sequences)}); name the"
                " folder of one of them."
            )
        sequence = sequences[0]
        count, options = _count(len(sequence), args.frames), BagOptions(classes=sequence.classes)
        write_frames(frames_bag, sequence_frames(sequence, args.frames), count, options)
        return Input(sequence.name, frames_bag, provenance.sha256_of(sequence.files), topics.IMAGE, own=True)
    video = VideoReader(path)
    write_frames(frames_bag, video_frames(video, args.frames), _count(len(video), args.frames))
    return Input(path.name, frames_bag, provenance.sha256_of(video.files), topics.IMAGE, own=True)


def _synthetic_input(args: argparse.Namespace, frames_bag: Path) -> Input:
    from csl_tracker.datasets.synthetic import SyntheticSequence

    frames = args.frames or DEFAULT_FRAMES
    sequence = SyntheticSequence(args.seed, frames, size=SIZE, fps=25.0, name=f"synthetic_{args.seed}")
    digest = hashlib.sha256()

    def hashed(stream: Iterator[RecordedFrame]) -> Iterator[RecordedFrame]:
        for frame in stream:
            digest.update(frame.image.tobytes())
            yield frame

    write_frames(frames_bag, hashed(sequence_frames(sequence)), frames, BagOptions(classes=ENDOVIS.classes))
    return Input(sequence.name, frames_bag, digest.hexdigest(), topics.IMAGE, own=True)


def _count(total: int, limit: int | None) -> int:
    return total if limit is None else min(total, limit)


def _track(args: argparse.Namespace, weights: Path, source: Input, labels: BagLabels, recording: Path, work: Path) -> None:
    """Run the tracker node and the replay node to the end of the bag.

    Raises:
        CslTrackerError: One of them failed; includes its message.
    """
    with BagReader(source.bag) as bag:
        compressed = bag.types[bag.image_topic(source.topic)] == topics.COMPRESSED_TYPE
    environment = private_environment(free_domain_id())
    tracker = NodeProcess(
        "tracker_node",
        {
            "weights": str(weights.resolve()),
            "device": args.device,
            "engine": args.engine,
            "precision": args.precision,
            "max_instruments": args.max_instruments or len(labels.slots) or 2,
            "always_report": bool(labels.landmarks),
            "image_transport": "compressed" if compressed else "raw",
            "warm_up_height": labels.size[0],
            "warm_up_width": labels.size[1],
        },
        {"image": topics.IMAGE},
        environment,
        work / "tracker_node.log",
    )
    with tracker:
        replay = NodeProcess(
            "replay_node",
            {
                "bag": str(source.bag.resolve()),
                "output": str(recording.resolve()),
                "image_topic": source.topic or "",
                "rate": float(args.rate or 0.0),
                "frames": args.frames or 0,
                "timeout_s": ANSWER_TIMEOUT_S,
                "wait_s": 180.0,  # loading the network takes long on a busy machine
                "record_segmentation": True,
            },
            environment=environment,
        )
        with replay:
            while (status := replay.poll()) is None:
                if tracker.poll() is not None:
                    raise CslTrackerError(f"The tracker node has stopped: {tracker.complaint()}")
                time.sleep(0.05)
        if status != 0:
            raise CslTrackerError(f"The replay ended with status {status}; see its message above.")


def _evaluate(
    args: argparse.Namespace, source: Input, recording: Path, instruments: InstrumentSet, overlay: Path
) -> dict[str, Any]:
    """Evaluate the recording as ``csl-tracker evaluate-bag`` does, and write the overlay video.

    Raises:
        CslTrackerError: There is no answer at all.
    """
    with BagReader(recording) as answers, BagReader(source.bag) as frames:
        if topics.POSES not in answers.types or not answers.count(topics.POSES):
            count = _count(frames.count(frames.image_topic(source.topic)), args.frames)
            pace = "" if args.rate is None else f" at --rate {args.rate:g}; lower or omit it"
            raise CslTrackerError(f"The tracker answered none of the {count} frames{pace}.")
    bag = RecordedBag(recording, source.bag, message_to_rgb, topics.POSES, source.topic)
    with VideoWriter(overlay, bag.fps) as writer:
        film = Film(writer)
        figures = evaluate_bag(bag, film.add, model=instruments).values
    if film.changed is not None:
        logger.warning("%s", film.changed)
    return figures


def _metrics(
    args: argparse.Namespace, source: Input, weights: Path, figures: dict[str, Any], tracking_s: float
) -> dict[str, Any]:
    accuracy = figures["accuracy"] or {}
    nothing = {"mean": None, "median": None}
    return {
        "input": source.name,
        "input_sha256": source.sha256,
        "frames": figures["frames"],
        "poses": figures["answered_frames"],
        "instruments": figures["instruments"],
        "landmark_error_px": accuracy.get("landmark_error_px") or nothing,
        "segmented_frames": accuracy.get("segmented_frames"),
        "dice": accuracy.get("dice"),
        "precision": accuracy.get("precision"),
        "recall": accuracy.get("recall"),
        "threshold_score_20px": accuracy.get("threshold_score_20px"),
        "miss_rate": accuracy.get("miss_rate"),
        "false_positive_rate": accuracy.get("false_positive_rate"),
        "landmarks": accuracy.get("landmarks"),
        "second_annotation": accuracy.get("second_annotation"),
        "latency_ms": figures["latency_ms"],
        "processing_ms": figures["processing_ms"],
        "replay": {
            "mode": "lock-step" if args.rate is None else f"rate {args.rate:g}",
            "resent": figures["resent_images"],
            "seconds": tracking_s,
        },
        "model": {"name": ", ".join(figures["models"]), "sha256": provenance.sha256_of([weights])},
        "command": provenance.portable_command(),
        "machine": provenance.machine(),
        "versions": {**provenance.versions(), **_ros_versions()},
    }


def _ros_versions() -> dict[str, str]:
    """Versions of the RMW and rclpy, from wheels or from a sourced ROS 2."""
    found = {"rmw": os.environ.get("RMW_IMPLEMENTATION") or "default"}
    for package in ("ros-jazzy-rclpy", "rclpy"):
        try:
            found["rclpy"] = metadata.version(package)
            break
        except metadata.PackageNotFoundError:
            continue
    return found


def _print_table(metrics: dict[str, Any], output: Path) -> None:
    def number(value: float | None, unit: str = "", digits: int = 1) -> str:
        return "-" if value is None else f"{value:.{digits}f}{unit}"

    error, latency = metrics["landmark_error_px"], metrics["latency_ms"]
    rows = [
        ("input", metrics["input"]),
        ("model", metrics["model"]["name"]),
        ("frames sent / answered", f"{metrics['frames']} / {metrics['poses']}"),
        ("landmark error, mean / median", f"{number(error['mean'], ' px')} / {number(error['median'], ' px')}"),
        ("DICE", number(metrics["dice"], digits=3)),
        ("latency p50 / p95 / p99", " / ".join(number(latency[key], " ms") for key in ("p50", "p95", "p99"))),
        ("of which the tracker, p50", number(metrics["processing_ms"]["p50"], " ms")),
        ("results", f"{output}/overlay.mp4, poses.mcap, metrics.json"),
    ]
    print("\n".join(table.plain(rows)))
