from __future__ import annotations

import numpy as np
import pytest

from csl_tracker.latency import PLAUSIBLE_LATENCY_S, Durations, plausible


@pytest.mark.parametrize(
    ("latency_s", "expected"), [(0.0, True), (0.1, True), (PLAUSIBLE_LATENCY_S, False), (-0.001, False), (float("nan"), False)]
)
def test_a_latency_of_another_clock_is_not_plausible(latency_s: float, expected: bool) -> None:
    assert plausible(latency_s) is expected


def test_the_durations_is_numpys() -> None:
    seconds = np.random.default_rng(0).exponential(0.02, 101)
    durations = Durations.of(list(seconds))
    assert durations is not None
    ordered = np.sort(seconds) * 1e3
    assert (durations.p50, durations.p95, durations.max) == (
        pytest.approx(ordered[50]),
        pytest.approx(ordered[95]),
        pytest.approx(ordered[-1]),
    )
    assert Durations.of([]) is None
