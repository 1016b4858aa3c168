import numpy as np
import pytest

from csl_tracker.node.timing import RateLimiter, heartbeat_s, lease_s


def test_at_30_hz_a_dead_tracker_is_noticed_within_100_ms():
    assert lease_s(30.0) < 0.1
    assert lease_s(30.0) > 2 / 30, "one late frame is no death"
    assert heartbeat_s(30.0) <= lease_s(30.0) / 3


@pytest.mark.parametrize("limit", [1.0, 7.0, 15.0, 29.0, 31.0, 200.0])
@pytest.mark.parametrize("jitter", [0.0, 0.005])
def test_the_mean_rate_is_the_limit_or_the_cameras(limit, jitter):
    rng = np.random.default_rng(1)
    times = np.sort(np.arange(0, 20, 1 / 30) + rng.uniform(-jitter, jitter, 600))
    limiter = RateLimiter()
    passed = sum(limiter.admit(float(t), limit) for t in times)
    assert passed <= 20 * limit + 2
    assert passed >= 0.9 * 20 * min(limit, 30) - 1


def test_no_limit_lets_all_pass_and_a_new_limit_holds_at_once():
    limiter = RateLimiter()
    assert all(limiter.admit(0.001 * i, 0.0) for i in range(100))
    assert sum(limiter.admit(20 + 0.1 * i, 5.0) for i in range(100)) in range(48, 53)


def test_after_a_pause_there_is_no_burst():
    limiter = RateLimiter()
    limiter.admit(0.0, 10.0)
    assert sum(limiter.admit(100 + 0.001 * i, 10.0) for i in range(50)) <= 2
