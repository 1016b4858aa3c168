import threading
import time
import tracemalloc

import numpy as np
import pytest

from csl_tracker.bags.errors import DamagedBagError
from csl_tracker.bags.read_ahead import ReadAhead
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.messages import topics
from csl_tracker.messages.images import image_message

STEP = 40_000_000
START = 1_700_000_000_000_000_000


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


@pytest.mark.parametrize("name", ["bag.mcap", "compressed.mcap", "bag.db3"])
def test_the_memory_that_reading_takes_does_not_grow_with_the_bag(tmp_path, name):
    """80 images of 0.5 MB: of them a few are in memory at a time, and of zstd a buffer of some MB."""
    image = np.zeros((400, 400, 3), np.uint8)
    with BagWriter(tmp_path / name, compress=name.startswith("compressed")) as writer:
        writer.add_topic("/cam", topics.IMAGE_TYPE)
        for index in range(80):
            writer.write("/cam", image_message(image, START + index * STEP), START + index * STEP)
    with BagReader(tmp_path / name) as bag:
        tracemalloc.start()
        try:
            with ReadAhead((bag.deserialize(frame.image).data for frame in bag.frames()), depth=2) as images:
                total = sum(len(data) for data in images)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert total == 80 * image.size
    assert peak < total / 3
