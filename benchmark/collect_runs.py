"""Runs of experiments as one file that can be published.

python benchmark/collect_runs.py OUT [OUT ...] --json docs/results/synthetic_strategies.json [--evaluated FILE ...]

Each OUT is the folder of a ``csl-tracker experiment``; FILE is what ``csl-tracker evaluate --json`` wrote about weights of such
a run. The file holds the error of every landmark in every frame, but no coordinates: ``benchmark/remake_tables.py`` makes the
tables again. With ``--figures-only`` it holds the figures of each sequence.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from csl_tracker.errors import ConfigError
from csl_tracker.output import write_json

_KEPT = (
    *("format", "protocol", "fold", "model", "seed", "preset", "steps", "batch_size", "input_size"),
    *("initialisation", "network", "seconds", "command", "date", "machine", "versions", "input_sha256", "weights"),
)


_SAID_ELSEWHERE = ("network", "train", "validation", "steps", "batch_size", "input_size", "seed")
"""Parts of the configuration that the run says, or its protocol."""
_DETAILS = ("segmented_frame", "dice", "precision", "recall")
_OF_LANDMARK = ("frame", "slot", "error_px", "box_px", "missed")


def collect(folders: list[Path], evaluated: list[Path], figures_only: bool = False) -> dict[str, Any]:
    """The finished runs of experiments, and evaluations of their weights.

    Args:
        folders: Folders of experiments.
        evaluated: Files of ``csl-tracker evaluate --json``; of these only the figures are kept.
        figures_only: Drop the values of single frames, and the loss curves.

    Raises:
        ConfigError: A folder holds no finished run.
    """
    runs = []
    for folder in folders:
        found = sorted(folder.glob("runs/*/*/seed*/result.json"))
        if not found:
            raise ConfigError(f"The folder {folder} holds no finished run (runs/FOLD/MODEL/seedK/result.json).")
        for path in found:
            result = json.loads(path.read_text(encoding="utf-8"))
            kept = {key: result[key] for key in _KEPT}
            losses = [value for value in result["curve"]["loss"] if value is not None]
            kept["training_loss"] = losses[-1] if losses else None
            kept["training"] = {key: value for key, value in result["configuration"].items() if key not in _SAID_ELSEWHERE}
            kept["validation"] = {key: values[-1] for key, values in result["curve"]["validation"].items() if values}
            kept["sequences"] = _without_details(result["sequences"])
            if figures_only:
                kept["figures_only"] = True
            else:
                kept["curve"] = result["curve"]
                for name, part in result["sequences"].items():
                    kept["sequences"][name]["details"] = _published(part["details"])
            runs.append(kept)
    others = []
    for path in evaluated:
        report = json.loads(path.read_text(encoding="utf-8"))
        others.append({**report, "sequences": _without_details(report["sequences"])})
    return {"runs": runs, "evaluated": others}


def _without_details(sequences: dict[str, Any]) -> dict[str, Any]:
    return {name: {key: value for key, value in figures.items() if key != "details"} for name, figures in sequences.items()}


def _published(details: dict[str, Any]) -> dict[str, Any]:
    """The values of single frames that may be published: errors and shares, never coordinates."""
    landmarks = {name: {key: part[key] for key in _OF_LANDMARK} for name, part in details["landmarks"].items()}
    return {**{key: details[key] for key in _DETAILS}, "landmarks": landmarks}


def main() -> None:
    """Collect, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="OUT")
    parser.add_argument("--evaluated", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--figures-only", action="store_true", help="drop the values of single frames and the loss curves")
    args = parser.parse_args()
    write_json(args.json, collect(args.folders, args.evaluated, args.figures_only))
    print(f"wrote {args.json}")


if __name__ == "__main__":
    main()
