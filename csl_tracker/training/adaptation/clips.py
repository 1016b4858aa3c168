"""Sample frames evenly over videos, each with its neighbours in time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from csl_tracker.arrays import Image
from csl_tracker.video import VideoReader

REACH = 2
"""Distance of the neighbours in time, frames."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A sampled frame and its neighbours.

    Attributes:
        frame: Index in its video, from 0.
        stamp_ns: Time since the start of the video, ns.
        image: uint8 (H, W, 3), RGB.
        neighbours: The images ``REACH`` frames before and after, without those beyond the ends of the video.
    """

    frame: int
    stamp_ns: int
    image: Image
    neighbours: tuple[Image, ...]


def sample_evenly(lengths: Sequence[int], count: int) -> list[tuple[int, ...]]:
    """Choose frames evenly over all videos.

    Args:
        lengths: Number of frames of each video.
        count: Largest number of frames in all.

    Returns:
        Frame indices of each video, ascending.
    """
    total = sum(lengths)
    chosen = min(count, total)
    places = [(2 * index + 1) * total // (2 * chosen) for index in range(chosen)]
    found, start = [], 0
    for length in lengths:
        found.append(tuple(place - start for place in places if start <= place < start + length))
        start += length
    return found


def evenly(items: Sequence[int], count: int) -> tuple[int, ...]:
    """At most ``count`` of the items, evenly spaced."""
    chosen = min(count, len(items))
    return tuple(items[(2 * index + 1) * len(items) // (2 * chosen)] for index in range(chosen))


def read_clips(reader: VideoReader, wanted: Collection[int]) -> Iterator[Clip]:
    """Read the wanted frames of a video with their neighbours; it ends early where the video cannot be decoded further.

    Raises:
        DatasetError: A frame is broken.
    """
    recent: dict[int, tuple[int, Image]] = {}
    frame = -1
    for frame, timed in enumerate(reader.timed()):
        recent[frame] = timed
        recent.pop(frame - 2 * REACH - 1, None)
        if frame - REACH in wanted:
            yield _clip(recent, frame - REACH)
    for last in range(max(0, frame - REACH + 1), frame + 1):
        if last in wanted:
            yield _clip(recent, last)


def _clip(recent: dict[int, tuple[int, Image]], frame: int) -> Clip:
    beside = tuple(recent[other][1] for other in (frame - REACH, frame + REACH) if other in recent)
    stamp_ns, image = recent[frame]
    return Clip(frame, stamp_ns, image, beside)


def read_frames(reader: VideoReader, wanted: Collection[int]) -> Iterator[tuple[int, int, Image]]:
    """Read the wanted frames of a video: (index, time in ns, image)."""
    last = max(wanted, default=-1)
    if last < 0:
        return
    for frame, (stamp_ns, image) in enumerate(reader.timed()):
        if frame in wanted:
            yield frame, stamp_ns, image
        if frame >= last:
            return
