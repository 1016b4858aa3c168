"""Finished runs of an experiment as arrays, for tables, curves and comparisons.

A run is one model trained with one seed on the training part of one fold, and evaluated on the fold's test sequences. It is
stored as a ``result.json``, which is validated here.
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
from csl_tracker.network_names import STRATEGIES, upgraded

FORMAT = "csl_tracker/run/1"
OVERLAPS = ("dice", "precision", "recall")


@dataclass(frozen=True)
class LandmarkErrors:
    """Errors of a landmark in a sequence, one entry per visible ground-truth point.

    Attributes:
        frame: int64 (n,), frame number.
        slot: int64 (n,), index of the instrument.
        error: float64 (n,), px; NaN without a prediction.
        box: float64 (n,), px, longer side of the box of the instrument's true landmarks; NaN without a box.
        missed: bool (n,), not reported at the working threshold.
    """

    frame: IntArray
    slot: IntArray
    error: FloatArray
    box: FloatArray
    missed: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SequenceResult:
    """Results of a run on a test sequence.

    Attributes:
        name: Name of the sequence.
        report: The results as written by ``csl-tracker evaluate``.
        segmented: int64 (n,), numbers of the segmented frames.
        overlaps: ``dice``, ``precision``, ``recall`` -> float64 (n,); n is 0 without segmentation.
        landmarks: By name, in the model's order.
        raw: Whether the values of single frames are known. If not, the arrays are empty, and the report alone counts.
    """

    name: str
    report: Mapping[str, Any]
    segmented: IntArray
    overlaps: Mapping[str, FloatArray]
    landmarks: Mapping[str, LandmarkErrors]
    raw: bool = True

    def pooled(self) -> LandmarkErrors:
        """Concatenation of all landmarks."""
        return pool(self.landmarks.values())

    def visible(self, landmark: str | None = None) -> int:
        """Number of visible ground-truth points of a landmark, or of all."""
        if self.raw:
            return sum(len(errors.error) for name, errors in self.landmarks.items() if landmark in (None, name))
        figures = self.report if landmark is None else self.report["landmarks"].get(landmark, {})
        return int(figures.get("visible", 0))

    def images(self) -> int:
        """Number of segmented images."""
        return len(self.segmented) if self.raw else int(self.report.get("segmented_frames", 0))


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
    """Validate and convert the data of ``result.json`` files.

    Returns:
        The runs ordered by model (``STRATEGIES``, each followed by its variants, then others in input order), fold and seed.

    Raises:
        DatasetError: An item is invalid or duplicate, or the runs differ in protocol or reference size.
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
                f"The results differ in their {what} ({listed}) and cannot be combined in one table; summarise them separately."
            )
    met = list(dict.fromkeys(model for model, _, _ in runs))
    known = list(STRATEGIES)

    def order(run: Run) -> tuple[int, bool, int, str, int]:
        base, at, _ = run.model.partition("@")
        return known.index(base) if base in known else len(known), bool(at), met.index(run.model), run.fold, run.seed

    return sorted(runs.values(), key=order)


def parse_run(data: Mapping[str, Any]) -> Run:
    """Validate and convert the data of one ``result.json``.

    With ``figures_only``, the sequences have no ``details``.

    Raises:
        DatasetError: It is invalid.
    """
    found = data.get("format") if isinstance(data, Mapping) else None
    if found != FORMAT:
        raise DatasetError(f"A result has the format {found!r} instead of {FORMAT!r}; make it again with this version.")
    try:
        model, data = _upgraded(data)
        return Run(
            protocol=str(data["protocol"]),
            fold=str(data["fold"]),
            model=model,
            seed=int(data["seed"]),
            sequences={
                name: _figures(name, report) if data.get("figures_only") else _sequence(name, report)
                for name, report in data["sequences"].items()
            },
            data=data,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        where = f"model {data.get('model')}, fold {data.get('fold')}, seed {data.get('seed')}"
        raise DatasetError(
            f"The result of {where} is damaged ({type(error).__name__}: {error}); delete it and run the experiment again."
        ) from error


def _upgraded(data: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The model's name in today's terms, and the data with the network's settings in these."""
    model, stored = str(data["model"]), data.get("network")
    if not isinstance(stored, Mapping):
        return model, data
    network = upgraded(stored)
    strategy, at, variant = model.partition("@")
    if strategy == stored.get("strategy"):
        model = f"{network['strategy']}{at}{variant}"
    return model, {**data, "network": network}


def pool(parts: Iterable[LandmarkErrors]) -> LandmarkErrors:
    """Concatenate the entries of landmarks or sequences."""
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
    """Names of the landmarks with visible ground truth in any run, in the order of the runs."""
    parts = [part for run in runs for part in run.sequences.values()]
    return list(dict.fromkeys(name for part in parts for name in part.landmarks if part.visible(name)))


def full_seeds(runs: Sequence[Run], model: str) -> tuple[list[int], list[int]]:
    """Complete and incomplete seeds of a model.

    Returns:
        Seeds with all folds of the experiment, and the other seeds. Results over folds are comparable between models only if
        they cover all folds.
    """
    folds = {run.fold for run in runs}
    seeds = sorted({run.seed for run in runs if run.model == model})
    whole = [s for s in seeds if {run.fold for run in runs if run.model == model and run.seed == s} == folds]
    return whole, [seed for seed in seeds if seed not in whole]


def counted(runs: Sequence[Run], model: str) -> dict[int, list[Run]]:
    """The runs of a model by seed: complete seeds only, or all if no seed is complete."""
    whole, part = full_seeds(runs, model)
    return {seed: [run for run in runs if (run.model, run.seed) == (model, seed)] for seed in whole or part}


def _figures(name: str, report: Mapping[str, Any]) -> SequenceResult:
    nothing = {key: np.empty(0) for key in OVERLAPS}
    return SequenceResult(
        name, report, np.empty(0, np.int64), nothing, {key: pool([]) for key in report["landmarks"]}, raw=False
    )


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
