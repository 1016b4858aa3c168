import pytest

from csl_tracker.bags.stamps import TOLERANCE_NS, StampIndex

MS = 1_000_000


@pytest.mark.parametrize(
    ("stamps", "stamp", "found"),
    [
        ([], 5, 5),
        ([100 * MS], 100 * MS + 400, 100 * MS),
        ([100 * MS], 101 * MS, 100 * MS),
        ([100 * MS], 101 * MS + 1, 101 * MS + 1),
        ([0, 40 * MS, 80 * MS], 39_600_000, 40 * MS),
        ([80 * MS, 0, 40 * MS], 80 * MS + 999_999, 80 * MS),
        ([0, 2 * MS, 4 * MS], 2 * MS + 500_000, 2 * MS),  # a quarter of the distance, for cameras of 500 Hz
        ([0, 2 * MS, 4 * MS], 2 * MS + 500_001, 2 * MS + 500_001),
    ],
)
def test_the_nearest_stamp_within_the_tolerance(stamps, stamp, found):
    assert StampIndex(stamps).match(stamp) == found
    assert StampIndex(stamps).tolerance_ns <= TOLERANCE_NS


def test_the_nearest_stamp_however_far():
    assert StampIndex([]).nearest(3) is None
    assert [StampIndex([10, 20]).nearest(stamp) for stamp in (-5, 14, 16, 99)] == [10, 10, 20, 20]
