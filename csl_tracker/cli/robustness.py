"""``csl-tracker robustness``: measure weights on corrupted frames of labelled sequences."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from csl_tracker.cli.tracking import add_network_arguments, tracker_of, weights_of
from csl_tracker.paths import user_path

if TYPE_CHECKING:
    from csl_tracker.tracker import Tracker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--dataset", required=True, help="layout of the dataset, such as endovis2015 or synthetic")
    parser.add_argument("--root", type=user_path, required=True, help="folder of the dataset")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="names of the sequences (default: all)")
    parser.add_argument(
        "--out",
        type=user_path,
        default=Path("output/robustness"),
        metavar="DIR",
        help="folder of the results; an existing one is continued (default: %(default)s)",
    )
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="corruptions (default: all; see docs/evaluation.md)")
    parser.add_argument("--severities", nargs="+", type=int, metavar="N", help="severities from 1 to 5 (default: all)")
    parser.add_argument(
        "--frames",
        type=int,
        default=40,
        metavar="N",
        help="evenly spaced frames of each sequence; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--partial", action="store_true", help="score only landmarks and classes that weights and dataset share"
    )
    parser.add_argument(
        "--max-instruments", type=int, default=0, metavar="N", help="instruments per frame; 0: as many as the sequence has"
    )
    add_network_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure the missing cells, and write tables and the heat map."""
    from csl_tracker.datasets.corruptions import CORRUPTIONS, SEVERITIES
    from csl_tracker.evaluation.robustness import Bench

    bench = Bench(tuple(args.kinds or CORRUPTIONS), tuple(args.severities or SEVERITIES), args.frames)

    from tqdm import tqdm

    from csl_tracker.datasets.mapping import parse_matching
    from csl_tracker.datasets.registry import open_dataset
    from csl_tracker.evaluation.robustness import CellFile, run_bench
    from csl_tracker.provenance import machine, portable_command, sha256_of, versions
    from csl_tracker.reporting.robustness import summary, write_report

    sequences = open_dataset(args.dataset, args.root, args.sequences)
    trackers: dict[int, Tracker] = {}

    def tracker_for(count: int) -> Tracker:
        number = args.max_instruments or count
        if number not in trackers:
            trackers[number] = tracker_of(args, max_instruments=number, always_report=True)
        return trackers[number]

    first = tracker_for(len(sequences[0].slots))
    matching = parse_matching([], [], args.partial, sequences, first.model.instruments, "of the command")
    common: dict[str, Any] = {
        "command": portable_command(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "dataset": args.dataset,
        "weights": weights_of(args).name,
        "weights_sha256": first.model.sha256,
        "input_sha256": sha256_of(path for sequence in sequences for path in sequence.files),
        "engine": first.engine_name,
        "precision": args.precision,
        "frames": args.frames,
        "max_instruments": args.max_instruments,
    }
    file = CellFile(args.out / "robustness.json", common)
    missing = sum(len(file.missing(sequence.name, bench.cells())) for sequence in sequences)
    with tqdm(total=missing, unit="cell", disable=None) as bar:

        def progress(sequence: str, cell: str) -> None:
            bar.set_description(f"{sequence} {cell}", refresh=False)
            bar.update()

        run_bench(tracker_for, sequences, bench, file, matching, progress)
    write_report(file.data, args.out)
    print(summary(file.data["sequences"]).markdown())
    print(f"wrote {args.out / 'README.md'}, robustness.json and the heat map dice_drop.png")
    return 0
