"""Predict the frames of unlabelled videos, keep what passes the checks, and write it as a dataset in COCO keypoints."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from csl_tracker.arrays import Image
from csl_tracker.datasets.coco_writer import CocoWriter
from csl_tracker.datasets.json_file import load_json
from csl_tracker.datasets.sample import Sample
from csl_tracker.errors import ConfigError
from csl_tracker.instruments import IGNORE_LABEL
from csl_tracker.output import write_json
from csl_tracker.pixels import Size, resize_image
from csl_tracker.tracker import Tracker
from csl_tracker.training.adaptation.checks import SAW_NOTHING, Prediction, Reason, Verdict, View, judge, view_in_time
from csl_tracker.training.adaptation.clips import Clip, evenly, read_clips, read_frames, sample_evenly
from csl_tracker.video import VideoReader
from csl_tracker.weights import Preprocessing

NEGATIVE_SHARE = 0.25
"""Largest share of frames without instruments among the kept ones."""
KEPT_SCALE = 1.5
"""Frames are kept at this multiple of the network's input size, as the training caches them."""


@dataclass(frozen=True)
class FrameRecord:
    """What became of one sampled frame.

    Attributes:
        video: Index of the video.
        frame: Index in the video.
        reason: The outcome of the checks.
    """

    video: int
    frame: int
    reason: Reason


@dataclass(frozen=True)
class PseudoLabels:
    """The pseudo-labels of some videos.

    Attributes:
        records: One for each sampled frame.
        landmarks: Number of labelled landmarks of the kept frames.
        dropped: Number of landmarks that another view did not confirm.
        wrong_side: Number of landmarks on the wrong side of the axis.
        ignored_share: Share of the pixels of frames with instruments that are ignored since the views disagree.
    """

    records: tuple[FrameRecord, ...]
    landmarks: int
    dropped: int
    wrong_side: int
    ignored_share: float

    @property
    def counts(self) -> dict[Reason, int]:
        """Number of frames for each reason."""
        found = Counter(record.reason for record in self.records)
        return {reason: found[reason] for reason in Reason}

    @property
    def kept(self) -> int:
        """Number of frames kept with instruments."""
        return self.counts[Reason.KEPT]

    def frames_of(self, video: int, *reasons: Reason) -> list[int]:
        """Frames of a video with one of the reasons."""
        return [record.frame for record in self.records if record.video == video and record.reason in reasons]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "records": [[record.video, record.frame, record.reason.name] for record in self.records],
            "landmarks": self.landmarks,
            "dropped": self.dropped,
            "wrong_side": self.wrong_side,
            "ignored_share": self.ignored_share,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PseudoLabels:
        """Rebuild from :meth:`to_dict`'s output.

        Raises:
            KeyError, TypeError, ValueError: A value is missing or wrong.
        """
        records = tuple(FrameRecord(int(video), int(frame), Reason[name]) for video, frame, name in data["records"])
        landmarks, dropped, wrong_side = (int(data[key]) for key in ("landmarks", "dropped", "wrong_side"))
        return cls(records, landmarks, dropped, wrong_side, float(data["ignored_share"]))


@dataclass(frozen=True)
class _Described:
    """Description of the frames of a video for the writer."""

    name: str
    fps: float
    slots: tuple[str, ...]
    landmarks: tuple[str, ...]
    classes: tuple[str, ...]


def sequence_names(paths: Sequence[Path]) -> list[str]:
    """A distinct name for each video."""
    names: list[str] = []
    for path in paths:
        stem = path.resolve().name if path.is_dir() else path.stem
        names.append(stem if stem not in names else f"{stem}-{len(names) + 1}")
    return names


def read_or_make(readers: Sequence[VideoReader], tracker: Tracker, folder: Path, frames: int, least: int) -> PseudoLabels:
    """Make the pseudo-labels, or read those of an earlier call.

    Args:
        readers: The videos.
        tracker: The tracker with the old weights.
        folder: Folder of the dataset; a file ``folder.json`` beside it records what became of each frame.
        frames: Largest number of sampled frames.
        least: Smallest number of frames with instruments; with fewer, no dataset is written.

    Raises:
        DatasetError: A video cannot be decoded, or the disk is full.
        ConfigError: The record of an earlier call is damaged.
    """
    record = folder.with_suffix(".json")
    if record.is_file():
        try:
            made = PseudoLabels.from_dict(load_json(record))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{record} is damaged ({error!r}); remove the folder {folder.parent}.") from error
        if made.kept < least or folder.is_dir():
            return made
    shutil.rmtree(folder, ignore_errors=True)  # an earlier call was stopped before it wrote the record
    made = make(readers, tracker, folder, frames, least)
    write_json(record, made.to_dict())
    return made


