"""``csl-tracker synthesize``: write synthetic sequences in the EndoVis 2015 layout."""

from __future__ import annotations

import argparse

from csl_tracker.errors import ConfigError
from csl_tracker.paths import user_path
from csl_tracker.pixels import parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "output", type=user_path, metavar="DIR", help="folder of the dataset; existing sequences in it are kept"
    )
    parser.add_argument("--sequences", type=int, default=4, metavar="N", help="number of sequences (%(default)s)")
    parser.add_argument("--frames", type=int, default=250, metavar="N", help="frames per sequence (%(default)s)")
    parser.add_argument("--size", default="576x720", metavar="HxW", help="height and width, even numbers (%(default)s)")
    parser.add_argument("--fps", type=float, default=25.0, help="frames per second (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first sequence; the others count up (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the missing sequences."""
    from tqdm import tqdm

    from csl_tracker.datasets.synthetic import SyntheticSequence
    from csl_tracker.datasets.synthetic.layout import write_endovis2015

    size = parse_size(args.size)
    if size is None or min(size) < 64 or any(side % 2 for side in size):
        raise ConfigError(f"The size {args.size!r} is no HxW of even numbers from 64 on; write for example 576x720.")
    for name in ("sequences", "frames", "fps"):
        if getattr(args, name) <= 0:
            raise ConfigError(f"--{name} is {getattr(args, name)}; give a positive number.")
    if args.seed < 0:
        raise ConfigError(f"--seed is {args.seed}; give 0 or more.")
    if args.output.exists() and not args.output.is_dir():
        raise ConfigError(f"{args.output} is a file; give a folder.")
    for number in range(1, args.sequences + 1):
        sequence = SyntheticSequence(args.seed + number - 1, args.frames, size, args.fps, name=f"Dataset{number}")
        folder = args.output / sequence.name
        if folder.exists():
            print(f"{folder}: kept")
            continue
        with tqdm(total=args.frames, desc=sequence.name, unit="frame") as bar:
            write_endovis2015(sequence, args.output, bar.update)
        print(f"{folder}: {args.frames} frames, instruments {', '.join(sequence.slots)}")
    return 0
