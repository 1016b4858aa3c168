"""Select frames of a video for labelling: uncertain ones that differ from each other and are not close in time.

Every frame gets three marks from 0 to 1:

* ``doubt``: one minus the mean confidence of the landmarks of all instruments; ``NOTHING_SEEN`` if none was found, which may be
  right or a miss;
* ``jump``: ``1 - exp(-d / l)``, with ``d`` the largest deviation of a landmark from linear motion over the last two evaluated
  frames, ``|p(t) - 2 p(t-1) + p(t-2)|``, and ``l`` the fraction ``JUMP`` of the image diagonal per frame between evaluated
  frames; at least ``COUNT_CHANGE`` if the number of instruments changes;
* ``mirror``: the same function of the mean distance between the landmarks found in the image and in its mirror image, with
  ``l`` for one frame; 1 if their numbers of instruments differ, 0 if not requested.

The score is ``1 - (1 - doubt)(1 - jump)(1 - mirror)``: one high mark is enough. A weighted, greedy k-centre selection chooses
the frames: first the highest score, then repeatedly the largest product of ``FLOOR + score`` and the distance to the nearest
chosen frame, among frames that keep the spacing in time. The distance is Euclidean between thumbnails: the image at
``THUMBNAIL`` px and the predicted instrument pixels at the same size, each from 0 to 1, divided by the square root of their
number.

Memory use is independent of the video's length: candidates are the best frames of time intervals, and neighbouring intervals
are merged when there are too many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.instruments import IGNORE_LABEL, InstrumentSet
from csl_tracker.pixels import Size
from csl_tracker.results import InstrumentEstimate, TrackingResult

NOTHING_SEEN = 0.5
COUNT_CHANGE = 0.5
JUMP = 0.05
FLOOR = 0.1
THUMBNAIL: Size = (12, 16)
"""(height, width), px."""

_CANDIDATES_EACH = 16
_MIN_CANDIDATES = 256


@dataclass(frozen=True)
class Candidate:
    """A frame that may be chosen.

    Attributes:
        frame: Index in the video, from 0.
        stamp_s: Seconds from the video's start.
        doubt: 0..1.
        jump: 0..1.
        mirror: 0..1.
        embedding: float32 (n,), the thumbnails.
        instruments: Instruments reported by the tracker.
    """

    frame: int
    stamp_s: float
    doubt: float
    jump: float
    mirror: float
    embedding: npt.NDArray[np.float32] = field(repr=False, compare=False)
    instruments: tuple[InstrumentEstimate, ...] = field(default=(), repr=False, compare=False)

    @property
    def score(self) -> float:
        """Value of labelling the frame, 0..1, independent of the other frames."""
        return 1.0 - (1.0 - self.doubt) * (1.0 - self.jump) * (1.0 - self.mirror)


@dataclass(frozen=True)
class Choice:
    """A chosen frame.

    Attributes:
        candidate: The frame.
        rank: Order of the choice, from 1.
        distance: Distance to the nearest frame chosen before; NaN for the first.
    """

    candidate: Candidate
    rank: int
    distance: float

    @property
    def reason(self) -> str:
        """The strongest reason, as text."""
        marks = {
            "low confidence": self.candidate.doubt,
            "pose jump": self.candidate.jump,
            "differs in the mirror": self.candidate.mirror,
        }
        if not self.candidate.instruments and self.candidate.doubt == max(marks.values()):
            return "no instrument found"
        if self.candidate.jump == COUNT_CHANGE == max(marks.values()):
            return "an instrument comes or goes"
        name = max(marks, key=lambda key: marks[key])
        return name if marks[name] >= 0.25 else "unlike the others"


class Judge:
    """Marks the frames of one video in order.

    Args:
        instruments: Landmarks of the model.
        size: (height, width) of the frames, px.
        every: Interval of the evaluated frames.
    """

    def __init__(self, instruments: InstrumentSet, size: Size, every: int = 1) -> None:
        self._flip = instruments.flip_permutation()
        self._size = size
        self._length = JUMP * math.hypot(*size)
        self._every = every
        self._before: list[dict[int, FloatArray]] = []

    def mark(
        self,
        frame: int,
        stamp_s: float,
        image: npt.NDArray[np.uint8],
        result: TrackingResult,
        mirrored: TrackingResult | None = None,
    ) -> Candidate:
        """Mark the next frame.

        Args:
            frame: Its index.
            stamp_s: Seconds from the video's start.
            image: uint8 (H, W, 3), RGB.
            result: The tracking result, with a label map if the model has classes.
            mirrored: The tracking result of the mirror image, or None.
        """
        points = {item.track_id: _points(item) for item in result.instruments}
        candidate = Candidate(
            frame,
            stamp_s,
            doubt=_doubt(result),
            jump=self._jump(points),
            mirror=0.0 if mirrored is None else self._disagreement(points, mirrored),
            embedding=embed(image, result.label_map),
            instruments=result.instruments,
        )
        self._before = [points, *self._before[:1]]
        return candidate

    def _jump(self, points: dict[int, FloatArray]) -> float:
        if not self._before:
            return 0.0
        change = COUNT_CHANGE if len(points) != len(self._before[0]) else 0.0
        if len(self._before) < 2:
            return change
        one, two = self._before
        steps = [now - 2 * one[key] + two[key] for key, now in points.items() if key in one and key in two]
        lengths = [float(length) for step in steps for length in np.linalg.norm(step, axis=1) if math.isfinite(length)]
        return max([change, *(1.0 - math.exp(-length / (self._length * self._every)) for length in lengths)])

    def _disagreement(self, points: dict[int, FloatArray], mirrored: TrackingResult) -> float:
        if not points and not mirrored.instruments:
            return 0.0
        others = []
        for item in mirrored.instruments:
            flipped = _points(item)[self._flip]
            flipped[:, 0] = self._size[1] - 1 - flipped[:, 0]
            others.append(flipped)
        if len(others) != len(points):
            return 1.0
        found = []
        for own in points.values():
            means = [np.linalg.norm(own - other, axis=1) for other in others]
            known = [float(np.mean(d[np.isfinite(d)])) for d in means if np.isfinite(d).any()]
            found.append(min(known, default=self._length))
        return 1.0 - math.exp(-float(np.mean(found)) / self._length)


class Pool:
    """The best candidate of each time interval, up to a fixed number.

    Args:
        count: Number of frames to choose in the end.
        spacing_s: Shortest time between two of them, s; the initial interval is half of it.
    """

    def __init__(self, count: int, spacing_s: float) -> None:
        self._limit = max(_MIN_CANDIDATES, _CANDIDATES_EACH * count)
        self._stretch = max(spacing_s / 2, 1e-3)
        self._best: dict[int, Candidate] = {}

    def __len__(self) -> int:
        """Number of candidates."""
        return len(self._best)

    def add(self, candidate: Candidate) -> None:
        """Add a candidate."""
        self._keep(self._best, candidate)
        while len(self._best) > self._limit:
            self._stretch *= 2
            kept: dict[int, Candidate] = {}
            for other in self._best.values():
                self._keep(kept, other)
            self._best = kept

    def candidates(self) -> list[Candidate]:
        """All candidates in order of time."""
        return sorted(self._best.values(), key=lambda item: item.frame)

    def _keep(self, best: dict[int, Candidate], candidate: Candidate) -> None:
        key = int(candidate.stamp_s // self._stretch)
        if key not in best or candidate.score > best[key].score:
            best[key] = candidate


def choose(candidates: Sequence[Candidate], count: int, spacing_s: float) -> list[Choice]:
    """Choose frames by the module's rule; of equal frames the earlier one.

    Args:
        candidates: In order of time.
        count: Largest number of frames; the spacing may allow fewer.
        spacing_s: Shortest time between two of them, s.

    Returns:
        Choices, in order of rank.
    """
    if not candidates or count < 1:
        return []
    embeddings = np.stack([item.embedding for item in candidates]).astype(np.float64)
    scores = np.array([item.score for item in candidates])
    stamps = np.array([item.stamp_s for item in candidates])
    distances = np.full(len(candidates), math.inf)
    free = np.ones(len(candidates), bool)
    choices: list[Choice] = []
    while len(choices) < count and free.any():
        gain = scores if not choices else (FLOOR + scores) * distances
        best = int(np.argmax(np.where(free, gain, -math.inf)))
        choices.append(Choice(candidates[best], len(choices) + 1, float(distances[best]) if choices else math.nan))
        free &= np.abs(stamps - stamps[best]) >= spacing_s - 1e-9
        free[best] = False
        distances = np.minimum(distances, np.linalg.norm(embeddings - embeddings[best], axis=1))
    return choices


def embed(image: npt.NDArray[np.uint8], label_map: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.float32]:
    """Thumbnails of an image and its instrument pixels; their Euclidean distance measures how much two frames differ.

    Args:
        image: uint8 (H, W, 3), RGB.
        label_map: uint8 (H, W); None counts as background.

    Returns:
        float32 (4 x 12 x 16,); distances are at most 1.
    """
    size = (THUMBNAIL[1], THUMBNAIL[0])
    parts = [cv2.resize(image, size, interpolation=cv2.INTER_AREA).ravel()]
    if label_map is None:
        parts.append(np.zeros(THUMBNAIL[0] * THUMBNAIL[1], np.uint8))
    else:
        tool = np.where((label_map > 0) & (label_map != IGNORE_LABEL), 255, 0).astype(np.uint8)
        parts.append(cv2.resize(tool, size, interpolation=cv2.INTER_AREA).ravel())
    flat = np.concatenate(parts).astype(np.float32) / 255
    return np.asarray(flat / np.float32(math.sqrt(flat.size)), np.float32)


def _points(item: InstrumentEstimate) -> FloatArray:
    return np.array([(mark.x, mark.y) if mark.visible else (math.nan, math.nan) for mark in item.landmarks]).reshape(-1, 2)


def _doubt(result: TrackingResult) -> float:
    confidences = [mark.confidence for item in result.instruments for mark in item.landmarks]
    return 1.0 - float(np.mean(confidences)) if confidences else NOTHING_SEEN
