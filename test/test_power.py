"""What an experiment can tell apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmark.power import COMPARISONS, LEVEL, POWER, detectable, differences


@pytest.mark.parametrize("number", [8, 12, 32])
def test_a_detectable_difference_is_found_with_the_stated_power(number: int) -> None:
    """Against the exact power of the paired t test, by the noncentral t distribution."""
    level = LEVEL / COMPARISONS
    found = detectable(2.0, number)
    critical = stats.t(number - 1).ppf(1 - level / 2)
    power = 1 - stats.nct(number - 1, found * math.sqrt(number) / 2.0).cdf(critical)
    assert power == pytest.approx(POWER, abs=0.03)


def test_differences_are_means_over_seeds_by_sequence() -> None:
    def run(model: str, strategy: str, dice: dict[str, float | None]) -> dict[str, Any]:
        network = {"strategy": strategy, "decoder": "separable"}
        return {"model": model, "network": network, "sequences": {name: {"dice": value} for name, value in dice.items()}}

    runs = [
        run("csl", "csl", {"A": 0.9, "B": 0.8}),
        run("csl", "csl", {"A": 0.7, "B": 0.8}),
        run("sl", "sl", {"A": 0.5, "B": None}),
        run("csl@steps=1", "csl", {"A": 0.0}),
    ]
    np.testing.assert_allclose(differences(runs, "sl_skip", ("dice",)), [0.3])  # sl of the first release
    assert differences(runs, "l", ("dice",)).shape == (0,)
