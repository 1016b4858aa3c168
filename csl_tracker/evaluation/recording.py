"""Figures and an overlay video of what a tracker said about a bag's frames, from the bag and the recording of its replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from csl_tracker.bags.messages import GroundTruth, read_truth_array
from csl_tracker.bags.reader import BagFrame, BagReader
from csl_tracker.bags.recording import Replayed, first_answers, label_map, read_recording
from csl_tracker.datasets.registry import select_landmarks
from csl_tracker.datasets.sample import Sample
from csl_tracker.drawing import draw_overlay
from csl_tracker.errors import BagError
from csl_tracker.evaluation.sequence import SequenceEvaluator
from csl_tracker.instruments import InstrumentSet
from csl_tracker.pixels import Size
from csl_tracker.video import VideoWriter

Image = npt.NDArray[np.uint8]
PERCENTILES = (50, 95, 99)


class BagSequence:
    """The labelled frames of a bag as a :class:`csl_tracker.datasets.sample.Sequence`.

    Attributes:
        name: Name of the bag.
        landmarks: Of the first annotation.
        classes: As given; a bag does not name them.
        slots: Of the first annotation.
        fps: Median pace of the first frames.
        size: (height, width) of the first image, px.
    """

    def __init__(self, path: Path, topic: str | None, decode: Callable[[Any], Image], classes: tuple[str, ...]) -> None:
        """Look at the beginning of the bag.

        Args:
            path: The bag.
            topic: Topic of the images; None takes the only one.
            decode: From an image message to uint8 (H, W, 3), RGB.
            classes: Names of the label values.

        Raises:
            BagError: The bag cannot be read or has no images.
            ImageError: The first image cannot be used.
        """
        self._path = path
        self._topic = topic
        self._decode = decode
        self.name = path.stem
        self.classes = classes
        self.landmarks: tuple[str, ...] = ()
        self.slots: tuple[str, ...] = ()
        self.size: Size = (0, 0)
        self.fps = 25.0
        stamps: list[int] = []
        with BagReader(path) as bag:
            self._length = bag.count(bag.image_topic(topic))
            for frame in bag.frames(topic):
                if not stamps:
                    self.size = decode(bag.deserialize(frame.image)).shape[:2]
                stamps.append(frame.stamp_ns)
                if not self.landmarks and frame.truth_poses is not None:
                    truth = read_truth_array(bag.deserialize(frame.truth_poses))
                    self.landmarks, self.slots = truth.names, truth.slots
                if len(stamps) >= 20:
                    break
        steps = np.diff(stamps)
        if len(steps) and np.median(steps) > 0:
            self.fps = float(np.clip(1e9 / np.median(steps), 1.0, 240.0))

    @property
    def labelled(self) -> bool:
        """Whether the bag holds annotated landmarks."""
        return bool(self.landmarks)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sample]:
        with BagReader(self._path) as bag:
            for index, frame in enumerate(bag.frames(self._topic)):
                yield self.sample(bag, frame, index)

    def sample(self, bag: BagReader, frame: BagFrame, index: int) -> Sample:
        """One frame with its annotations; without any, nothing is labelled."""
        image = self._decode(bag.deserialize(frame.image))
        truth: GroundTruth | None = None
        if frame.truth_poses is not None:
            truth = read_truth_array(bag.deserialize(frame.truth_poses))
        shape = (len(self.slots), len(self.landmarks))
        known = truth is not None and truth.landmarks.shape[:2] == shape
        return Sample(
            image=image,
            label_map=None if frame.truth_segmentation is None else label_map(bag.deserialize(frame.truth_segmentation)),
            landmarks=truth.landmarks if known and truth is not None else np.full((*shape, 2), np.nan),
            labelled=truth.labelled if known and truth is not None else np.zeros(shape, bool),
            sequence=self.name,
            frame=index,
            stamp_ns=frame.stamp_ns,
        )


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        frames: Frames that were to be tracked.
        answered: Frames for which a pose array came.
        instruments: Instrument poses in all these arrays.
        resent: Publications beyond the first of a frame.
        model: Name and hash of the weights, as the messages say.
        latency_ms: From an image's publication to the reception of its pose array: p50, p95, p99, mean, max; None without.
        processing_ms: The tracker's own time for a frame: p50, p95, p99; None without.
        accuracy: Report of :class:`csl_tracker.evaluation.sequence.SequenceEvaluator`; None without ground truth.
    """

    frames: int
    answered: int
    instruments: int
    resent: int
    model: str
    latency_ms: dict[str, float | None]
    processing_ms: dict[str, float | None]
    accuracy: dict[str, Any] | None


