import numpy as np
import pytest

from csl_tracker.evaluation.calibration import calibration


def test_calibration_against_a_plain_loop():
    rng = np.random.default_rng(3)
    confidence, correct = rng.uniform(0, 1, 300).tolist(), (rng.uniform(0, 1, 300) < 0.4).tolist()
    confidence[:2] = [0.0, 1.0]
    expected = 0.0
    for low in range(10):
        part = [(c, r) for c, r in zip(confidence, correct, strict=True) if min(int(c * 10), 9) == low]
        if part:
            expected += abs(sum(r for _, r in part) - sum(c for c, _ in part)) / 300
    found = calibration(confidence, correct)
    assert found["ece"] == pytest.approx(expected)
    assert sum(part["count"] for part in found["bins"]) == 300
    assert calibration([], [])["ece"] is None
