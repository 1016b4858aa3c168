"""``csl-tracker bag``: write a dataset or video to a bag, or describe a bag."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from csl_tracker.bags.frame_writer import BagOptions, RecordedFrame, sequence_frames, video_frames, write_frames
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import STORAGES
from csl_tracker.calibration_file import check_size, read_calibration
from csl_tracker.errors import BagError, ConfigError, DatasetError
from csl_tracker.paths import user_path
from csl_tracker.reporting import table
from csl_tracker.video import IMAGE_SUFFIXES, VideoReader

MAKE_EXAMPLE = """examples:
  csl-tracker bag make recording.mp4 --out recording.mcap
  csl-tracker bag make EndoVis15 --dataset endovis2015 --sequence Dataset3 --out dataset3 --jpeg 95
  csl-tracker bag make recording.mp4 --out recording --storage sqlite3 --camera-info left.yaml

Images are written to /camera/image_raw (or /camera/image_raw/compressed), the calibration to /camera/camera_info, the ground
truth to /ground_truth/poses and /ground_truth/segmentation, all at the frames' own times."""

INFO_EXAMPLE = """examples:
  csl-tracker bag info recording
  csl-tracker bag info recording --check --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    raw = argparse.RawDescriptionHelpFormatter
    make = actions.add_parser("make", help="write a dataset or video to a bag", epilog=MAKE_EXAMPLE, formatter_class=raw)
    make.add_argument(
        "source", type=user_path, metavar="SOURCE", help="a video, a folder of images, or the folder of a dataset"
    )
    make.add_argument(
        "--out", type=user_path, required=True, metavar="BAG", help="an .mcap or .db3 file, or a folder with metadata.yaml"
    )
    make.add_argument("--overwrite", action="store_true", help="replace BAG if it exists")
    make.add_argument("--dataset", metavar="NAME", help="layout of SOURCE (default: detected)")
    make.add_argument("--sequence", metavar="NAME", help="sequence of the dataset (default: the only one)")
    make.add_argument("--storage", choices=sorted(STORAGES), help="storage format (default: by the suffix of BAG, else mcap)")
    make.add_argument("--jpeg", type=int, metavar="Q", help="write JPEG images of this quality, 1 to 100, instead of raw ones")
    make.add_argument("--camera-info", type=user_path, metavar="YAML", help="calibration, as camera_calibration writes it")
    make.add_argument("--frame-id", default="camera", metavar="ID", help="frame_id of all headers (%(default)s)")
    make.add_argument("--frames", type=int, metavar="N", help="largest number of frames (default: all)")
    make.set_defaults(work=_make)
    info = actions.add_parser("info", help="describe a bag", epilog=INFO_EXAMPLE, formatter_class=raw)
    info.add_argument("bag", type=user_path, metavar="BAG", help="an .mcap or .db3 file, or a bag folder")
    info.add_argument("--check", action="store_true", help="read every message to find backward stamps and other faults")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(work=_info)


def run(args: argparse.Namespace) -> int:
    """Make or describe a bag."""
    return int(args.work(args))


def _make(args: argparse.Namespace) -> int:
    if args.jpeg is not None and not 1 <= args.jpeg <= 100:
        raise ConfigError(f"--jpeg is {args.jpeg}; give a quality from 1 to 100.")
    if args.frames is not None and args.frames < 1:
        raise ConfigError(f"--frames is {args.frames}; give 1 or more.")
    if args.out.exists() and not args.overwrite:
        raise BagError(f"The bag {args.out} exists; give --overwrite to replace it, or another name with --out.")
    source, frames = _open_source(args)
    classes = () if isinstance(source, VideoReader) else source.classes
    if args.camera_info is None:
        camera, name = getattr(source, "camera", None), f"of {args.source}"
    else:
        camera, name = read_calibration(args.camera_info), str(args.camera_info)
    if camera is not None:
        check_size(camera, source.size, name)
    options = BagOptions(args.storage, args.jpeg, camera, args.frame_id, classes, args.overwrite)
    total = len(source) if args.frames is None else min(len(source), args.frames)
    count = write_frames(args.out, frames, total, options)
    print(f"wrote {count} frames to {args.out}")
    return 0


def _open_source(args: argparse.Namespace) -> tuple[VideoReader | Any, Iterator[RecordedFrame]]:
    """Open the video or sequence, and its frames.

    Raises:
        DatasetError: The source does not exist, has no known format, or contains several sequences.
    """
    source: Path = args.source
    if not source.exists():
        raise DatasetError(f"The source {source} does not exist; name a video, a folder of images, or a dataset.")
    layout = args.dataset or _layout(source)
    if layout is None:
        video = VideoReader(source)
        return video, video_frames(video, args.frames)
    sequence = _open_sequence(source, layout, args.sequence)
    print(f"{source} is read as {layout}, sequence {sequence.name}: {len(sequence)} frames")
    return sequence, sequence_frames(sequence, args.frames)


def _layout(source: Path) -> str | None:
    """The layout of a dataset; None for frames without labels."""
    from csl_tracker.datasets.detect import detect_layouts

    if source.is_file() and source.suffix.lower() not in (".json", ".csv"):
        return None
    try:
        return detect_layouts(source)[0].layout
    except DatasetError as error:
        if source.is_dir() and any(item.suffix.lower() in IMAGE_SUFFIXES for item in source.iterdir()):
            return None
        raise DatasetError(
            f"{source} is no video, no folder of images and no dataset of a known layout; name another source, or the dataset"
            " with --dataset to see what is missing."
        ) from error


def _open_sequence(source: Path, dataset: str, name: str | None) -> Any:
    """Open the only or the named sequence.

    Raises:
        DatasetError: There are several sequences or none, or the dataset has another layout.
    """
    from csl_tracker.datasets.registry import open_dataset

    sequences = open_dataset(dataset, source, None if name is None else [name])
    if len(sequences) != 1:
        listed = ", ".join(sequence.name for sequence in sequences)
        raise DatasetError(f"{source} contains {len(sequences)} sequences ({listed}); name one of them with --sequence.")
    return sequences[0]


def _info(args: argparse.Namespace) -> int:
    from csl_tracker.bags.info import describe_bag
    from csl_tracker.messages.images import message_to_rgb

    with BagReader(args.bag) as bag:
        found = describe_bag(bag, message_to_rgb, args.check)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)
    return 0


def _print(found: dict[str, Any]) -> None:
    size = sum(file["bytes"] for file in found["files"])
    print(f"{found['path']}: {found['duration_s']:.3f} s, {found['messages']} messages, {size / 1e6:.1f} MB")
    print(f"files: {', '.join(file['name'] for file in found['files'])}")
    print(f"compression: {', '.join(found['compression']) or 'none'}")
    for key, value in found["notes"].items():
        print(f"{key}: {value}")
    rows = []
    for topic in found["topics"]:
        rate = "" if topic["rate_hz"] is None else f"{topic['rate_hz']:.2f} Hz"
        defined = "" if topic["defined"] else "no definition"
        remarks = ", ".join(filter(None, (topic["use"], topic["reliability"], defined)))
        rows.append((topic["name"], topic["type"], topic["count"], rate, remarks))
    for line in table.plain(rows, right=(2, 3), indent="  "):
        print(line)
    for image in found["images"]:
        pixels = f"{image['width']}x{image['height']} px, {image['encoding']}" if image["width"] else "no usable image"
        calibrated = ", calibrated" if image["camera_info"] else ""
        print(f"trackable: {image['topic']} ({pixels}{calibrated})")
    if not found["checked"]:
        print("problems found in the index (--check reads every message):" if found["problems"] else "no problems in the index")
    else:
        print("problems:" if found["problems"] else "no problems")
    for problem in found["problems"]:
        print(f"  - {problem}")
