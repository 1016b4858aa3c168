import numpy as np
import pytest

from csl_tracker.errors import BagError
from csl_tracker.messages.cdr import header_stamp_ns, restamp
from csl_tracker.messages.images import image_message
from csl_tracker.messages.poses import stamp_ns
from csl_tracker.messages.types import typestore

STAMP = 1_700_000_000_123_456_789


@pytest.mark.parametrize("data", [b"", b"\x00\x01\x00\x00", b"\x07\x01" + bytes(40)])
def test_bytes_without_a_header_are_refused(data):
    with pytest.raises(BagError, match="header"):
        header_stamp_ns(data)


@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("ns", [0, 1, 999_999_999, STAMP])
def test_restamp_changes_the_stamp_alone(ns, little):
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    data = typestore().serialize_cdr(image_message(image, STAMP), "sensor_msgs/msg/Image", little_endian=little)
    assert header_stamp_ns(data) == STAMP
    changed = typestore().deserialize_cdr(restamp(data, ns), "sensor_msgs/msg/Image")
    assert stamp_ns(changed.header.stamp) == ns
    assert changed.header.frame_id == "camera"
    np.testing.assert_array_equal(changed.data, image.reshape(-1))
