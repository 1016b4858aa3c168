"""Panels of an experiment: what its models say on frames that a rule has chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from csl_tracker.datasets.registry import open_dataset
from csl_tracker.evaluation.runs import parse_runs
from csl_tracker.reporting.panels import choose_frames, write_panels
from csl_tracker.training.plan import run_folder

WEIGHTS = "last.safetensors"
REFERENCE = "csl"
"""The model by whose errors frames are chosen, where it is there; else the first."""


def write_experiment_panels(
    results: Sequence[Mapping[str, Any]], out: Path, root: Path, dataset: str, device: str = "auto"
) -> list[Path]:
    """Draw the best, the median and the worst frame of every fold's first test sequence.

    Only models with weights at hand are drawn: results may have been brought without them.

    Args:
        results: Data of the runs' ``result.json``, of one experiment.
        out: Folder of the experiment.
        root: Folder of the dataset.
        dataset: Its name.
        device: Where the models run.

    Returns:
        Paths of the pictures.

    Raises:
        DatasetError, WeightsError: Data or weights are broken.
    """
    runs = parse_runs(results)
    written: list[Path] = []
    for fold in dict.fromkeys(run.fold for run in runs):
        seed = min(run.seed for run in runs if run.fold == fold)
        found = [run for run in runs if (run.fold, run.seed) == (fold, seed)]
        weights = {run.model: run_folder(out, fold, run.model, seed) / WEIGHTS for run in found}
        there = [run for run in found if weights[run.model].is_file()]
        if not there:
            continue
        reference = next((run for run in there if run.model == REFERENCE), there[0])
        name, part = next(iter(reference.sequences.items()))
        chosen = choose_frames(part)
        (sequence,) = open_dataset(dataset, root, [name])
        written += write_panels(
            [(run.model, weights[run.model]) for run in there],
            sequence,
            out / f"panels_{re.sub(r'[^A-Za-z0-9.-]+', '_', f'{fold}_{name}')}",
            list(chosen.values()),
            list(chosen),
            device,
        )
    return written
