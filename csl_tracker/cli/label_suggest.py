"""``csl-tracker label-suggest``: the frames of a video that are most worth labelling, with predicted labels to correct."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from csl_tracker.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Track a video, choose the frames that are most worth labelling, and write them with the predicted labels for CVAT and"
        " Label Studio. After correction they train directly; docs/datasets.md says how."
    )
    parser.epilog = "example:\n  csl-tracker label-suggest surgery.mp4 --out to_label --count 50\n"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("input", type=Path, metavar="VIDEO", help="video, folder of images, or EndoVis sequence folder")
    parser.add_argument("--weights", type=Path, help="weights file (default: the one that comes with the package)")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="new folder for images, labels and reasons")
    parser.add_argument("--count", type=int, default=50, metavar="N", help="frames at most (%(default)s)")
    parser.add_argument("--spacing", type=float, default=1.0, metavar="S", help="least seconds between two (%(default)s)")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="look at every K-th frame only (%(default)s)")
    parser.add_argument("--mirror", action="store_true", help="compare with every frame's mirror image; takes twice as long")
    parser.add_argument(
        "--max-instruments", type=int, default=2, metavar="N", help="instruments in a frame (default: %(default)s)"
    )
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        metavar="C",
        help="0..1, from which a landmark is proposed (default: the weights')",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--engine", default="auto", help="auto, torch, openvino, ... (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Look at the whole video, then write the chosen frames.

    Raises:
        DatasetError: The video is missing or broken, or the output exists.
        WeightsError: The weights cannot be used.
        ConfigError: A number is out of range.
    """
    from csl_tracker.cli.track import open_frames
    from csl_tracker.datasets.coco_writer import CocoWriter
    from csl_tracker.labelling.suggest import check_numbers, describe, find_frames, write_suggestions
    from csl_tracker.tracker import Tracker
    from csl_tracker.weights import default_weights

    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ConfigError(f"The output {args.out} exists and is not empty; remove it, or choose another folder.")
    check_numbers(args.count, args.spacing, args.every)
    reader = open_frames(args.input)
    total = len(reader)
    tracker = Tracker.from_weights(
        args.weights or default_weights(),
        device=args.device,
        engine=args.engine,
        max_instruments=args.max_instruments,
        confidence_threshold=args.confidence_threshold,
    )
    tracker.warm_up(reader.size)
    with tqdm(total=total, desc="looking", unit="frame", disable=None) as bar:
        choices = find_frames(reader, tracker, args.count, args.spacing, args.every, args.mirror, bar.update)
    name = args.input.resolve().name if args.input.is_dir() else args.input.stem
    frames = describe(name, reader, tracker, choices)
    description = f"suggested by {tracker.model.name}"
    with (
        CocoWriter(args.out, [frames], tracker.model.instruments.skeleton, editable=True, description=description) as writer,
        tqdm(total=len(choices), desc="writing", unit="frame", disable=None) as bar,
    ):
        write_suggestions(writer, frames, reader, tracker, choices, bar.update)
    print(f"{args.out}: {len(choices)} of {total} frames; suggestions.csv says why each was chosen")
    return 0
