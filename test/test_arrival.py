import pytest

from csl_tracker.arrival import Arrival, ArrivalOrder

MS = 10**6
N, L, B = Arrival.NEXT, Arrival.LATE, Arrival.BACK


@pytest.mark.parametrize(
    ("stamps_ms", "expected"),
    [
        ([1000, 1033, 1066], [N, N, N]),
        ([1000, 1000], [N, N]),
        ([1000, 1005, 1002, 1040], [N, N, L, N]),
        ([1000, 995, 1040, 1035, 1080, 1075], [N, L, N, L, N, L]),  # two publishers
        ([1000, 965], [N, L]),
        ([1000, 964], [N, B]),
        ([5000, 1000, 1040], [N, B, N]),
        ([5000, 0, 5001], [N, N, N]),  # without a stamp
        ([0, 0, 7], [N, N, N]),
        ([2000, 1960, 1993, 1980], [N, B, N, L]),
        ([2000, 1990, 1990, 1990, 1990, 1990, 1991], [N, L, L, L, L, B, N]),  # set back by a little
    ],
)
def test_late_frames_are_told_from_time_that_went_back(stamps_ms, expected):
    order = ArrivalOrder()
    assert [order.classify(stamp * MS) for stamp in stamps_ms] == expected
