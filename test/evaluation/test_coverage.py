"""Two equal models: a comparison may decide in at most 5 % of simulated experiments."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def coverage() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        from benchmark import coverage as module

        return module


def most(trials: int) -> float:
    """Largest share of decisions that is plausible (99.7 %) at a level of 5 %."""
    return 0.05 + 2.75 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize(("sequences", "trials"), [(3, 1000), (4, 1000), (6, 300), (10, 300)])
@pytest.mark.parametrize("of_seed", [0.3, 1.0])
def test_the_level_holds(coverage: ModuleType, sequences: int, trials: int, of_seed: float) -> None:
    assert coverage.level(coverage.Case(sequences, 3, of_seed=of_seed), trials, 80) <= most(trials)


def test_the_level_holds_for_the_frames_of_one_recording(coverage: ModuleType) -> None:
    assert coverage.level(coverage.one_recording(375), 1000, 80) <= most(1000)


@pytest.mark.parametrize(
    ("sequences", "correction"),
    [(3, "t quantile"), (6, "t quantile"), (1, "t quantile"), (1, "n - 1 draws"), (1, "blocks"), (4, "seed variance")],
)
def test_without_a_correction_the_level_does_not_hold(coverage: ModuleType, sequences: int, correction: str) -> None:
    """The simulation is sharp enough to notice."""
    cases = {
        1: coverage.one_recording(150),
        3: coverage.Case(3, 3),
        4: coverage.Case(4, 3, of_seed=1.0),
        6: coverage.Case(6, 1, 1, True, of_frame=0.0),
    }
    trials = 4000 if correction == "n - 1 draws" else 600
    found = coverage.level(cases[sequences], trials, 80, without=correction)
    assert found > most(trials), found
