"""Limits on bags, checked against the sizes that a file claims before memory is allocated.

Bags may have any length and are read with constant memory. The limits concern data that is in memory at one time.
"""

from __future__ import annotations

import sys

import lz4.frame  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_CHUNK_BYTES = 128 << 20
"""Size of an MCAP chunk and of a message, compressed or not. Recorders write chunks of 1 to 64 MiB."""

MAX_RECORD_BYTES = 16 << 20
"""Size of any other record: a definition, a channel, notes, the index of a chunk."""

MAX_TOPICS = 2048
"""Number of topics in a bag, and of channels and definitions in a file."""

MAX_NAME_BYTES = 1024
"""Length of a topic or type name."""

MAX_DEFINITION_BYTES = 256 << 10
"""Size of a message definition with nested types. The longest ones in ROS 2 have about 60 KiB."""

MAX_SUMMARY_RECORDS = 2_000_000
"""Records in an MCAP file's index. A file of 1 TB with chunks of 1 MiB has half as many."""

MAX_INDEXED_CHANNELS = 4_000_000
"""Channel numbers in the chunk index, counting equal groups once; each uses up to 64 bytes of memory."""

MAX_WAITING_BYTES = 256 << 20
"""Total size of messages that wait to be sorted or matched."""

MAX_METADATA_BYTES = 2 << 20
"""Size of a ``metadata.yaml``."""

MAX_UNPACKED_RATIO = 200
"""Unpacked size of a compressed file relative to its size. Camera images shrink to 1/2, label maps to 1/100."""

MIN_UNPACKED_BYTES = 512 << 20
"""Unpacked size that is allowed for any compressed file."""


_MAX_FRAMES = 64
"""Compression frames in a chunk or message. Recorders write one; each further one copies the remaining data."""


class LimitError(ValueError):
    """A limit is exceeded, or compressed data is corrupt. The message is a clause without a full stop."""


def decompress(compression: str, data: bytes | memoryview, limit: int = MAX_CHUNK_BYTES, whole: bool = True) -> bytes:
    """Unpack a chunk or a message.

    Args:
        compression: ``zstd`` or ``lz4``.
        data: One or more compression frames.
        limit: Largest size of the result; at most one byte more is unpacked.
        whole: Whether the last frame must be complete; otherwise its readable part is returned.

    Raises:
        LimitError: The result is too large, or the data is corrupt or truncated.
    """
    parts: list[bytes] = []
    room = limit + 1
    rest = data
    try:
        for _ in range(_MAX_FRAMES):
            unpacker = zstd.ZstdDecompressor() if compression == "zstd" else lz4.frame.LZ4FrameDecompressor()
            while not unpacker.eof:
                part = unpacker.decompress(rest, max_length=room)
                rest = b""
                room -= len(part)
                parts.append(part)
                if room <= 0:
                    raise LimitError(f"it unpacks to more than {limit} bytes")
                if not part and not unpacker.eof:
                    if whole:
                        raise LimitError(f"its {compression} compression was cut off")
                    return b"".join(parts)
            rest = unpacker.unused_data or b""
            if not rest:
                return b"".join(parts) if len(parts) != 1 else parts[0]
        raise LimitError(f"its {compression} compression has more than {_MAX_FRAMES} frames")
    except (zstd.ZstdError, RuntimeError, EOFError) as error:  # lz4 raises a bare RuntimeError
        raise LimitError(f"its {compression} compression is broken: {error}") from error
