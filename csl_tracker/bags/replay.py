"""Track the images of a bag without a ROS graph, as fast as possible, and write a bag of results.

The results equal those of the tracker node when it receives the images in lock-step with their own stamps: bit by bit if the
engine runs on the CPU, except for ``processing_time``.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from csl_tracker.arrays import Image
from csl_tracker.arrival import Arrival, ArrivalOrder
from csl_tracker.bags.errors import DamagedBagError
from csl_tracker.bags.frames import BagFrame
from csl_tracker.bags.notes import CLASSES_NOTE, OFFLINE
from csl_tracker.bags.read_ahead import ReadAhead
from csl_tracker.bags.reader import BagReader
from csl_tracker.bags.writer import BagWriter
from csl_tracker.clock import NS
from csl_tracker.errors import BagError, CslTrackerError, ImageError
from csl_tracker.messages import topics
from csl_tracker.messages.images import image_message
from csl_tracker.messages.poses import bag_types, make_pose_array
from csl_tracker.results import TrackingResult
from csl_tracker.tracker import Tracker

Decode = Callable[[Any], Image]


@dataclass(frozen=True)
class ReplayOptions:
    """What to replay and to write.

    Attributes:
        topic: Topic of the images; None for the only one.
        start_s: Skip messages recorded earlier, s after the bag's first message.
        end_s: Skip messages recorded later, s after the bag's first message.
        frames: Largest number of frames; None for all.
        segmentation: Also write label maps.
        overwrite: Replace an existing bag.
    """

    topic: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    frames: int | None = None
    segmentation: bool = False
    overwrite: bool = False


@dataclass
class ReplaySummary:
    """Result of a replay.

    Attributes:
        frames: Number of images read.
        tracked: Number of images with a pose array.
        instruments: Number of poses.
        unusable: Images that could not be used, by reason.
        backwards: Indices, from 0, of images whose stamps jumped back; each reset the identities.
        stopped: Whether it was stopped before the end.
        damage: Fault that ended reading early; the results contain everything before it.
        seconds: Duration from the first image on.
    """

    frames: int = 0
    tracked: int = 0
    instruments: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    backwards: list[int] = field(default_factory=list)
    stopped: bool = False
    damage: DamagedBagError | None = None
    seconds: float = 0.0


def replay_bag(
    bag: BagReader,
    output: str | os.PathLike[str],
    tracker: Tracker,
    decode: Decode,
    options: ReplayOptions | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> ReplaySummary:
    """Track every image of a bag; a few decoded images are in memory at a time.

    Args:
        bag: Images, with or without ground truth, which is copied to the results.
        output: Bag of results: a name that ends in ``.mcap`` or ``.db3``, or a folder.
        tracker: The tracker; its identities are reset first.
        decode: Converts an image message to uint8 (H, W, 3), RGB.
        options: Part of the bag; None for all.
        stopped: Called before each frame; returning True ends the replay with valid results.

    Raises:
        BagError: There are no such images, none is usable, or the results cannot be written.
        KeyboardInterrupt: Stopped before there was any result.
    """
    chosen = options or ReplayOptions()
    topic = bag.image_topic(chosen.topic)
    model = tracker.model.label
    notes = {**OFFLINE, "csl_tracker_source": bag.path.name, "csl_tracker_model": model}
    notes |= {key: bag.custom[key] for key in (CLASSES_NOTE,) if key in bag.custom}  # the labels of the copied ground truth
    _warm_up(bag, topic, tracker, decode)
    tracker.reset()
    whole = chosen.start_s is None and chosen.end_s is None
    total = min(bag.count(topic), chosen.frames or bag.count(topic)) if whole else chosen.frames
    with (
        BagWriter(output, compress=True, custom=notes, overwrite=chosen.overwrite) as results,
        tqdm(total=total, desc="replay", unit="frame", leave=False) as bar,
        ReadAhead(_decoded_frames(bag, topic, decode, chosen), size=_decoded_bytes) as frames,
    ):
        results.add_topic(topics.POSES, topics.POSES_TYPE)
        replay = _Replay(tracker, results, chosen.segmentation)
        summary = replay.summary
        began = time.monotonic()
        try:
            for decoded in frames:
                if stopped():
                    summary.stopped = True
                    break
                bar.update()
                replay.track(decoded)
        except DamagedBagError as error:
            summary.damage = error
        summary.seconds = time.monotonic() - began
        if not summary.tracked:
            if summary.stopped:
                raise KeyboardInterrupt
            raise _no_result(bag, topic, summary)
    return summary


class _Replay:
    """Tracks decoded frames and writes the results, as the node does."""

    def __init__(self, tracker: Tracker, results: BagWriter, segmentation: bool) -> None:
        self.summary = ReplaySummary()
        self._tracker, self._results, self._segmentation = tracker, results, segmentation
        self._order = ArrivalOrder()

    def track(self, decoded: _DecodedFrame) -> None:
        """Track a frame, or count why it is unusable."""
        frame, image = decoded.frame, decoded.image
        self.summary.frames += 1
        _copy_truth(self._results, frame)
        if isinstance(image, CslTrackerError):
            self.summary.unusable[str(image)] += 1
            return
        stamp_ns = frame.image.stamp_ns
        arrival = self._order.classify(stamp_ns)
        if arrival is Arrival.LATE:
            self.summary.unusable["its stamp is slightly earlier than that of a previous image"] += 1
            return
        if arrival is Arrival.BACK:
            self.summary.backwards.append(self.summary.frames - 1)
            self._tracker.reset()
        result = self._tracker.track(image, stamp_ns * 1e-9 if stamp_ns else None, segmentation=self._segmentation)
        self._write(result, decoded.header, frame.image.time_ns)

    def _write(self, result: TrackingResult, header: Any, time_ns: int) -> None:
        message = make_pose_array(bag_types(), header, result, self._tracker.model.label)
        self._results.write(topics.POSES, message, time_ns)
        self.summary.tracked += 1
        self.summary.instruments += len(result.instruments)
        if self._segmentation and result.label_map is not None:
            _write_label_map(self._results, result.label_map, header, time_ns)


class _DecodedFrame(NamedTuple):
    """A frame with its image's header and its image, or the error of decoding it."""

    frame: BagFrame
    header: Any
    image: Image | CslTrackerError


