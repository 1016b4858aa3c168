"""Qualitative panels of an experiment on frames selected by rule."""

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
"""The model whose errors select the frames; the first model if it is missing."""


def write_experiment_panels(
    results: Sequence[Mapping[str, Any]], out: Path, root: Path, dataset: str, device: str = "auto"
) -> list[Path]:
    """Draw the best, median and worst frame of each fold's first test sequence.

    Models without weights files are omitted.

    Args:
        results: Data of the ``result.json`` files of one experiment.
        out: Folder of the experiment.
        root: Folder of the dataset.
        dataset: Name of the dataset.
        device: Device of the models.

    Returns:
        Paths of the images.

    Raises:
        DatasetError, WeightsError: Data or weights are broken.
    """
    runs = parse_runs(results)
    written: list[Path] = []
    for fold in dict.fromkeys(run.fold for run in runs):
        seed = min(run.seed for run in runs if run.fold == fold)
        found = [run for run in runs if (run.fold, run.seed) == (fold, seed)]
        weights = {run.model: run_folder(out, fold, run.data["model"], seed) / WEIGHTS for run in found}
        available = [run for run in found if weights[run.model].is_file()]
        if not available:
            continue
        reference = next((run for run in available if run.model == REFERENCE), available[0])
        name, part = next(iter(reference.sequences.items()))
        chosen = choose_frames(part)
        (sequence,) = open_dataset(dataset, root, [name])
        written += write_panels(
            [(run.model, weights[run.model]) for run in available],
            sequence,
            out / f"panels_{re.sub(r'[^A-Za-z0-9.-]+', '_', f'{fold}_{name}')}",
            list(chosen.values()),
            list(chosen),
            device,
        )
    return written
