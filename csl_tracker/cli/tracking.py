"""Common options of sub-commands that run a network, and the tracker that they define."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from csl_tracker.tracker import Tracker


WEIGHTS_HELP = "weights file, or the name of built-in weights (default: csl_lite0)"


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options for weights, device, engine and precision."""
    group = parser.add_argument_group("network")
    group.add_argument("--weights", metavar="FILE|NAME", help=WEIGHTS_HELP)
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    group.add_argument("--engine", default="auto", help="auto, torch, onnx, openvino or tensorrt (default: %(default)s)")
    group.add_argument(
        "--precision",
        default="auto",
        help="auto, float32, tf32 and float16 (CUDA), or bfloat16, which moves landmarks (default: %(default)s)",
    )


def add_instrument_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare options for instruments and visible landmarks."""
    parser.add_argument(
        "--max-instruments", type=int, default=2, metavar="N", help="instruments per frame (default: %(default)s)"
    )
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        metavar="C",
        help="smallest confidence of a visible landmark, 0..1 (default: the weights')",
    )


def weights_of(args: argparse.Namespace) -> Path:
    """Path of the selected or default weights."""
    from csl_tracker.weights import find_weights

    return find_weights(args.weights)


def tracker_of(
    args: argparse.Namespace, *, max_instruments: int | None = None, mirror: bool = False, always_report: bool = False
) -> Tracker:
    """Create the tracker for the options of :func:`add_network_arguments`.

    Args:
        args: The command line.
        max_instruments: Replaces ``--max-instruments``.
        mirror: Average over the mirrored image.
        always_report: Report best guesses, however uncertain.

    Raises:
        WeightsError: The weights are missing or corrupt.
        EngineError: Device, engine or precision is unknown, not installed, or incompatible with the others.
        ConfigError: A number is out of range.
    """
    from csl_tracker.tracker import Tracker

    return Tracker.from_weights(
        weights_of(args),
        device=args.device,
        engine=args.engine,
        precision=args.precision,
        mirror=mirror,
        always_report=always_report,
        max_instruments=args.max_instruments if max_instruments is None else max_instruments,
        confidence_threshold=getattr(args, "confidence_threshold", None),
    )
