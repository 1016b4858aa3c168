import numpy as np
import pytest

from csl_tracker.evaluation.bag_times import percentiles


def test_percentiles_are_numpys_and_none_without_values():
    values = np.random.default_rng(0).exponential(10.0, 99).tolist()
    found = percentiles(values)
    assert [found[f"p{q}"] for q in (50, 90, 95, 99)] == pytest.approx(np.percentile(values, (50, 90, 95, 99)))
    assert (found["max"], found["count"]) == (max(values), 99)
    assert percentiles([])["p99"] is None
