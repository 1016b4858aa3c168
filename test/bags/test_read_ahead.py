import threading
import time

import pytest

from csl_tracker.bags.errors import DamagedBagError
from csl_tracker.bags.read_ahead import ReadAhead


def test_reading_ahead_keeps_the_order_and_raises_where_the_stream_raised():
    def stream():
        yield from range(20)
        raise DamagedBagError("broken.")

    with ReadAhead(stream(), depth=3) as items:
        found = iter(items)
        assert [next(found) for _ in range(20)] == list(range(20))
        with pytest.raises(DamagedBagError, match="broken"):
            next(found)


def test_reading_ahead_ends_with_its_context():
    made = []

    def stream():
        for index in range(10**9):
            made.append(index)
            yield index

    with ReadAhead(stream(), depth=2) as items:
        assert next(iter(items)) == 0
    assert len(made) <= 1 + 2 + 2, "one taken, two ready, and one or two in the making"
    assert not any(thread.name == "read ahead" for thread in threading.enumerate())


def test_few_large_items_are_ready_at_a_time():
    made = []

    def stream():
        for index in range(6):
            made.append(index)
            yield index

    with ReadAhead(stream(), depth=4, size=lambda _: 100 << 20) as items:
        for count, index in enumerate(items):
            assert index == count
            time.sleep(0.02)  # the thread could go on
            assert len(made) <= count + 3, "one is ready beside the one in use, one in the making"
    assert made == list(range(6))
