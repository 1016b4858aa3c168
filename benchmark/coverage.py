"""How often does a paired comparison decide between two equal models? At most in 5 % of the cases, as promised.

``python benchmark/coverage.py --json docs/results/coverage.json``

The simulated differences vary between test sequences, seeds and frames, of which neighbours are alike; their true mean is zero.
The comparison is repeated with one of the corrections removed.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtr

from csl_tracker.evaluation import bootstrap, intervals
from csl_tracker.evaluation.intervals import CONFIDENCE, Interval, Part
from csl_tracker.evaluation.paired_units import Units
from csl_tracker.output import write_json
from csl_tracker.provenance import machine, versions
from csl_tracker.reporting.table import markdown

LEVEL = 1.0 - CONFIDENCE
CORRECTIONS = ("t quantile", "n - 1 draws", "blocks", "seed variance")
RHO = 0.8
"""Correlation of neighbouring frames."""


@dataclass(frozen=True)
class Case:
    """Two equal models in an experiment.

    Attributes:
        sequences: Number of test sequences.
        seeds: Number of seeds.
        frames: Frames per sequence.
        folds: Whether each sequence has its own trainings, as in leave-one-out; otherwise all share one fold.
        of_sequence: Standard deviation between sequences.
        of_seed: Standard deviation between trainings.
        of_both: Standard deviation of a training in a sequence.
        of_frame: Standard deviation between frames, with a correlation of ``RHO`` from frame to frame.
    """

    sequences: int
    seeds: int
    frames: int = 50
    folds: bool = False
    of_sequence: float = 1.0
    of_seed: float = 0.3
    of_both: float = 0.3
    of_frame: float = 1.0

    def draw(self, trials: int, rng: np.random.Generator) -> np.ndarray:
        """Differences, float64 (trials, sequences, seeds, frames)."""
        trainings = self.sequences if self.folds else 1
        between = (
            self.of_sequence * rng.normal(size=(trials, self.sequences, 1, 1))
            + self.of_seed * rng.normal(size=(trials, trainings, self.seeds, 1))
            + self.of_both * rng.normal(size=(trials, self.sequences, self.seeds, 1))
        )
        warm = 50  # frames until the filter forgets its start
        noise = rng.normal(size=(trials, self.sequences, 2 * self.seeds, self.frames + warm))
        slow = lfilter([math.sqrt(1 - RHO**2)], [1.0, -RHO], noise)[..., warm:]
        common, own = slow[:, :, :1], slow[:, :, self.seeds :]  # half of the variance of a frame is common to the seeds
        return between + self.of_frame * math.sqrt(0.5) * (common + own)


def level(case: Case, trials: int, resamples: int, without: str = "", seed: int = 0) -> float:
    """Share of simulated experiments in which the comparison decides for one of two equal models.

    Args:
        case: The experiment. With one sequence, the truth is its mean: the interval holds for these frames only.
        trials: Number of simulated experiments.
        resamples: Bootstrap resamples of each.
        without: Name of a correction to remove, see ``CORRECTIONS``.
        seed: Random seed.
    """
    rng = np.random.default_rng(seed)
    block = 1 if without == "blocks" else None
    decided = 0
    with removed(without):
        for values in case.draw(trials, rng):
            parts = [
                Units(name if case.folds else "all", name, tuple(range(case.seeds)), of_sequence, np.ones_like(of_sequence))
                for name, of_sequence in zip(map(str, range(case.sequences)), values, strict=True)
            ]
            draws = int(rng.integers(1 << 30))
            if case.sequences == 1:
                found = intervals.over_frames(parts[0], resamples=resamples, block=block, seed=draws)
            else:
                found = intervals.over_sequences(parts, resamples=resamples, block=block, seed=draws)
            assert found.p is not None
            decided += found.p <= LEVEL
    return decided / trials


@contextmanager
def removed(correction: str) -> Iterator[None]:
    """Remove a correction of ``CORRECTIONS``; blocks are removed by their length."""
    if correction == "t quantile":
        target = patch.object(intervals, "student", _normal)
    elif correction == "n - 1 draws":
        target = patch.object(bootstrap, "drawn_parts", lambda number: number)
    elif correction == "seed variance":
        target = patch.object(intervals, "_seed_variance", lambda rows: 0.0)
    else:
        yield
        return
    with target:
        yield


def _normal(estimate: float, parts: Sequence[Part], confidence: float = CONFIDENCE) -> Interval:
    error = math.sqrt(sum(part.variance for part in parts))
    return Interval(estimate, p=2.0 * float(ndtr(-abs(estimate) / error)))


def one_recording(frames: int) -> Case:
    """One recording whose frames alone vary."""
    return Case(1, 1, frames, of_sequence=0.0, of_seed=0.0, of_both=0.0)


CASES: dict[str, Case] = {
    **{f"{n} sequences, 3 seeds": Case(n, 3) for n in (2, 3, 4, 6, 10)},
    **{f"{n} sequences, 3 seeds that vary as much as the sequences": Case(n, 3, of_seed=1.0) for n in (3, 4, 6, 10)},
    "8 sequences, 2 seeds that vary as much as the sequences": Case(8, 2, of_seed=1.0),
    **{f"leave one out, {n} sequences, 1 seed": Case(n, 1, 150, True) for n in (2, 3, 4, 6, 10)},
    **{f"these frames only, {frames} frames": one_recording(frames) for frames in (75, 150, 375, 1500)},
}


def table(result: dict[str, Any]) -> str:
    """The levels as Markdown."""
    rows = []
    for name, found in result["cases"].items():
        removed_texts = (
            "-" if found["without"].get(correction) is None else f"{100 * found['without'][correction]:.1f} %"
            for correction in CORRECTIONS
        )
        rows.append((name, f"{100 * found['level']:.1f} %", *removed_texts))
    head = ("two equal models", "decided", *(f"without {correction}" for correction in CORRECTIONS))
    return (
        f"{markdown(head, rows, right=range(1, len(head)))}\n\n"
        f"{result['trials']} simulated experiments each, correlation of neighbouring frames {result['rho']:g}; standard error"
        f" {100 * math.sqrt(LEVEL * (1 - LEVEL) / result['trials']):.1f} points at 5 %;"
        " [`results/coverage.json`](results/coverage.json)."
    )


def corrections(case: Case) -> tuple[str, ...]:
    """The corrections that are removed in a case."""
    if case.sequences == 1:
        return ("t quantile", "n - 1 draws", "blocks")
    if case.folds:
        return ("t quantile", *(("n - 1 draws",) if case.sequences >= intervals.BOOTSTRAP_SEQUENCES else ()))
    return ("seed variance",) if case.of_seed == 1.0 and case.sequences < intervals.BOOTSTRAP_SEQUENCES else ()


def main() -> None:
    """Simulate each case and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="simulated experiments of each case (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=100, help="bootstrap resamples (default: %(default)s)")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    cases = {}
    for name, case in CASES.items():
        cases[name] = {
            **asdict(case),
            "level": level(case, args.trials, args.resamples),
            "without": {one: level(case, args.trials, args.resamples, one) for one in corrections(case)},
        }
        print(f"{name}: {cases[name]['level']:.3f}", flush=True)
    result = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "versions": versions(),
        "trials": args.trials,
        "resamples": args.resamples,
        "rho": RHO,
        "cases": cases,
    }
    write_json(args.json, result)
    print(f"\n{table(result)}")


if __name__ == "__main__":
    main()
