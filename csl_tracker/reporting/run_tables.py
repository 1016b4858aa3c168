"""Tables of the trainings and the provenance of an experiment's runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from csl_tracker.errors import CslTrackerError
from csl_tracker.evaluation.runs import Run, models_of
from csl_tracker.natural_order import natural_order
from csl_tracker.reporting.table import Cell, Column, Spread, Table

CONDITIONS = ("initialisation", "steps", "batch_size", "input_size", "preset")
"""Training conditions that must be equal to compare two strategies."""
VALIDATION_LOSS = "loss"
"""Key of the validation loss."""
_PROVENANCE = ("model", "fold", "seed", "date", "machine", "torch", "weights", "input")


def training(runs: Sequence[Run]) -> Table:
    """Training settings of the models, and the convergence of the loss."""
    columns = (
        Column("model", "model"),
        Column("preset", "preset"),
        Column("steps", "steps"),
        Column("batch_size", "batch"),
        Column("input_size", "input, px"),
        Column("minutes", "minutes", 1, True),
        Column("validation_loss", "validation loss", 4, True),
        Column("change", "change in the last quarter", 3, True),
    )
    rows: list[tuple[Cell, ...]] = []
    for model in models_of(runs):
        of_model = [run for run in runs if run.model == model]
        seconds = (run.data.get("seconds") for run in of_model)
        losses = [_validation_loss(run) for run in of_model]
        settings = ("preset", "steps", "batch_size", "input_size")
        rows.append(
            (
                model,
                *(_joined(_size_text(run.data.get(key)) for run in of_model) for key in settings),
                Spread.of(None if value is None else value / 60.0 for value in seconds),
                Spread.of(values[-1] if len(values) else None for values in losses),
                Spread.of(_last_quarter(values) for values in losses),
            )
        )
    caption = (
        "Mean over all runs and their standard deviation. `change in the last quarter`: the mean validation loss of the last"
        " quarter of the training against that of the quarter before; -0.01 is one per cent lower. Losses of different"
        " strategies do not compare."
    )
    return Table("training", "Training", caption, columns, tuple(rows))


def provenance(runs: Sequence[Run]) -> Table:
    """Provenance of each run."""
    columns = tuple(Column(key, key.replace("_", " ")) for key in _PROVENANCE)
    rows = []
    for run in runs:
        machine, weights = run.data.get("machine") or {}, run.data.get("weights") or {}
        rows.append(
            (
                run.model,
                run.fold,
                run.seed,
                run.data.get("date"),
                machine.get("gpu") or machine.get("cpu"),
                (run.data.get("versions") or {}).get("torch"),
                str(weights.get("sha256") or "")[:8] or None,
                str(run.data.get("input_sha256") or "")[:8] or None,
            )
        )
    caption = "One row a run; hashes are the first eight digits of the SHA-256 of the weights and of the test frames."
    return Table("runs", "Runs", caption, columns, tuple(rows))


def conditions(runs: Sequence[Run], model: str) -> dict[str, str]:
    """The ``CONDITIONS`` of a model; differing values of its runs are joined."""
    of_model = [run for run in runs if run.model == model]
    return {key: _joined(_size_text(run.data.get(key)) for run in of_model) for key in CONDITIONS}


def parameters(run: Run) -> int | None:
    """Number of trainable parameters, from the network's description; None for a forest."""
    from csl_tracker.network_names import REGRESSING
    from csl_tracker.networks import NetworkConfig, build_network

    network = run.data.get("network") or {}
    part = next(iter(run.sequences.values()), None)
    if part is None or network.get("strategy") in (None, "forest"):
        return None
    size = run.data.get("input_size") if network["strategy"] in REGRESSING else None
    outputs = {"num_landmarks": len(part.landmarks), "num_classes": len(part.report["classes"]) + 1, "input_size": size}
    try:
        config = NetworkConfig.from_dict({**outputs, **network})
        return sum(parameter.numel() for parameter in build_network(config).parameters())
    except (CslTrackerError, KeyError, TypeError, ValueError):
        return None  # written by another version of this package


def _validation_loss(run: Run) -> Sequence[float]:
    curve = run.data.get("curve") or {}
    values = (curve.get("validation") or {}).get(VALIDATION_LOSS) or []
    if not curve and run.data.get("validation"):  # a run without its curve has the last value
        values = [run.data["validation"].get(VALIDATION_LOSS)]
    return [float(value) for value in values if value is not None]


def _last_quarter(losses: Sequence[float]) -> float | None:
    quarter = len(losses) // 4
    if not quarter:
        return None
    before = float(np.mean(losses[-2 * quarter : -quarter]))
    return float(np.mean(losses[-quarter:])) / before - 1.0 if before > 0 else None


def _joined(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values), key=natural_order))


def _size_text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
