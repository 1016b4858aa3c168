"""Read and change the stamp of a serialised message.

All stamped messages of this package start with a ``std_msgs/Header``, which starts with the stamp. In CDR (OMG DDS-XTypes 1.3,
7.4.3; four bytes of encapsulation, then fields aligned to their size) the stamp occupies bytes 4 to 11.
"""

from __future__ import annotations

import struct

from csl_tracker.clock import NS
from csl_tracker.errors import BagError


def _layout(data: bytes | memoryview) -> str:
    if len(data) < 12 or data[0] != 0:
        raise BagError(f"A message of {len(data)} bytes has no header; its topic's type must begin with std_msgs/Header.")
    return "<iI" if data[1] & 1 else ">iI"


def header_stamp_ns(data: bytes | memoryview) -> int:
    """The stamp of a serialised message that starts with a header, ns.

    Raises:
        BagError: The message is too short.
    """
    seconds, nanoseconds = struct.unpack_from(_layout(data), data, 4)
    return int(seconds) * NS + int(nanoseconds)


def restamp(data: bytes | memoryview, ns: int) -> bytes:
    """A copy of a serialised message with another stamp.

    Raises:
        BagError: The message is too short.
    """
    changed = bytearray(data)
    struct.pack_into(_layout(data), changed, 4, ns // NS, ns % NS)
    return bytes(changed)
