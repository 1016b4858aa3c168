"""``csl-tracker replay``: track the images of a bag without ROS, and write a bag of poses."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from csl_tracker.cli.track import stop_on_interrupt
from csl_tracker.cli.tracking import add_instrument_arguments, add_network_arguments, tracker_of
from csl_tracker.errors import ConfigError
from csl_tracker.paths import user_path

EXAMPLE = """examples:
  csl-tracker replay recording --topic /endoscope/left/image_raw --out poses.mcap
  csl-tracker replay recording --start 10 --end 25 --segmentation --out part.mcap

The bag of results contains /tracker_node/poses with the images' own stamps, and the ground truth of the bag.
Ctrl-C ends the replay after the current frame and keeps the results."""

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLE
    parser.add_argument("bag", type=user_path, metavar="BAG", help="an .mcap or .db3 file, or a bag folder")
    parser.add_argument(
        "--out", type=user_path, metavar="RESULTS_BAG", help="an .mcap or .db3 file, or a folder (output/replay/NAME.mcap)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace RESULTS_BAG if it exists")
    parser.add_argument("--topic", help="image topic (default: the only one)")
    parser.add_argument("--start", type=float, metavar="S", help="start after the bag's first message, s")
    parser.add_argument("--end", type=float, metavar="S", help="end after the bag's first message, s")
    parser.add_argument("--frames", type=int, metavar="N", help="largest number of frames (default: all)")
    parser.add_argument("--segmentation", action="store_true", help="also write label maps, /tracker_node/segmentation")
    add_instrument_arguments(parser)
    parser.add_argument(
        "--always-report", action="store_true", help="report best guesses, however uncertain: for evaluation, not for control"
    )
    add_network_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Replay; keep and report partial results of a corrupt bag or after Ctrl-C."""
    from csl_tracker.bags.reader import BagReader
    from csl_tracker.bags.replay import ReplayOptions, replay_bag, results_path
    from csl_tracker.messages.images import message_to_rgb

    check_range(args.start, args.end)
    if args.frames is not None and args.frames < 1:
        raise ConfigError(f"--frames is {args.frames}; give 1 or more.")
    output = args.out or results_path(args.bag)
    if output.exists() and not args.overwrite:
        raise ConfigError(f"The bag {output} exists; give --overwrite to replace it, or another name with --out.")
    with BagReader(args.bag) as bag:
        if output.exists() and any(output.resolve() in (file, *file.parents) for file in map(Path.resolve, bag.files)):
            raise ConfigError(f"The bag {output} is also the input; give another name with --out.")
        bag.image_topic(args.topic)  # report problems of the bag before loading a network
        for problem in bag.problems:
            logger.warning("%s", problem)
        tracker = tracker_of(args, always_report=args.always_report)
        options = ReplayOptions(args.topic, args.start, args.end, args.frames, args.segmentation, args.overwrite)
        with stop_on_interrupt() as stopped:
            summary = replay_bag(bag, output, tracker, message_to_rgb, options, stopped.is_set)
    for text, count in summary.unusable.items():
        logger.warning("%d of the images could not be used: %s", count, text)
    if summary.backwards:
        logger.warning(
            "The stamps of the images in %s jumped back %d times, first at image %d, which reset the identities; record"
            " with one clock, or replay the parts with --start and --end.",
            args.bag,
            len(summary.backwards),
            summary.backwards[0],
        )
    print(
        f"tracked {summary.tracked} of {summary.frames} images at {summary.frames / max(summary.seconds, 1e-9):.1f} a second,"
        f" {summary.instruments} instruments; wrote {output}"
    )
    if summary.damage is not None:
        raise summary.damage
    if summary.stopped:
        raise KeyboardInterrupt
    return 0


def check_range(start_s: float | None, end_s: float | None) -> None:
    """Check the part of a bag to replay.

    Raises:
        ConfigError: It starts before the bag, or ends before it starts.
    """
    if start_s is not None and not start_s >= 0:
        raise ConfigError(f"--start is {start_s:g}; give seconds from the beginning of the bag, 0 or more.")
    if end_s is not None and not end_s > (start_s or 0.0):
        raise ConfigError(f"--end is {end_s:g}; give seconds from the beginning of the bag, more than --start.")
