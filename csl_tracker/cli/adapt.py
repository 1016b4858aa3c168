"""``csl-tracker adapt``: adapt weights to unlabelled video."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import PurePath

from csl_tracker.cli.tracking import add_network_arguments, weights_of
from csl_tracker.paths import user_path
from csl_tracker.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.description = (
        "Train weights further on their own predictions for unlabelled video: those that mirror image, neighbouring frames and"
        " sides confirm, mixed with rendered or synthetic frames. New weights are written only if held-out frames with exact"
        " labels and frames without instruments show no harm. The same command continues where it was stopped."
    )
    parser.epilog = "example:\n  csl-tracker adapt surgery1.mp4 surgery2.mp4 --out adapted --bank BANK\n"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("videos", nargs="+", type=user_path, metavar="VIDEO", help="video, or folder of images")
    parser.add_argument(
        "--out", type=user_path, required=True, metavar="DIR", help="folder for the new weights, the report and the training"
    )
    parser.add_argument(
        "--bank", type=user_path, metavar="BANK", help="bank of csl-tracker render to mix in (default: synthetic frames)"
    )
    parser.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="DATASET:ROOT",
        help="labelled dataset to measure before and after, such as endovis2015:DIR; may be repeated",
    )
    parser.add_argument("--name", default="", help="name of the new weights (default: the old name with _adapted)")
    parser.add_argument("--frames", type=int, default=600, metavar="N", help="frames sampled from the videos (%(default)s)")
    parser.add_argument("--steps", type=int, default=400, metavar="N", help="training steps (%(default)s)")
    parser.add_argument("--held-out", type=int, default=96, metavar="N", help="held-out frames of the gate (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="frames per training step (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that load frames (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")
    parser.add_argument("--max-instruments", type=int, default=2, metavar="N", help="instruments per frame (%(default)s)")
    add_network_arguments(parser)


def command_line(arguments: Sequence[str]) -> str:
    """The command line without folders, those of ``--labels`` included."""
    from csl_tracker.provenance import portable_command

    def short(found: re.Match[str]) -> str:
        return f"{found[1]}{PurePath(found[2]).name}"

    return portable_command([re.sub(r"^((?:--labels=)?\w+:)(/.*)$", short, word) for word in arguments])


def run(args: argparse.Namespace) -> int:
    """Adapt, and write the report.

    Raises:
        RefusedError: The new weights could do harm and were not written.
    """
    from csl_tracker.reporting.adaptation import summary, write_report
    from csl_tracker.training.adaptation.plan import AdaptSettings, open_inputs
    from csl_tracker.training.adaptation.run import RefusedError, adapt

    keys = ("frames", "steps", "held_out", "max_instruments", "batch_size", "workers", "seed", "device", "engine", "precision")
    settings = AdaptSettings(
        videos=tuple(args.videos),
        weights=weights_of(args),
        out=args.out,
        name=args.name,
        bank=args.bank,
        labels=tuple(args.labels),
        **{key: getattr(args, key) for key in keys},
    )
    outcome = adapt(settings, open_inputs(settings), command_line(sys.argv[1:]))
    page = args.out / "report.html"
    write_report(page, outcome)
    print(summary(outcome))
    print(f"Report: {printable(page)}")
    if outcome.refusal:
        raise RefusedError(outcome.refusal)
    print(f"Weights: {printable(outcome.weights)}")
    return 0
