"""Executes a run: training, evaluation on the test sequences, and ``result.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path, PurePath
from typing import Any

from csl_tracker.datasets.registry import FileSequence
from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.evaluation.runs import FORMAT
from csl_tracker.output import write_json
from csl_tracker.provenance import machine, sha256_of, versions
from csl_tracker.training.config import TrainConfig
from csl_tracker.training.curve import read_curve
from csl_tracker.training.differences import differing_setting
from csl_tracker.training.plan import Plan, PlannedRun

RESULT = "result.json"
_OF_THE_MACHINE = ("name", "output", "workers", "threads", "precision", "accelerator", "devices", "cache")
"""Settings that do not affect the result."""
_PATHS = ("encoder_weights", "init_weights")
_TENSORBOARD = "tensorboard"


def make_run(plan: Plan, run: PlannedRun, sequences: Mapping[str, FileSequence], command: str, device: str = "auto") -> None:
    """Train, evaluate on the test sequences, and write ``result.json``.

    Raises:
        CslTrackerError: Training or evaluation failed.
    """
    from csl_tracker.training.run import train
    from csl_tracker.weights import read_description

    weights = train(run.config, command)
    provenance = read_description(weights).provenance
    measured = _measure(plan, run, weights, sequences, device)
    tested = [sequences[name] for part in run.fold.test for name in part.sequences]
    configuration = stated(run.config)
    write_json(
        run.folder / RESULT,
        {
            "format": FORMAT,
            "protocol": plan.protocol.name,
            "dataset": plan.protocol.dataset,
            "fold": run.fold.name,
            "model": run.model.name,
            "seed": run.seed,
            "network": configuration["network"],
            "preset": run.preset,
            "steps": run.config.steps,
            "batch_size": run.config.batch_size,
            "input_size": list(run.config.input_size),
            "initialisation": provenance.get("initialisation"),
            "seconds": provenance.get("seconds"),
            "command": command,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": machine(),
            "versions": versions(),
            "input_sha256": sha256_of(path for sequence in tested for path in sequence.files),
            "configuration": configuration,
            "test": _parts(run),
            **measured,
            "curve": read_curve(run.folder / _TENSORBOARD),
        },
    )


def _measure(plan: Plan, run: PlannedRun, weights: Path, sequences: Mapping[str, FileSequence], device: str) -> dict[str, Any]:
    from csl_tracker.evaluation.sequence import evaluate_sequence
    from csl_tracker.tracker import Tracker

    trackers: dict[int, Tracker] = {}
    figures: dict[str, Any] = {}
    for part in run.fold.test:
        for name in part.sequences:
            sequence = sequences[name]
            count = len(sequence.slots)
            if count not in trackers:
                trackers = {count: Tracker.from_weights(weights, device, max_instruments=count, always_report=True)}
            frames = part.frames(len(sequence))
            if not frames:
                raise DatasetError(
                    f"The test part of sequence {name} leaves none of its {len(sequence)} frames; widen the part."
                )
            tracker = trackers[count]
            report = evaluate_sequence(tracker, sequence, frames, reference_size=plan.reference_size, details=True)
            figures[name] = {**report, "max_instruments": count, "input_sha256": sha256_of(sequence.files)}
    return {
        "weights": {
            "name": tracker.model.name,
            "sha256": tracker.model.sha256,
            "confidence_threshold": tracker.confidence_threshold,
            "engine": tracker.engine_name,
            "device": tracker.device,
        },
        "sequences": figures,
    }


def stated(config: TrainConfig) -> dict[str, Any]:
    """The settings that affect the result, as plain data; paths are cut to their last part."""
    data: dict[str, Any] = _plain(asdict(config))
    for key in _PATHS:
        if PurePath(data[key]).is_absolute():
            data[key] = PurePath(data[key]).name
    return {key: value for key, value in data.items() if key not in _OF_THE_MACHINE}


def is_finished(plan: Plan, run: PlannedRun) -> bool:
    """Whether the run has a result.

    Raises:
        DatasetError: The result is damaged.
        ConfigError: It was made with another configuration.
    """
    path = run.folder / RESULT
    if not path.is_file():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        made_with, test = found["configuration"], found["test"]
        reference = next(iter(found["sequences"].values()))["reference_size"]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise DatasetError(
            f"The result {path} is damaged ({type(error).__name__}: {error}); delete it and run the experiment again."
        ) from error
    size = None if plan.reference_size is None else list(plan.reference_size)
    differing = differing_setting(
        {**made_with, "test": test, "reference_size": reference},
        {**stated(run.config), "test": _parts(run), "reference_size": size},
    )
    if differing is not None:
        key, before, now = differing
        raise ConfigError(
            f"The finished run {path} was made with {key}={json.dumps(before)} and not with {json.dumps(now)}; give another"
            " --out, or delete the run's folder to make it again."
        )
    return True


def find_results(out: Path, protocol: str) -> list[dict[str, Any]]:
    """The data of all finished runs in an experiment's folder, sorted by path; may be empty.

    Args:
        out: The folder.
        protocol: Name of the expected protocol.

    Raises:
        DatasetError: A result is damaged.
        ConfigError: A result belongs to another protocol.
    """
    results = []
    for path in sorted((out / "runs").glob(f"*/*/*/{RESULT}")):
        try:
            results.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DatasetError(
                f"The result {path} cannot be read ({error}); delete it and run the experiment again."
            ) from error
    other = next((data.get("protocol") for data in results if data.get("protocol") != protocol), protocol)
    if other != protocol:
        raise ConfigError(f"{out} holds runs of the protocol {other} and not of {protocol}; give another --out.")
    return results


def _parts(run: PlannedRun) -> list[dict[str, Any]]:
    return [_plain(asdict(part)) for part in run.fold.test]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