def evaluate_recording(
    sequence: BagSequence,
    frames_bag: Path,
    recording: Path,
    instruments: InstrumentSet,
    topic: str | None = None,
    limit: int | None = None,
    overlay: Path | None = None,
) -> Figures:
    """Join a bag's frames with the recorded answers; one frame is in memory at a time.

    Args:
        sequence: The frames as samples.
        frames_bag: The bag of the frames.
        recording: The bag that the replay wrote.
        instruments: Landmarks and classes of the model.
        topic: Topic of the images.
        limit: Number of frames that were replayed; None for all.
        overlay: Video to write; None writes none.

    Raises:
        BagError: A bag cannot be read, or its images are to become a video and change their size.
        WeightsError: The model has other landmarks or classes than the annotation.
    """
    evaluator = SequenceEvaluator(sequence, instruments) if sequence.labelled else None
    selected = select_landmarks(sequence, instruments) if sequence.labelled else None
    total = len(sequence) if limit is None else min(limit, len(sequence))
    latencies: list[float] = []
    processing: list[float] = []
    found = resent = 0
    model = ""

    def counted(recorded: Iterator[Replayed]) -> Iterator[Replayed]:
        nonlocal resent
        last: int | None = None
        for replayed in recorded:
            resent += replayed.source_ns == last
            last = replayed.source_ns
            yield replayed

    writer = None if overlay is None else VideoWriter(overlay, sequence.fps)
    try:
        with BagReader(frames_bag) as bag, BagReader(recording) as answers_bag:
            pairs = _join(bag, topic, first_answers(counted(read_recording(answers_bag))), total)
            for index, (frame, answer) in enumerate(
                tqdm(pairs, total=total, desc="figures and overlay", unit="frame", leave=False)
            ):
                if answer is None or answer.result is None or answer.latency_ms is None:
                    continue
                sample = sequence.sample(bag, frame, index)
                if writer is not None and sample.image.shape[:2] != sequence.size:
                    raise BagError(
                        f"Image {index} of the bag {frames_bag} has {sample.image.shape[1]}x{sample.image.shape[0]} px and the"
                        f" first one {sequence.size[1]}x{sequence.size[0]}, so that they make no video; split the bag where the"
                        " size changes."
                    )
                latencies.append(answer.latency_ms)
                processing.append(answer.result.processing_time_s * 1e3)
                found += len(answer.result.instruments)
                model = answer.model
                if evaluator is not None:
                    evaluator.add(sample, answer.result)
                if writer is not None:
                    truth = None if selected is None else selected.convert(sample).landmarks
                    writer.write(draw_overlay(sample.image, answer.result, instruments, truth))
        if writer is not None:
            writer.close()
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    return Figures(
        frames=total,
        answered=len(latencies),
        instruments=found,
        resent=resent,
        model=model,
        latency_ms={
            **_percentiles(latencies),
            "mean": float(np.mean(latencies)) if latencies else None,
            "max": max(latencies) if latencies else None,
        },
        processing_ms=_percentiles(processing),
        accuracy=None if evaluator is None else evaluator.report(),
    )


def _percentiles(values: list[float]) -> dict[str, float | None]:
    return {f"p{q}": float(np.percentile(values, q)) if values else None for q in PERCENTILES}


def _join(
    bag: BagReader, topic: str | None, answers: Iterator[Replayed], total: int
) -> Iterator[tuple[BagFrame, Replayed | None]]:
    """Each frame with its answer; both come in the order of the frames, so that neither has to be kept."""
    answer = next(answers, None)
    for index, frame in enumerate(bag.frames(topic)):
        if index >= total:
            return
        if answer is not None and answer.source_ns == frame.stamp_ns:
            yield frame, answer
            answer = next(answers, None)
        else:
            yield frame, None
