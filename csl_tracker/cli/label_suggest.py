"""``csl-tracker label-suggest``: choose the frames of a video that are most worth labelling, with predicted labels."""

from __future__ import annotations

import argparse

from tqdm import tqdm

from csl_tracker.cli.tracking import add_instrument_arguments, add_network_arguments, tracker_of
from csl_tracker.errors import ConfigError
from csl_tracker.paths import user_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Track a video, choose the frames that are most worth labelling, and write them with predicted labels for CVAT and"
        " Label Studio. After correction they can be used for training; see docs/datasets.md."
    )
    parser.epilog = "example:\n  csl-tracker label-suggest surgery.mp4 --out to_label --count 50\n"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("input", type=user_path, metavar="VIDEO", help="video, folder of images, or EndoVis sequence folder")
    parser.add_argument("--out", type=user_path, metavar="DIR", required=True, help="new folder for images, labels and reasons")
    parser.add_argument("--count", type=int, default=50, metavar="N", help="largest number of frames (%(default)s)")
    parser.add_argument("--spacing", type=float, default=1.0, metavar="S", help="shortest time between two, s (%(default)s)")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="evaluate only every K-th frame (%(default)s)")
    parser.add_argument("--mirror", action="store_true", help="compare with the mirror image of every frame; doubles the time")
    add_instrument_arguments(parser)
    add_network_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Track the whole video, then write the chosen frames.

    Raises:
        DatasetError: The video is missing or corrupt, or the output exists.
        WeightsError: The weights are unusable.
        ConfigError: A number is out of range.
    """
    from csl_tracker.cli.track import open_frames
    from csl_tracker.datasets.coco_writer import CocoWriter
    from csl_tracker.labelling.suggest import check_numbers, describe, find_frames, write_suggestions

    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ConfigError(f"The output {args.out} exists and is not empty; remove it, or choose another folder.")
    check_numbers(args.count, args.spacing, args.every)
    reader = open_frames(args.input)
    total = len(reader)
    tracker = tracker_of(args)
    tracker.warm_up(reader.size)
    with tqdm(total=total, desc="tracking", unit="frame", disable=None) as bar:
        choices = find_frames(reader, tracker, args.count, args.spacing, args.every, args.mirror, bar.update)
    name = args.input.resolve().name if args.input.is_dir() else args.input.stem
    frames = describe(name, reader, tracker, choices)
    description = f"suggested by {tracker.model.name}"
    with (
        CocoWriter(args.out, [frames], tracker.model.instruments.skeleton, editable=True, description=description) as writer,
        tqdm(total=len(choices), desc="writing", unit="frame", disable=None) as bar,
    ):
        write_suggestions(writer, frames, reader, tracker, choices, bar.update)
    print(f"{args.out}: {len(choices)} of {total} frames; suggestions.csv gives the reason for each")
    return 0
