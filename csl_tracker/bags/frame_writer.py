"""Write frames of a sequence or video to a bag, with ground truth and calibration."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from csl_tracker.bags.notes import CLASSES_NOTE
from csl_tracker.bags.writer import BagWriter
from csl_tracker.calibration_file import check_size
from csl_tracker.camera import CameraModel
from csl_tracker.datasets.sample import Sequence
from csl_tracker.messages import topics
from csl_tracker.messages.camera_info import camera_info_message
from csl_tracker.messages.images import compressed_message, image_message
from csl_tracker.messages.poses import GroundTruth, bag_types, make_header, make_truth_array
from csl_tracker.video import VideoReader

Image = npt.NDArray[np.uint8]

START_NS = 1_000_000_000
"""Stamp of the first frame of a sequence or video, ns; not 0, which ROS reads as "not set"."""


@dataclass(frozen=True)
class RecordedFrame:
    """A frame to be written to a bag.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        stamp_ns: Stamp, ns.
        label_map: uint8 (H, W), or None.
        truth: Annotated landmarks, or None.
    """

    image: Image
    stamp_ns: int
    label_map: Image | None = None
    truth: GroundTruth | None = None


def sequence_frames(sequence: Sequence, limit: int | None = None) -> Iterator[RecordedFrame]:
    """Yield at most ``limit`` frames of a sequence with annotations, at their own times after :data:`START_NS`."""
    for index, sample in enumerate(sequence):
        if limit is not None and index >= limit:
            return
        truth: GroundTruth | None = None
        if sequence.landmarks:
            truth = GroundTruth(
                slots=sequence.slots,
                names=sequence.landmarks,
                landmarks=sample.landmarks,
                labelled=sample.labelled,
                size=(sample.image.shape[0], sample.image.shape[1]),
            )
        yield RecordedFrame(sample.image, START_NS + sample.stamp_ns, sample.label_map, truth)


def video_frames(video: VideoReader, limit: int | None = None) -> Iterator[RecordedFrame]:
    """Yield at most ``limit`` frames of a video, at their own times after :data:`START_NS`."""
    for index, (time_ns, image) in enumerate(video.timed()):
        if limit is not None and index >= limit:
            return
        yield RecordedFrame(image, START_NS + time_ns)


@dataclass(frozen=True)
class BagOptions:
    """How to write frames to a bag.

    Attributes:
        storage: ``mcap``, ``sqlite3``, or None to decide by the path.
        jpeg: JPEG quality, 1 to 100; None writes raw images.
        camera: Calibration to write with every image, or None.
        frame_id: Frame of all headers.
        classes: Names of the label values, stored in the bag's metadata because image messages cannot hold them.
        overwrite: Replace an existing bag.
    """

    storage: str | None = None
    jpeg: int | None = None
    camera: CameraModel | None = None
    frame_id: str = topics.CAMERA_FRAME
    classes: tuple[str, ...] = ()
    overwrite: bool = False


def write_frames(
    path: str | os.PathLike[str],
    frames: Iterable[RecordedFrame],
    total: int | None = None,
    options: BagOptions | None = None,
) -> int:
    """Write frames with their metadata to a bag; one frame at a time is in memory.

    Args:
        path: See :class:`BagWriter`.
        frames: Frames in order of time.
        total: Number of frames, for the progress bar.
        options: Options; None writes raw images without calibration.

    Returns:
        The number of frames written.

    Raises:
        BagError: The bag cannot be written.
        ConfigError: The calibration does not match the images.
    """
    chosen = options or BagOptions()
    notes = {CLASSES_NOTE: ", ".join(chosen.classes)} if len(chosen.classes) > 1 else {}
    count = 0
    with (
        BagWriter(path, storage=chosen.storage, custom=notes, overwrite=chosen.overwrite) as bag,
        tqdm(frames, total=total, desc="frames into the bag", unit="frame", leave=False) as bar,
    ):
        writer = _FrameWriter(bag, chosen)
        for frame in bar:
            writer.write(frame)
            count += 1
    return count


class _FrameWriter:
    """Writes frames to an open bag; ground-truth topics are added with their first message."""

    def __init__(self, bag: BagWriter, options: BagOptions) -> None:
        self._bag, self._options = bag, options
        self._image_topic = topics.IMAGE + (topics.COMPRESSED_SUFFIX if options.jpeg is not None else "")
        bag.add_topic(self._image_topic, topics.IMAGE_TYPE if options.jpeg is None else topics.COMPRESSED_TYPE, depth=1)
        if options.camera is not None:
            bag.add_topic(topics.CAMERA_INFO, topics.CAMERA_INFO_TYPE, depth=1)

    def write(self, frame: RecordedFrame) -> None:
        stamp, frame_id = frame.stamp_ns, self._options.frame_id
        if frame.truth is not None:
            header = make_header(bag_types(), stamp, frame_id)
            self._write_truth(topics.TRUTH_POSES, topics.POSES_TYPE, make_truth_array(bag_types(), header, frame.truth), stamp)
        if frame.label_map is not None:
            message = image_message(frame.label_map, stamp, frame_id)
            self._write_truth(topics.TRUTH_SEGMENTATION, topics.IMAGE_TYPE, message, stamp)
        if self._options.camera is not None:
            check_size(self._options.camera, (frame.image.shape[0], frame.image.shape[1]))
            self._bag.write(topics.CAMERA_INFO, camera_info_message(self._options.camera, stamp, frame_id), stamp)
        if self._options.jpeg is None:
            self._bag.write(self._image_topic, image_message(frame.image, stamp, frame_id), stamp)
        else:
            self._bag.write(self._image_topic, compressed_message(frame.image, self._options.jpeg, stamp, frame_id), stamp)

    def _write_truth(self, topic: str, msgtype: str, message: Any, stamp_ns: int) -> None:
        if topic not in self._bag.counts:
            self._bag.add_topic(topic, msgtype)
        self._bag.write(topic, message, stamp_ns)