def _decoded_frames(bag: BagReader, topic: str, decode: Decode, options: ReplayOptions) -> Iterator[_DecodedFrame]:
    """Yield the selected frames with decoded images."""
    for frame in islice(bag.frames(topic, options.start_s, options.end_s), options.frames):
        header = None
        image: Image | CslTrackerError
        try:
            message = bag.deserialize(frame.image)
            header, image = message.header, decode(message)
        except (BagError, ImageError) as error:
            image = error
        yield _DecodedFrame(frame, header, image)


def _decoded_bytes(decoded: _DecodedFrame) -> int:
    size = 0 if isinstance(decoded.image, CslTrackerError) else decoded.image.nbytes
    return len(decoded.frame.image.data) + size


def _warm_up(bag: BagReader, topic: str, tracker: Tracker, decode: Decode) -> None:
    """Warm up the engine before the work is timed."""
    try:
        first = next(bag.messages([topic]), None)
        if first is not None:
            tracker.warm_up(decode(bag.deserialize(first)).shape[:2])
    except (BagError, ImageError):
        pass  # reported when the frame is tracked


def _copy_truth(results: BagWriter, frame: BagFrame) -> None:
    for message in (frame.truth_poses, frame.truth_segmentation):
        if message is not None:
            if message.topic not in results.counts:
                results.add_topic(message.topic, message.msgtype)
            results.write_raw(message.topic, message.data, message.time_ns)


def _write_label_map(results: BagWriter, label_map: Image, header: Any, time_ns: int) -> None:
    if topics.SEGMENTATION not in results.counts:
        results.add_topic(topics.SEGMENTATION, topics.IMAGE_TYPE)
    message = image_message(label_map, header.stamp.sec * NS + header.stamp.nanosec, header.frame_id)
    results.write(topics.SEGMENTATION, message, time_ns)


def _no_result(bag: BagReader, topic: str, summary: ReplaySummary) -> BagError:
    """Why there are no results."""
    if summary.unusable:
        return BagError(
            f"None of the {summary.frames} images on {topic} of the bag {bag.path} can be used. {next(iter(summary.unusable))}"
        )
    if summary.damage is not None:
        return summary.damage
    return BagError(
        f"The bag {bag.path} ({bag.duration_s:.1f} s) has no image on {topic} in the selected part; change --start or --end."
    )


def results_path(bag: Path) -> Path:
    """Default path of the results, under the bag's name."""
    return Path("output") / "replay" / f"{bag.resolve().name.split('.')[0]}.mcap"
