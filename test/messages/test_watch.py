from __future__ import annotations

import pytest

from csl_tracker.messages.watch import WINDOW_S, Watch
from csl_tracker.results import TrackingResult


@pytest.mark.parametrize(
    ("period_s", "count", "now", "rate_hz"),
    [
        (0.1, 31, 3.0, 10.0),
        (0.02, 400, 399 * 0.02, 50.0),
        (0.1, 31, 3.0 + 1.5, 30 / 4.5),  # it has stopped: the rate falls while one looks on
        (0.1, 31, 3.0 + 2 * WINDOW_S, 0.0),
        (1.0, 1, 0.5, 0.0),  # one message is no rate
        (1.0, 0, 0.5, 0.0),
    ],
)
def test_the_rate_is_that_of_the_last_seconds(period_s: float, count: int, now: float, rate_hz: float) -> None:
    watch = Watch("/tracker_node")
    for index in range(count):
        watch.receive(TrackingResult((), None, (576, 720), 0.02), "tiny@1234", index * period_s - 0.1, index * period_s)
    view = watch.view(now)
    assert view.received == count
    # A window's edge may cut off one interval.
    assert view.rate_hz == pytest.approx(rate_hz, rel=1.5 / (WINDOW_S / period_s))