def make(readers: Sequence[VideoReader], tracker: Tracker, folder: Path, frames: int, least: int) -> PseudoLabels:
    """Make the pseudo-labels; see :func:`read_or_make`."""
    instruments = tracker.model.instruments
    slots = tuple(f"instrument_{number}" for number in range(1, tracker.max_instruments + 1))
    names = sequence_names([reader.path for reader in readers])
    described = [
        _Described(name, reader.fps, slots, instruments.landmarks, instruments.classes)
        for name, reader in zip(names, readers, strict=True)
    ]
    wanted = sample_evenly([len(reader) for reader in readers], frames)
    writer = CocoWriter(folder, described, instruments.skeleton, description=f"pseudo-labels of {tracker.model.label}")
    try:
        tally = _Tally(writer, slots, instruments.num_landmarks)
        with tqdm(total=sum(map(len, wanted)), desc="pseudo-labels", unit="frame", disable=None) as bar:
            for video, (reader, name) in enumerate(zip(readers, names, strict=True)):
                for clip, image, verdict in _judged(reader, wanted[video], tracker):
                    tally.add(video, name, clip, image, verdict)
                    bar.update()
        made = tally.finish(readers, names, tracker.model.description.preprocessing)
        if made.kept < least:
            writer.abort()
        else:
            writer.close()
    except BaseException:
        writer.abort()
        raise
    return made


def _judged(reader: VideoReader, wanted: Sequence[int], tracker: Tracker) -> Iterator[tuple[Clip, Image, Verdict]]:
    """The sampled frames of a video: clip, image at the kept size, outcome of the checks."""
    instruments = tracker.model.instruments
    size = kept_size(reader.size, tracker.model.description.preprocessing)

    def predict(image: Image) -> Prediction:
        tracker.reset()
        return Prediction.of(tracker.track(image), instruments.num_landmarks)

    for clip in read_clips(reader, set(wanted)):
        image = resize_image(clip.image, size)
        frame = predict(image)
        mirror = predict(np.ascontiguousarray(image[:, ::-1])).mirrored(instruments)
        views = [View(mirror, frame.points, in_time=False)]
        for picture in clip.neighbours:
            small = resize_image(picture, size)
            views.append(view_in_time(frame, image, predict(small), small))
        yield clip, image, judge(frame, views, instruments)


def kept_size(source: Size, preprocessing: Preprocessing) -> Size:
    """(height, width) at which frames are kept: not enlarged, and at most ``KEPT_SCALE`` times the network's input."""
    height, width = preprocessing.input_size
    scale = KEPT_SCALE * float(np.sqrt(height * width / (source[0] * source[1])))
    return source if scale >= 1 else (round(source[0] * scale), round(source[1] * scale))


class _Tally:
    """Writes kept frames and counts all."""

    def __init__(self, writer: CocoWriter, slots: Sequence[str], marks: int) -> None:
        self._writer = writer
        self._slots = slots
        self._marks = marks
        self._records: list[FrameRecord] = []
        self._landmarks = self._dropped = self._wrong_side = 0
        self._ignored: list[float] = []

    def add(self, video: int, name: str, clip: Clip, image: Image, verdict: Verdict) -> None:
        """Count a frame, and write it if it is kept with instruments."""
        self._records.append(FrameRecord(video, clip.frame, verdict.reason))
        self._dropped += verdict.dropped
        self._wrong_side += verdict.wrong_side
        if verdict.reason is Reason.KEPT:
            self._landmarks += int(verdict.labelled.sum())
            self._ignored.append(float((verdict.label_map == IGNORE_LABEL).mean()))
            self._writer.write(self._sample(name, clip.frame, clip.stamp_ns, image, verdict))

    def finish(self, readers: Sequence[VideoReader], names: Sequence[str], preprocessing: Preprocessing) -> PseudoLabels:
        """Write the allowed number of frames without instruments, evenly chosen."""
        kept = sum(record.reason is Reason.KEPT for record in self._records)
        empty = [index for index, record in enumerate(self._records) if record.reason is Reason.KEPT_EMPTY]
        chosen = set(evenly(empty, int(kept * NEGATIVE_SHARE / (1 - NEGATIVE_SHARE))))
        for index in set(empty) - chosen:
            record = self._records[index]
            self._records[index] = FrameRecord(record.video, record.frame, Reason.SURPLUS_EMPTY)
        for video, (reader, name) in enumerate(zip(readers, names, strict=True)):
            wanted = {self._records[index].frame for index in chosen if self._records[index].video == video}
            size = kept_size(reader.size, preprocessing)
            for frame, stamp_ns, picture in read_frames(reader, wanted):
                self._writer.write(self._sample(name, frame, stamp_ns, resize_image(picture, size), None))
        share = float(np.mean(self._ignored)) if self._ignored else 0.0
        return PseudoLabels(tuple(self._records), self._landmarks, self._dropped, self._wrong_side, share)

    def _sample(self, name: str, frame: int, stamp_ns: int, image: Image, verdict: Verdict | None) -> Sample:
        """A frame with its labels; slots without an instrument are labelled as absent."""
        shape = (len(self._slots), self._marks)
        landmarks, labelled = np.full((*shape, 2), np.nan), np.ones(shape, bool)
        label_map = np.zeros(image.shape[:2], np.uint8)
        if verdict is not None:
            count = len(verdict.landmarks)
            landmarks[:count], labelled[:count], label_map = verdict.landmarks, verdict.labelled, verdict.label_map
        return Sample(image, label_map, landmarks, labelled, name, frame, stamp_ns)


def saw_nothing(made: PseudoLabels, video: int, count: int) -> tuple[int, ...]:
    """Frames of a video on which the old weights saw no instrument, at most ``count``, evenly spaced."""
    return evenly(made.frames_of(video, *SAW_NOTHING), count)
