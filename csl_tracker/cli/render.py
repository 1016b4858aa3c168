"""``csl-tracker render``: path-trace instruments, tissue and scenes into a bank for training."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path

from csl_tracker.errors import ConfigError
from csl_tracker.installing import install_command
from csl_tracker.paths import user_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--out", type=user_path, default=Path("output/bank"), metavar="DIR", help="folder of the bank (%(default)s)"
    )
    parser.add_argument(
        "--model", type=user_path, metavar="DIR", help="copy of jhu-dvrk/dvrk_model (default: parametric instruments only)"
    )
    parser.add_argument("--sprites", type=int, default=4000, metavar="N", help="instruments (%(default)s)")
    parser.add_argument("--tissue", type=int, default=1500, metavar="N", help="tissue pictures (%(default)s)")
    parser.add_argument("--scenes", type=int, default=1000, metavar="N", help="whole scenes (%(default)s)")
    parser.add_argument("--size", type=int, default=640, metavar="PX", help="width of the pictures (%(default)s)")
    parser.add_argument("--samples", type=int, default=16, metavar="N", help="paths per pixel (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the bank (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes (default: one for each core)")


def run(args: argparse.Namespace) -> int:
    """Render the missing shards."""
    for name, low in (("sprites", 0), ("tissue", 0), ("scenes", 0), ("seed", 0), ("workers", 0), ("samples", 1), ("size", 64)):
        if getattr(args, name) < low:
            raise ConfigError(f"--{name} is {getattr(args, name)}; give {low} or more.")
    if args.size > 4096 or args.size % 5:
        raise ConfigError(f"--size is {args.size}; give a multiple of 5 up to 4095.")
    if importlib.util.find_spec("mitsuba") is None:
        raise ConfigError(f"Rendering needs Mitsuba; install it with {install_command('mitsuba')}.")

    from tqdm import tqdm

    from csl_tracker.datasets.rendered.build import Plan, build, missing
    from csl_tracker.datasets.rendered.dvrk_model import DvrkModel

    if args.model is not None:
        DvrkModel(args.model)  # refuses a broken copy before anything is written
    counts = {kind: getattr(args, kind) for kind in ("sprites", "tissue", "scenes")}
    plan = Plan(args.seed, str(args.model or ""), args.size, args.samples, counts)
    total, left = sum(counts.values()), sum(count for _, _, count in missing(plan, args.out))
    with tqdm(total=total, initial=total - left, unit="item", disable=None, smoothing=0.05) as bar:
        build(plan, args.out, args.workers or os.cpu_count() or 1, bar.update)
    print(f"{args.out}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}")
    return 0
