"""Identity over time: which instrument of this frame is which of the last."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.pixels import Size

LATE_S = 0.035
"""A stamp that is older than the newest one by no more than this belongs to a late frame, s; by more, time went back.

A little more than a frame at 30 Hz: two publishers on one topic and a middleware that swaps two images stay below.
"""

_TURN = 0.2
_OPPOSITE = -0.3
"""Cosine of the angle between shafts from which on two instruments are hardly the same."""

_PATIENCE = 5
"""Frames for which an instrument may point the other way: at a crossing peaks are grouped wrongly now and then."""


@dataclass
class _Track:
    track_id: int
    slot: str
    points: FloatArray
    direction: FloatArray
    seen_s: float
    turned: int = 0

    def see(self, points: FloatArray, direction: FloatArray, stamp_s: float) -> None:
        """Take over what was seen; the direction follows slowly, and not at all where it points the other way."""
        seen = np.asarray(np.isfinite(points).all(axis=1))
        self.points = np.where(seen[:, None], points, self.points)
        self.seen_s = max(self.seen_s, stamp_s)
        if _cosine(direction, self.direction) < _OPPOSITE:
            self.turned += 1
            return
        self.turned = 0
        if np.isfinite(direction).all():
            known = bool(np.isfinite(self.direction).all())
            self.direction = self.direction + _TURN * (direction - self.direction) if known else direction


@dataclass(frozen=True)
class Identity:
    """Who an instrument is: its track's number, from 1, and its slot."""

    track_id: int
    slot: str


class TrackAssigner:
    """Gives instruments identities that last.

    Instruments are matched to the tracks of the last frames, the nearest pair first, where the distance is the mean over
    the landmarks that both have, made larger by a turn of the shaft: at a crossing the tips say little and the shafts all.
    A new instrument gets a new number, which no other gets until :meth:`reset`, and a slot.

    Args:
        slots: Names of the slots by where an instrument comes from: leftmost first.
        gate: Largest mean distance between frames, as a share of the image's diagonal.
        max_age_s: A track that was not seen for longer is forgotten.
    """

    def __init__(self, slots: Sequence[str] = ("left", "right"), gate: float = 0.25, max_age_s: float = 1.0) -> None:
        self.slots = tuple(slots)
        self.gate = gate
        self.max_age_s = max_age_s
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; numbers begin at 1 again."""
        self.tracks: list[_Track] = []
        self.next_id = 1
        self.last_s = -np.inf

    def update(
        self, instruments: Sequence[FloatArray], directions: Sequence[FloatArray], size: Size, stamp_s: float
    ) -> list[Identity]:
        """Give the instruments of one frame their identities.

        Args:
            instruments: For each its landmarks, float64 (landmarks, 2) in px, NaN where not seen.
            directions: For each the direction towards its tip, float64 (2,), NaN when unknown.
            size: (height, width) of the image, px.
            stamp_s: Time of the frame, s; when it jumps back by more than ``LATE_S`` all tracks end.

        Returns:
            One identity per instrument, in their order.
        """
        if stamp_s < self.last_s - LATE_S:
            self.tracks = []
            self.last_s = stamp_s
        self.last_s = max(self.last_s, stamp_s)
        self.tracks = [t for t in self.tracks if stamp_s - t.seen_s <= self.max_age_s]
        matches = self._match(instruments, directions, self.gate * math.hypot(*size))
        taken = {track.slot for track in matches.values()}
        origins = [_comes_from(points, d, size[1]) for points, d in zip(instruments, directions, strict=True)]
        fresh = sorted((k for k in range(len(instruments)) if k not in matches), key=lambda k: origins[k])
        for rank, k in enumerate(fresh):
            slot = self._slot(origins[k], len(instruments), rank, taken)
            # A track that is out of sight gives its slot back to who takes it.
            self.tracks = [t for t in self.tracks if t.slot != slot or any(t is m for m in matches.values())]
            matches[k] = _Track(self.next_id, slot, instruments[k], directions[k], stamp_s)
            self.tracks.append(matches[k])
            self.next_id += 1
            taken.add(slot)
        for k, track in matches.items():
            track.see(instruments[k], directions[k], stamp_s)
        return [Identity(matches[k].track_id, matches[k].slot) for k in range(len(instruments))]

    def _match(self, instruments: Sequence[FloatArray], directions: Sequence[FloatArray], gate: float) -> dict[int, _Track]:
        """Pair instruments and tracks, the nearest first, none farther apart than the gate or turned about for long."""
        pairs = []
        for row, (points, direction) in enumerate(zip(instruments, directions, strict=True)):
            for column, track in enumerate(self.tracks):
                distance, cosine = _distance(points, track.points), _cosine(direction, track.direction)
                if distance <= gate and (cosine >= _OPPOSITE or track.turned < _PATIENCE):
                    pairs.append((distance + 0.5 * gate * (1.0 - cosine), row, column))
        matches: dict[int, _Track] = {}
        used: set[int] = set()
        for _, row, column in sorted(pairs):
            if row not in matches and column not in used:
                matches[row] = self.tracks[column]
                used.add(column)
        return matches

    def _slot(self, origin: float, count: int, rank: int, taken: set[str]) -> str:
        free = [slot for slot in self.slots if slot not in taken]
        if not free:
            return next(name for k in itertools.count(1) if (name := f"extra{k}") not in taken)
        # Alone or beside a known one it goes by its own side; several new ones go by their order from left to right.
        wanted = min(rank if count > 1 and not taken else round(origin * (len(self.slots) - 1)), len(self.slots) - 1)
        return min(free, key=lambda slot: abs(self.slots.index(slot) - wanted))


def _distance(a: FloatArray, b: FloatArray) -> float:
    apart = [math.hypot(dx, dy) for dx, dy in (a - b).tolist()]
    both = [length for length in apart if math.isfinite(length)]
    return sum(both) / len(both) if both else math.inf


def _cosine(a: FloatArray, b: FloatArray) -> float:
    """Of the angle between two directions; 1 where one of them is unknown."""
    (ax, ay), (bx, by) = a.tolist(), b.tolist()
    length = math.hypot(ax, ay) * math.hypot(bx, by)
    return (ax * bx + ay * by) / length if math.isfinite(length) and length > 0 else 1.0


def _comes_from(points: FloatArray, direction: FloatArray, width: int) -> float:
    """Where the instrument comes from: 0 for the left border of the image, 1 for the right one."""
    seen = np.isfinite(points).all(axis=1)
    x = float(points[seen, 0].mean()) if seen.any() else 0.0
    dx = float(direction[0])
    if np.isfinite(dx) and dx != 0.0:
        return 0.0 if dx > 0 else 1.0
    return min(max(x / width, 0.0), 1.0)
