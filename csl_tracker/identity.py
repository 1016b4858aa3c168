"""Identity over time: matches the instruments of a frame to those of earlier frames."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from csl_tracker.arrays import FloatArray
from csl_tracker.pixels import Size

LATE_S = 0.035
"""Maximum age of a late frame relative to the newest timestamp, s; older timestamps mean that time jumped backwards.

Slightly more than a frame at 30 Hz, which covers two publishers on one topic and middleware that swaps two images.
"""

_DIRECTION_GAIN = 0.2
_OPPOSITE = -0.3
"""Below this cosine between shaft directions, two instruments are unlikely to be the same."""

_PATIENCE = 5
"""Frames for which an instrument may point the opposite way: at crossings, peaks are sometimes grouped wrongly."""


@dataclass
class _Track:
    track_id: int
    slot: str
    points: FloatArray
    direction: FloatArray
    seen_s: float
    turned: int = 0

    def see(self, points: FloatArray, direction: FloatArray, stamp_s: float) -> None:
        """Update the track with a measurement; the direction is low-pass filtered and ignores opposite directions."""
        seen = np.asarray(np.isfinite(points).all(axis=1))
        self.points = np.where(seen[:, None], points, self.points)
        self.seen_s = max(self.seen_s, stamp_s)
        if _cosine(direction, self.direction) < _OPPOSITE:
            self.turned += 1
            return
        self.turned = 0
        if np.isfinite(direction).all():
            known = bool(np.isfinite(self.direction).all())
            self.direction = self.direction + _DIRECTION_GAIN * (direction - self.direction) if known else direction


@dataclass(frozen=True)
class Identity:
    """Track number (from 1) and slot of an instrument."""

    track_id: int
    slot: str


class TrackAssigner:
    """Assigns persistent identities to instruments.

    Greedy matching of instruments to tracks, nearest pair first. The distance is the mean over the common landmarks plus a
    penalty for a change of the shaft direction, which disambiguates crossings better than the tips. A new instrument gets a
    slot and a new number that is not reused until :meth:`reset`.

    Args:
        slots: Slot names ordered by the side an instrument comes from, leftmost first.
        gate: Maximum mean distance between frames, as a fraction of the image diagonal.
        max_age_s: Tracks not seen for longer are deleted.
    """

    def __init__(self, slots: Sequence[str] = ("left", "right"), gate: float = 0.25, max_age_s: float = 1.0) -> None:
        self.slots = tuple(slots)
        self.gate = gate
        self.max_age_s = max_age_s
        self.reset()

    def reset(self) -> None:
        """Delete all tracks and restart the numbers at 1."""
        self.tracks: list[_Track] = []
        self.next_id = 1
        self.last_s = -np.inf

    def update(
        self, instruments: Sequence[FloatArray], directions: Sequence[FloatArray], size: Size, stamp_s: float
    ) -> list[Identity]:
        """Assign identities to the instruments of one frame.

        Args:
            instruments: Landmarks of each, float64 (landmarks, 2) in px, NaN if not visible.
            directions: Direction towards the tip of each, float64 (2,), NaN if unknown.
            size: (height, width) of the image, px.
            stamp_s: Time of the frame, s; a jump back by more than ``LATE_S`` ends all tracks.

        Returns:
            One identity per instrument, in the same order.
        """
        if stamp_s < self.last_s - LATE_S:
            self.tracks = []
            self.last_s = stamp_s
        self.last_s = max(self.last_s, stamp_s)
        self.tracks = [t for t in self.tracks if stamp_s - t.seen_s <= self.max_age_s]
        matches = self._match(instruments, directions, self.gate * math.hypot(*size))
        taken = {track.slot for track in matches.values()}
        origins = [_origin(points, d, size[1]) for points, d in zip(instruments, directions, strict=True)]
        fresh = sorted((k for k in range(len(instruments)) if k not in matches), key=lambda k: origins[k])
        for rank, k in enumerate(fresh):
            slot = self._slot(origins[k], len(instruments), rank, taken)
            # An unmatched track loses its slot to the new instrument.
            self.tracks = [t for t in self.tracks if t.slot != slot or any(t is m for m in matches.values())]
            matches[k] = _Track(self.next_id, slot, instruments[k], directions[k], stamp_s)
            self.tracks.append(matches[k])
            self.next_id += 1
            taken.add(slot)
        for k, track in matches.items():
            track.see(instruments[k], directions[k], stamp_s)
        return [Identity(matches[k].track_id, matches[k].slot) for k in range(len(instruments))]

    def _match(self, instruments: Sequence[FloatArray], directions: Sequence[FloatArray], gate: float) -> dict[int, _Track]:
        """Pair instruments and tracks, nearest first; rejects pairs beyond the gate or reversed for too long."""
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
        # A single new instrument takes the slot of its side; several take slots from left to right.
        wanted = rank if count > 1 and not taken else round(origin * (len(self.slots) - 1))
        return min(free, key=lambda slot: abs(self.slots.index(slot) - wanted))


def _distance(a: FloatArray, b: FloatArray) -> float:
    apart = [math.hypot(dx, dy) for dx, dy in (a - b).tolist()]
    both = [length for length in apart if math.isfinite(length)]
    return sum(both) / len(both) if both else math.inf


def _cosine(a: FloatArray, b: FloatArray) -> float:
    """Cosine of the angle between two directions; 1 if one is unknown."""
    (ax, ay), (bx, by) = a.tolist(), b.tolist()
    length = math.hypot(ax, ay) * math.hypot(bx, by)
    return (ax * bx + ay * by) / length if math.isfinite(length) and length > 0 else 1.0


def _origin(points: FloatArray, direction: FloatArray, width: int) -> float:
    """Side the instrument comes from: 0 for the left image border, 1 for the right."""
    seen = np.isfinite(points).all(axis=1)
    x = float(points[seen, 0].mean()) if seen.any() else 0.0
    dx = float(direction[0])
    if np.isfinite(dx) and dx != 0.0:
        return 0.0 if dx > 0 else 1.0
    return min(max(x / width, 0.0), 1.0)
