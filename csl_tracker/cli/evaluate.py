"""``csl-tracker evaluate``: evaluate weights on the labelled sequences of a dataset."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from csl_tracker.cli.sizes import size_argument
from csl_tracker.cli.tracking import add_network_arguments, tracker_of, weights_of
from csl_tracker.datasets.mapping import Matching, parse_matching
from csl_tracker.datasets.registry import DATASETS, FileSequence, open_dataset, select_landmarks
from csl_tracker.errors import ConfigError, DatasetError, WeightsError
from csl_tracker.evaluation.sequence import evaluate_sequence
from csl_tracker.instruments import InstrumentSet
from csl_tracker.output import write_json
from csl_tracker.paths import user_path
from csl_tracker.provenance import machine, portable_command, sha256_of, versions
from csl_tracker.reporting import table

if TYPE_CHECKING:
    from csl_tracker.tracker import Tracker

HELP = "evaluate weights on the labelled sequences of a dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(sorted(DATASETS))}")
    parser.add_argument("--root", type=user_path, required=True, help="folder of the dataset")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="names of the sequences (default: all)")
    parser.add_argument("--json", type=user_path, metavar="OUT", help="write the results to this file")
    parser.add_argument(
        "--max-instruments",
        type=_instruments,
        default="auto",
        metavar="N",
        help="instruments per frame; auto: as many as the sequence has, as in the paper (default: %(default)s)",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="score only the landmarks and classes that both weights and dataset have; otherwise different names are an error",
    )
    for key in ("landmarks", "classes"):
        ignored = "; THEIRS=ignore omits one" if key == "classes" else ""
        parser.add_argument(
            f"--{key}",
            nargs="+",
            default=[],
            metavar="THEIRS=OURS",
            help=f"{key} of the dataset with other names in the weights, as in a training source{ignored}",
        )
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="average the network's outputs with those of the mirrored image, which doubles the time",
    )
    parser.add_argument(
        "--reference-size",
        type=size_argument,
        metavar="HxW",
        help="report distances in px of an image of this size, such as 480x640 for the paper's (default: the source image's)",
    )
    add_network_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate every sequence, print a table, and write the JSON."""
    if args.json is not None and args.json.is_dir():
        raise ConfigError(
            f"The path {args.json} of --json is a folder; name a file in it, such as {args.json / 'figures.json'}."
        )
    sequences = open_dataset(args.dataset, args.root, args.sequences)
    report: dict[str, Any] = {
        "command": portable_command(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "dataset": args.dataset,
        **({"partial": True} if args.partial else {}),
        **({"renamed": [*args.landmarks, *args.classes]} if args.landmarks or args.classes else {}),
        "sequences": {},
    }
    tracker: Tracker | None = None
    matching = Matching()
    for sequence in sequences:
        count = len(sequence.slots) if args.max_instruments == "auto" else args.max_instruments
        if tracker is None or tracker.max_instruments != count:
            first = tracker is None
            tracker = tracker_of(args, max_instruments=count, mirror=args.mirror, always_report=True)
            if first:
                matching = _matching(args, sequences, tracker.model.instruments)
        report["sequences"][sequence.name] = {
            **evaluate_sequence(
                tracker,
                sequence,
                reference_size=args.reference_size,
                details=args.json is not None,  # csl-tracker compare pairs the frames
                matching=matching,
            ),
            "max_instruments": count,
            "input_sha256": sha256_of(sequence.files),
        }
    assert tracker is not None  # open_dataset never returns an empty list
    report["weights"] = {
        "name": tracker.model.name,
        "file": weights_of(args).name,
        "sha256": tracker.model.sha256,
        "confidence_threshold": tracker.confidence_threshold,
        "engine": tracker.engine_name,
        "device": tracker.device,
        "precision": args.precision,
        "mirror": args.mirror,
    }
    report["input_sha256"] = sha256_of(path for sequence in sequences for path in sequence.files)
    unscored = [name for name, figures in report["sequences"].items() if not _measured(figures)]
    if len(unscored) == len(sequences):
        known = tracker.model.instruments
        raise DatasetError(
            f"No frame of {', '.join(unscored)} in {args.root} has a label that the weights know: the landmarks"
            f" {', '.join(known.landmarks) or '(none)'} and the classes {', '.join(known.classes)}; nothing can be measured."
        )
    shown, remarks = {}, []
    for name, figures in report["sequences"].items():
        labelled = {key: part for key, part in figures["landmarks"].items() if part["visible"] or part["absent"]}
        missing = [key for key in figures["landmarks"] if key not in labelled]
        if name in unscored:
            remarks.append(f"{name}: no frame has a label that the weights know; not measured.")
            continue
        if missing:
            remarks.append(f"{name}: {', '.join(missing)} not labelled; not measured.")
        shown[name] = {**figures, "landmarks": labelled}
    print("\n".join([format_table(shown), *remarks]))
    if args.json is not None:
        write_json(args.json, report)
        print(f"wrote {args.json}")
    return 0


def _matching(args: argparse.Namespace, sequences: Sequence[FileSequence], instruments: InstrumentSet) -> Matching:
    """How to match different names.

    Raises:
        WeightsError: Names differ and no option matches them.
        ConfigError: A renaming is invalid, or dataset and weights have nothing in common.
    """
    matching = parse_matching(args.landmarks, args.classes, args.partial, sequences, instruments, "of the command")
    common = False
    for sequence in sequences:
        try:
            selected = select_landmarks(sequence, instruments, matching)
        except WeightsError as error:
            if args.landmarks or args.classes or args.partial:
                raise
            raise WeightsError(
                f"{str(error).removesuffix('.')}, rename with --landmarks and --classes, or use --partial for the common ones."
            ) from error
        common |= bool(selected.labelled or selected.segmented or selected.tells_tools)
    if not common:
        marks = dict.fromkeys(name for sequence in sequences for name in sequence.landmarks)
        areas = dict.fromkeys(name for sequence in sequences for name in sequence.classes)
        raise ConfigError(
            f"The weights have the landmarks {', '.join(instruments.landmarks) or '(none)'} and the classes"
            f" {', '.join(instruments.classes)}; the dataset has the landmarks {', '.join(marks) or '(none)'} and"
            f" the classes {', '.join(areas)}. They have nothing in common; rename"
            " with --landmarks THEIRS=OURS or --classes THEIRS=OURS."
        )
    return matching


def _measured(figures: dict[str, Any]) -> bool:
    """Whether a sequence has any result."""
    points = any(part["visible"] or part["absent"] for part in figures["landmarks"].values())
    return points or any(figures[key] is not None for key in ("dice", "precision", "recall"))


def format_table(sequences: dict[str, dict[str, Any]]) -> str:
    """The main results as text, one row per sequence and per landmark."""
    shares = ("DICE", "precision", "recall")
    header = ("sequence", "frames", *shares, "visible", "err mean", "median", "< 20 px", "missed", "false pos.")
    rows: list[tuple[str, ...]] = [header]
    for name, figures in sequences.items():
        rows.append(
            (
                name,
                str(figures["frames"]),
                *(_text(figures[k]) for k in ("dice", "precision", "recall")),
                *_localisation(figures),
            )
        )
        for landmark, part in figures["landmarks"].items():
            rows.append((f"  {landmark}", "", "", "", "", *_localisation(part)))
        for pair, part in figures["second_annotation"].items():
            error, apart = part["landmark_error_px"], part["annotators_distance_px"]
            found = ((f"  {pair}", str(part["visible"]), error), ("  between annotators", "", apart))
            for text, visible, px in found:
                rows.append((text, *[""] * 4, visible, _text(px["mean"], 1), _text(px["median"], 1), *[""] * 3))
    lines = table.plain(rows, right=range(1, len(header)))
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _instruments(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'auto' nor a number from 1 on")
    return int(text)


def _localisation(figures: dict[str, Any]) -> Sequence[str]:
    error = figures["landmark_error_px"]
    errors = (_text(error[key], 1) for key in ("mean", "median"))
    shares = (_text(figures[key]) for key in ("threshold_score_20px", "miss_rate", "false_positive_rate"))
    return (str(figures["visible"]), *errors, *shares)


def _text(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
