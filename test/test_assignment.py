from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from csl_tracker.assignment import assign


def brute_force(cost: np.ndarray) -> list[int]:
    """The first of the cheapest assignments, from all of them."""
    rows, columns = cost.shape

    def total(choice: tuple[int, ...]) -> float:
        value = float(sum(cost[row, column] for row, column in enumerate(choice)))
        return math.inf if math.isnan(value) else value

    return list(min(itertools.permutations(range(columns), rows), key=total))


@pytest.mark.parametrize("seed", range(8))
def test_against_all_permutations(seed: int) -> None:
    """Few different costs make ties; whole numbers make them exact."""
    rng = np.random.default_rng(seed)
    for _ in range(500):
        rows = int(rng.integers(0, 5))
        columns = int(rng.integers(rows, 6))
        cost = rng.integers(0, rng.integers(1, 9), (rows, columns)).astype(float)
        cost[rng.random(cost.shape) < rng.choice([0.0, 0.0, 0.2, 0.5])] = np.inf
        cost[rng.random(cost.shape) < rng.choice([0.0, 0.0, 0.2])] = np.nan
        assert assign(cost) == brute_force(cost), cost


def test_random_costs_against_all_permutations() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        cost = rng.normal(size=(int(rng.integers(1, 5)), 5))
        assert assign(cost) == brute_force(cost), cost


def test_every_row_needs_a_column() -> None:
    with pytest.raises(ValueError, match="3 rows cannot have a column each of 2"):
        assign(np.zeros((3, 2)))


def test_many_rows_take_no_factorial_time() -> None:
    cost = np.full((60, 80), 2.0)
    cost[np.arange(60), np.arange(60)[::-1]] = 1.0
    assert assign(cost) == list(range(60))[::-1]
    assert assign(np.zeros((60, 80))) == list(range(60))
