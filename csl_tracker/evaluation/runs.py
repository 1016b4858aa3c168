"""Finished runs of an experiment, as arrays: what tables, curves and comparisons are made from.

A run is one model trained with one seed on the training part of one fold, and measured on the fold's test sequences. It lies on
disk as a ``result.json``, whose plain data is checked here once, so that nothing behind has to.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray, IntArray
from csl_tracker.errors import DatasetError

FORMAT = "csl_tracker/run/1"
MODELS = ("l", "sl", "csl_no_skip", "csl", "unet", "forest")
"""Order of the models in tables and legends: the paper's, and those that it is compared with."""
OVERLAPS = ("dice", "precision", "recall")


@dataclass(frozen=True)
class LandmarkErrors:
    """The visible truths of a landmark in a sequence, one entry each.

    Attributes:
        frame: int64 (n,), number of the frame.
        slot: int64 (n,), index of the instrument.
        error: float64 (n,), px; NaN where there was no guess at all.
        box: float64 (n,), px, longer side of the box of the instrument's true landmarks; NaN where there is none.
        missed: bool (n,), not reported at the working threshold.
    """

    frame: IntArray
    slot: IntArray
    error: FloatArray
    box: FloatArray
    missed: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SequenceResult:
    """What a run measured on a test sequence.

    Attributes:
        name: Name of the sequence.
        report: The figures of the sequence, as ``csl-tracker evaluate`` writes them.
        segmented: int64 (n,), numbers of the segmented frames.
        overlaps: ``dice``, ``precision``, ``recall`` -> float64 (n,); n is 0 where nothing was segmented.
        landmarks: By name, in the model's order.
    """

    name: str
    report: Mapping[str, Any]
    segmented: IntArray
    overlaps: Mapping[str, FloatArray]
    landmarks: Mapping[str, LandmarkErrors]

    def pooled(self) -> LandmarkErrors:
        """All landmarks, one after another."""
        return pool(self.landmarks.values())


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        protocol: Name of the protocol.
        fold: Name of the fold.
        model: Name of the model, such as ``csl``, or of a variant, such as ``csl@encoder_weights=``.
        seed: Its seed.
        sequences: The test sequences by name.
        data: The plain data it was read from.
    """

    protocol: str
    fold: str
    model: str
    seed: int
    sequences: Mapping[str, SequenceResult]
    data: Mapping[str, Any]


def parse_runs(results: Iterable[Mapping[str, Any]]) -> list[Run]:
    """Check and convert the data of ``result.json`` files.

    Returns:
        In the order of model (``MODELS``, each followed by its variants, then others as first met), fold and seed.

    Raises:
        DatasetError: Something is not the result of a run, two are of the same run, or they are of different protocols, or
            state distances in px of different images.
    """
    runs: dict[tuple[str, str, int], Run] = {}
    for data in results:
        run = parse_run(data)
        key = (run.model, run.fold, run.seed)
        if key in runs:
            raise DatasetError(
                f"There are two results of model {run.model}, fold {run.fold}, seed {run.seed}; keep one of them in the"
                " experiment's folder."
            )
        runs[key] = run
    for what, values in (
        ("protocol", {run.protocol for run in runs.values()}),
        ("reference size", {_reference(part) for run in runs.values() for part in run.sequences.values()}),
    ):
        if len(values) > 1:
            listed = " and ".join(sorted(map(str, values)))
            raise DatasetError(
                f"The results differ in their {what} ({listed}) and cannot stand in one table; summarise them apart."
            )
    met = list(dict.fromkeys(model for model, _, _ in runs))

    def order(run: Run) -> tuple[int, bool, int, str, int]:
        base, at, _ = run.model.partition("@")
        return MODELS.index(base) if base in MODELS else len(MODELS), bool(at), met.index(run.model), run.fold, run.seed

    return sorted(runs.values(), key=order)


def parse_run(data: Mapping[str, Any]) -> Run:
    """Check and convert the data of one ``result.json``.

    Raises:
        DatasetError: It is not the result of a run.
    """
    found = data.get("format") if isinstance(data, Mapping) else None
    if found != FORMAT:
        raise DatasetError(f"A result has the format {found!r} instead of {FORMAT!r}; make it again with this version.")
    try:
        return Run(
            protocol=str(data["protocol"]),
            fold=str(data["fold"]),
            model=str(data["model"]),
            seed=int(data["seed"]),
            sequences={name: _sequence(name, report) for name, report in data["sequences"].items()},
            data=data,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = f"model {data.get('model')}, fold {data.get('fold')}, seed {data.get('seed')}"
        raise DatasetError(
            f"The result of {where} is damaged ({type(error).__name__}: {error}); delete it and run the experiment again."
        ) from error


def pool(parts: Iterable[LandmarkErrors]) -> LandmarkErrors:
    """Join entries of landmarks or of sequences, one after another."""
    items = list(parts)
    return LandmarkErrors(
        frame=np.concatenate([np.empty(0, np.int64), *(item.frame for item in items)]),
        slot=np.concatenate([np.empty(0, np.int64), *(item.slot for item in items)]),
        error=np.concatenate([np.empty(0), *(item.error for item in items)]),
        box=np.concatenate([np.empty(0), *(item.box for item in items)]),
        missed=np.concatenate([np.empty(0, bool), *(item.missed for item in items)]),
    )


def models_of(runs: Sequence[Run]) -> list[str]:
    """Names of the models, in the order of the runs."""
    return list(dict.fromkeys(run.model for run in runs))


def landmarks_of(runs: Sequence[Run]) -> list[str]:
    """Names of the landmarks with a visible truth in any run, in the order of the runs."""
    parts = [part for run in runs for part in run.sequences.values()]
    return list(dict.fromkeys(name for part in parts for name, errors in part.landmarks.items() if len(errors.error)))


def full_seeds(runs: Sequence[Run], model: str) -> tuple[list[int], list[int]]:
    """Which seeds of a model are whole.

    Args:
        runs: All runs of the experiment.
        model: The model.

    Returns:
        Seeds that have every fold that any run of the experiment has, and those that lack some. A figure over folds is
        comparable between models only when it has all of them.
    """
    folds = {run.fold for run in runs}
    seeds = sorted({run.seed for run in runs if run.model == model})
    whole = [s for s in seeds if {run.fold for run in runs if run.model == model and run.seed == s} == folds]
    return whole, [seed for seed in seeds if seed not in whole]


def counted(runs: Sequence[Run], model: str) -> dict[int, list[Run]]:
    """The runs of a model by seed: those of whole seeds, or all there are where no seed is whole."""
    whole, part = full_seeds(runs, model)
    return {seed: [run for run in runs if (run.model, run.seed) == (model, seed)] for seed in whole or part}


def _sequence(name: str, report: Mapping[str, Any]) -> SequenceResult:
    details = report["details"]
    shares = {key: _floats(details[key] or []) for key in OVERLAPS}
    count = len(shares["dice"])
    segmented = details.get("segmented_frame")
    frames = np.arange(count) if segmented is None else np.asarray(segmented, np.int64)
    if any(len(values) != len(frames) for values in shares.values()):
        raise ValueError(f"the shares of {name} differ in number")
    return SequenceResult(
        name, report, frames, shares, {key: _landmark(key, part) for key, part in details["landmarks"].items()}
    )


def _landmark(name: str, part: Mapping[str, Any]) -> LandmarkErrors:
    errors = LandmarkErrors(
        frame=np.asarray(part["frame"], np.int64),
        slot=np.asarray(part["slot"], np.int64),
        error=_floats(part["error_px"]),
        box=_floats(part["box_px"]),
        missed=np.asarray(part["missed"], bool),
    )
    if len({len(values) for values in vars(errors).values()}) > 1:
        raise ValueError(f"the lists of {name} differ in length")
    return errors


def _floats(values: Iterable[float | None]) -> FloatArray:
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _reference(part: SequenceResult) -> str:
    size = part.report.get("reference_size")
    return "source px" if size is None else f"{size[0]}x{size[1]}"
