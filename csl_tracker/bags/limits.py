"""What a bag may ask for: sizes are compared with these before memory is taken, whatever the file claims.

A bag may have any length and is read in flat memory; what is limited is what has to be in memory at a time.
"""

from __future__ import annotations

import sys

import lz4.frame  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_CHUNK_BYTES = 128 << 20
"""Of a chunk of an MCAP file, and of a message, compressed or not. Recorders write chunks of 1 to 64 MiB."""

MAX_RECORD_BYTES = 16 << 20
"""Of any other record that is read: a definition, a channel, notes, the index of a chunk."""

MAX_TOPICS = 2048
"""Of a bag; also channels and definitions of a file."""

MAX_NAME_BYTES = 1024
"""Of the name of a topic or a type."""

MAX_DEFINITION_BYTES = 256 << 10
"""Of a message definition with all types in it. The longest of ROS 2's own have about 60 KiB."""

MAX_SUMMARY_RECORDS = 2_000_000
"""Records of the index at the end of an MCAP file; one of 1 TB with chunks of 1 MiB has half of them."""

MAX_WAITING_BYTES = 256 << 20
"""Of messages that wait to be sorted or matched."""

MAX_METADATA_BYTES = 2 << 20
"""Of a ``metadata.yaml``."""

MAX_UNPACKED_RATIO = 200
"""Of a file that is compressed as a whole. Camera images shrink to a half, label maps to a hundredth."""

MIN_UNPACKED_BYTES = 512 << 20
"""What a file that is compressed as a whole may always become."""


_MAX_FRAMES = 64
"""Of compression in a chunk or message: recorders write one, and each costs a copy of what follows."""


class LimitError(ValueError):
    """Something is larger than a limit, or its compressed bytes are broken; the message is a clause without a full stop."""


def decompress(compression: str, data: bytes | memoryview, limit: int = MAX_CHUNK_BYTES, whole: bool = True) -> bytes:
    """Unpack a chunk or a message.

    Args:
        compression: ``zstd`` or ``lz4``.
        data: One or more frames of it.
        limit: Largest size of the result; more than one byte beyond it is never made.
        whole: Whether the last frame must end; else what can be unpacked of it is returned.

    Raises:
        LimitError: The result is larger, or the data is broken or cut off.
    """
    parts: list[bytes] = []
    room = limit + 1
    rest = bytes(data)
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
