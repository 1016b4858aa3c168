"""Publishes the images of a bag from memory at a wanted rate: ``python -m benchmark.bench.player BAG [TOPIC]``.

It is a process of its own, told what to do by lines of JSON on stdin, and answers by lines of JSON on stdout:
``{"rate_hz": 30, "frames": 1000}`` publishes so many images, beginning again with the first after the last, and answers with
their stamps. Every image is stamped with the time of its publication. It is published as serialised bytes, so that the player
takes little of the processor: only the eight bytes of the stamp are written anew.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from sensor_msgs.msg import CompressedImage, Image

from csl_tracker.bags.reader import BagReader
from csl_tracker.clock import NS
from csl_tracker.messages import topics

_LITTLE_ENDIAN = 1
_STAMP_AT = 4  # behind the four bytes that say how the message is encoded; the header comes first in both kinds of image


def stamped(data: bytes, stamp_ns: int) -> bytes:
    """A serialised image with another stamp.

    Args:
        data: CDR of a ``sensor_msgs/Image`` or ``CompressedImage``.
        stamp_ns: The stamp, ns.
    """
    layout = "<iI" if data[1] == _LITTLE_ENDIAN else ">iI"
    return b"".join((data[:_STAMP_AT], struct.pack(layout, *divmod(stamp_ns, NS)), memoryview(data)[_STAMP_AT + 8 :]))


def play(publisher: Any, pictures: list[bytes], rate_hz: float, frames: int) -> list[int]:
    """Publish at a steady rate; a late image does not delay the ones after it.

    Returns:
        The stamps, ns.
    """
    stamps = []
    began = time.monotonic()
    for number in range(frames):
        wait = began + number / rate_hz - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        stamp = time.time_ns()
        publisher.publish(stamped(pictures[number % len(pictures)], stamp))
        stamps.append(stamp)
    return stamps


def main() -> None:
    """Load the bag, and do as stdin says until it ends."""
    path, topic = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    with BagReader(path) as bag:
        topic = bag.image_topic(topic)
        compressed = bag.types[topic] == topics.COMPRESSED_TYPE
        pictures = [message.data for message in bag.messages([topic])]
    rclpy.init(args=[])
    node = rclpy.create_node("player")
    name = topics.IMAGE + (topics.COMPRESSED_SUFFIX if compressed else "")
    publisher = node.create_publisher(CompressedImage if compressed else Image, name, 1)
    print(json.dumps({"pictures": len(pictures), "compressed": compressed}), flush=True)
    try:
        for line in sys.stdin:
            wanted = json.loads(line)
            print(json.dumps(play(publisher, pictures, wanted["rate_hz"], wanted["frames"])), flush=True)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
