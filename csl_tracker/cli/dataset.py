"""``csl-tracker dataset``: inspect a labelled dataset, or convert it to COCO keypoints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.paths import user_path
from csl_tracker.reporting import table
from csl_tracker.text import printable

if TYPE_CHECKING:
    from csl_tracker.datasets.detect import Detection
    from csl_tracker.datasets.registry import FileSequence
    from csl_tracker.datasets.survey import SequenceSurvey

_EXAMPLES = """examples:
  csl-tracker dataset inspect ~/data/EndoVis2015 --out sheet.png
  csl-tracker dataset convert ~/data/EndoVis2015 --out ~/data/endovis_coco
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    inspect = actions.add_parser(
        "inspect",
        help="detect the layout, count labels, list problems, draw a contact sheet",
        description="Read a dataset once and report its layout, its labels by landmark and class, and its problems.",
        epilog="example:\n  csl-tracker dataset inspect ~/data/EndoVis2015 --out sheet.png --json counts.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert = actions.add_parser(
        "convert",
        help="convert any layout to COCO keypoints, without loss",
        description="Write a dataset as COCO keypoints: frames as image files, masks as run lengths. Training with it uses"
        " exactly the same pixels, points and times. An interrupted conversion leaves no files behind.",
        epilog="example:\n  csl-tracker dataset convert ~/data/EndoVis2015 --out ~/data/endovis_coco\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for action in (inspect, convert):
        action.add_argument(
            "path", type=user_path, metavar="PATH", help="folder of the dataset, or its COCO or DeepLabCut file"
        )
        action.add_argument("--layout", metavar="NAME", help="layout (default: detected)")
        action.add_argument("--sequences", nargs="+", metavar="NAME", help="only these (default: all)")
    inspect.add_argument("--out", type=user_path, metavar="SHEET.png", help="write a contact sheet of labelled frames")
    inspect.add_argument("--frames", type=int, default=16, metavar="N", help="number of frames on the sheet (%(default)s)")
    inspect.add_argument("--json", type=user_path, metavar="FILE", help="also write the counts")
    inspect.add_argument("--force", action="store_true", help="replace the sheet and the JSON if they exist")
    convert.add_argument("--out", type=user_path, metavar="DIR", required=True, help="new folder of the converted dataset")
    convert.add_argument("--format", choices=("coco",), default="coco", help="output format (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Inspect or convert.

    Raises:
        DatasetError: There is no dataset, it is corrupt, or the output exists.
        ConfigError: An option is invalid.
    """
    from csl_tracker.datasets.detect import Detection, detect_layouts

    layouts = [Detection(args.layout, "--layout")] if args.layout else detect_layouts(args.path)
    return _inspect(args, layouts) if args.action == "inspect" else _convert(args, layouts)


def _open_available(layout: str, path: Path, names: Sequence[str] | None) -> tuple[list[FileSequence], list[str]]:
    """Open sequences; returns those that open, and one sentence for each other.

    Raises:
        DatasetError: None opens.
    """
    from csl_tracker.datasets.detect import sequence_names
    from csl_tracker.datasets.registry import open_dataset

    try:
        return open_dataset(layout, path, names), []
    except DatasetError:
        opened, problems = [], []
        for name in names or sequence_names(layout, path):
            try:
                opened += open_dataset(layout, path, [name])
            except DatasetError as error:
                problems.append(f"{name}: {error}")
        if not opened:
            raise
        return opened, problems


def _inspect(args: argparse.Namespace, layouts: Sequence[Detection]) -> int:
    import cv2

    from csl_tracker.datasets.survey import ContactSheet, survey_sequence
    from csl_tracker.output import write_bytes, write_json

    if args.frames < 1:
        raise ConfigError(f"--frames is {args.frames}; give 1 or more.")
    for output in (args.out, args.json):
        if output is not None and output.exists() and not args.force:
            raise ConfigError(f"The output {output} exists; choose another name, or replace it with --force.")
    if args.out is not None and args.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"The sheet {args.out} needs a name that ends in .png or .jpg.")
    sequences, unopened = _open_available(layouts[0].layout, args.path, args.sequences)
    sheet = ContactSheet(sequences, args.frames)
    total = sum(len(sequence) for sequence in sequences)
    with tqdm(total=total, desc="reading", unit="frame", leave=False, disable=None) as bar:
        surveys = [survey_sequence(sequence, bar.update, sheet.look) for sequence in sequences]
    print(_report(args.path, layouts, sequences, surveys, unopened))
    image = sheet.image()
    if args.out is not None and image is not None:
        _, data = cv2.imencode(args.out.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        write_bytes(args.out, data.tobytes())
        print(f"wrote {args.out}")
    if args.json is not None:
        data_out: dict[str, Any] = {
            "layout": layouts[0].layout,
            "also_fits": [other.layout for other in layouts[1:]],
            "sequences": [survey.to_dict() for survey in surveys],
            "not_opened": unopened,
        }
        write_json(args.json, data_out)
        print(f"wrote {args.json}")
    return 0


def _report(
    path: Path,
    layouts: Sequence[Detection],
    sequences: Sequence[FileSequence],
    surveys: Sequence[SequenceSurvey],
    unopened: Sequence[str],
) -> str:
    """The tables for the terminal."""
    lines = [f"{path}: {layouts[0].layout} (detected by {layouts[0].evidence})"]
    if len(layouts) > 1:
        lines.append(f"also matches {', '.join(other.layout for other in layouts[1:])}; choose with --layout")
    frames = sum(survey.frames for survey in surveys)
    lines += [f"{len(surveys)} sequence(s), {frames} frames", ""]
    rows = [["sequence", "frames", "size", "fps", "instruments", "with landmarks", "with masks"]]
    for survey in surveys:
        rows.append(
            [
                survey.name,
                str(survey.frames),
                f"{survey.width}x{survey.height}",
                f"{survey.fps:g}",
                ", ".join(survey.slots),
                str(survey.frames_with_landmarks),
                str(survey.frames_with_masks),
            ]
        )
    lines += table.plain(rows)
    names = list(dict.fromkeys(name for sequence in sequences for name in sequence.landmarks))
    if names:
        rows = [["landmark", "labelled", "in view"]]
        for name in names:
            counts = [survey.landmarks[name] for survey in surveys if name in survey.landmarks]
            rows.append([name, str(sum(count.labelled for count in counts)), str(sum(count.visible for count in counts))])
        lines += ["", *table.plain(rows)]
    classes = list(dict.fromkeys(name for survey in surveys for name, count in survey.classes.items() if count.frames))
    if classes:
        everything = sum(count.pixels for survey in surveys for count in survey.classes.values())
        rows = [["class", "frames", "share of px"]]
        for name in classes:
            found = [survey.classes[name] for survey in surveys if name in survey.classes]
            share = sum(count.pixels for count in found) / everything
            rows.append([name, str(sum(count.frames for count in found)), f"{share:.4f}"])
        lines += ["", *table.plain(rows)]
    problems = [f"  {problem}" for problem in unopened]
    problems += [f"  {survey.name}: {problem}" for survey in surveys for problem in survey.problems]
    problems = [printable(problem, lines=False) for problem in problems]
    lines += ["", "problems:" if problems else "no problems", *problems]
    return "\n".join(lines)


def _convert(args: argparse.Namespace, layouts: Sequence[Detection]) -> int:
    from csl_tracker.datasets.convert import convert_to_coco
    from csl_tracker.datasets.registry import open_dataset

    sequences = open_dataset(layouts[0].layout, args.path, args.sequences)
    total = sum(len(sequence) for sequence in sequences)
    with tqdm(total=total, desc="converting", unit="frame", disable=None) as bar:
        frames = convert_to_coco(sequences, args.out, f"converted from {layouts[0].layout}", bar.update)
    print(f"{args.out}: {len(sequences)} sequence(s), {frames} frames from {layouts[0].layout}")
    return 0
