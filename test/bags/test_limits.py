import sys
import tracemalloc

import lz4.frame
import pytest

from csl_tracker.bags.limits import LimitError, decompress

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK = {"zstd": zstd.compress, "lz4": lz4.frame.compress}
DATA = bytes(range(256)) * 1000


@pytest.mark.parametrize("compression", PACK)
def test_chunks_are_unpacked_to_the_byte(compression):
    pack = PACK[compression]
    assert decompress(compression, pack(DATA), len(DATA)) == DATA
    assert decompress(compression, pack(DATA) + pack(b"more"), len(DATA) + 4) == DATA + b"more"


@pytest.mark.parametrize("compression", PACK)
def test_what_is_there_of_a_chunk_that_was_cut_off(compression):
    found = decompress(compression, PACK[compression](DATA)[:-20], len(DATA), whole=False)
    assert found == DATA[: len(found)]


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize(
    ("limit", "change", "words"),
    [
        (len(DATA) - 1, lambda packed: packed, f"unpacks to more than {len(DATA) - 1} bytes"),
        (0, lambda packed: packed, "unpacks to more than 0 bytes"),
        (len(DATA), lambda packed: packed + packed, "unpacks to more"),
        (len(DATA), lambda packed: packed[:-20], "cut off"),
        (len(DATA), lambda packed: b"\x00" * 40, "broken"),
    ],
)
def test_a_chunk_beyond_its_limit_or_broken_is_refused(compression, limit, change, words):
    with pytest.raises(LimitError, match=words):
        decompress(compression, change(PACK[compression](DATA)), limit)


@pytest.mark.parametrize("compression", PACK)
def test_frames_of_nothing_are_counted(compression):
    empty = PACK[compression](b"")
    assert decompress(compression, empty * 64, 1000) == b""
    with pytest.raises(LimitError, match="more than 64 frames"):
        decompress(compression, empty * 65, 1000)


@pytest.mark.parametrize("compression", PACK)
@pytest.mark.parametrize("count", [1, 50])
def test_little_beyond_the_limit_is_made(compression, count):
    """A bomb of 64 MB in one frame, and one in frames of 1.3 MB that are each within the limit."""
    packed = PACK[compression](bytes((64 << 20) // count)) * count
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match="unpacks to more"):
            decompress(compression, packed, 2 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20
