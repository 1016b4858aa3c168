"""Gathers peaks and pixels into instruments by where they point.

A network with an association predicts, for each pixel of an instrument, the offset to the instrument's anchor landmark. A peak
therefore votes for a place, and the peaks of one instrument vote for the same one. An anchor peak is a place itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from csl_tracker.arrays import Float32Array, FloatArray, LabelMap, Mask
from csl_tracker.grouping import MIN_LANDMARKS, Group
from csl_tracker.heatmaps import Peak
from csl_tracker.instruments import InstrumentSet

CANDIDATES = 8
"""Peaks of each landmark that are considered."""
_NEAR_PX = 5.0
"""Error of the vote of a peak at its anchor, heatmap px."""
_SHARE = 0.25
"""Growth of that error with the length of the offset."""
_DOUBT = 0.6
"""Cost of a peak without any confidence, in errors."""
_RIVAL = 1.6
"""Distance from an instrument, in errors, within which another peak of its landmark is no second instrument."""
_PIXEL_REACH = 1.6
"""Largest distance of a pixel's vote from its instrument, in errors."""


@dataclass(frozen=True)
class Association:
    """Instruments of one frame.

    Attributes:
        groups: Peaks of each instrument, the most confident instrument first.
        anchors: Where each one's peaks point, float64 (instruments, 2), heatmap px.
    """

    groups: list[Group]
    anchors: FloatArray


@dataclass(frozen=True)
class _Candidates:
    """All peaks: landmark, place, vote and its error, confidence; one row each."""

    peaks: list[Peak]
    landmark: list[int]
    votes: FloatArray
    errors: FloatArray


class Associator:
    """Groups peaks by their votes.

    Args:
        instruments: Landmarks and skeleton.
        max_instruments: Maximum number of instruments.
        threshold: Minimum confidence of a visible landmark.
    """

    def __init__(self, instruments: InstrumentSet, max_instruments: int, threshold: float) -> None:
        self.anchor = instruments.anchor
        self.count = instruments.num_landmarks
        self.max_instruments = max_instruments
        self.threshold = threshold
        self.min_landmarks = min(MIN_LANDMARKS, self.count)

    def group(self, peaks: Sequence[Sequence[Peak]], offsets: Float32Array) -> Association:
        """Group the peaks of one frame.

        Args:
            peaks: Peaks of each landmark, heatmap px.
            offsets: float32 (2, h, w), offset of each pixel to its anchor, heatmap px.

        Returns:
            Instruments with at least two visible landmarks; no peak is used twice.
        """
        found = _candidates(peaks, offsets, self.anchor)
        free = set(range(len(found.peaks)))
        groups: list[dict[int, int]] = []
        places: list[FloatArray] = []
        for k in sorted(free, key=lambda k: (found.landmark[k] != self.anchor, -found.peaks[k].confidence)):
            if k not in free or found.peaks[k].confidence < self.threshold:
                continue
            chosen = self._around(found, k, free)
            if sum(found.peaks[j].confidence >= self.threshold for j in chosen.values()) < self.min_landmarks:
                continue
            groups.append(chosen)
            places.append(_place(found, chosen, self.anchor))
            free -= set(chosen.values())
            free -= self._rivals(found, chosen, free)
        weights = [sum(found.peaks[j].confidence for j in chosen.values()) for chosen in groups]
        order = sorted(range(len(groups)), key=lambda g: -weights[g])[: self.max_instruments]
        return Association(
            [[found.peaks[groups[g][i]] if i in groups[g] else None for i in range(self.count)] for g in order],
            np.array([places[g] for g in order]).reshape(-1, 2),
        )

    def _around(self, found: _Candidates, seed: int, free: set[int]) -> dict[int, int]:
        """Landmark -> the cheapest free peak that votes for the seed's place, the seed included.

        Another anchor peak that is nearer to a vote keeps it.
        """
        chosen = {found.landmark[seed]: seed}
        place = found.votes[seed]
        rivals = [k for k in free if found.landmark[k] == self.anchor and k != seed and found.landmark[seed] == self.anchor]
        best: dict[int, float] = {}
        for k in free:
            landmark = found.landmark[k]
            if landmark in (found.landmark[seed], self.anchor):
                continue
            error = math.hypot(*(found.votes[k] - place)) / max(found.errors[k], found.errors[seed])
            nearer = any(math.hypot(*(found.votes[k] - found.votes[r])) / found.errors[k] < error for r in rivals)
            cost = error + _DOUBT * (1 - found.peaks[k].confidence)
            if error < 1 and not nearer and cost < best.get(landmark, math.inf):
                best[landmark], chosen[landmark] = cost, k
        return chosen

    def _rivals(self, found: _Candidates, chosen: dict[int, int], free: set[int]) -> set[int]:
        """Free peaks that compete with those of an instrument: they vote for its place, and its landmark is taken."""
        place = _place(found, chosen, self.anchor)
        near = {k for k in free if found.landmark[k] in chosen and _far(found, k, place) < _RIVAL}
        anchors = [found.votes[k] for k in free - near if found.landmark[k] == self.anchor]
        return {
            k
            for k in near
            if found.landmark[k] == self.anchor or all(_far(found, k, place) <= _far(found, k, other) for other in anchors)
        }


def _far(found: _Candidates, k: int, place: FloatArray) -> float:
    """Distance of a vote from a place, in its error."""
    return float(math.hypot(*(found.votes[k] - place)) / found.errors[k])


def _candidates(peaks: Sequence[Sequence[Peak]], offsets: Float32Array, anchor: int) -> _Candidates:
    flat = [(landmark, peak) for landmark, ones in enumerate(peaks) for peak in ones]
    places = np.array([(peak.x, peak.y) for _, peak in flat], np.float64).reshape(-1, 2)
    at, unused = places.astype(np.float32).reshape(-1, 1, 2), np.empty(0, np.float32)
    pointed = np.zeros_like(places)
    if flat:
        maps = np.ascontiguousarray(np.moveaxis(offsets, 0, -1))
        pointed[:] = cv2.remap(maps, at, unused, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).reshape(-1, 2)
    own = np.array([landmark == anchor for landmark, _ in flat], bool)[:, None]
    pointed = np.where(own, 0.0, pointed)
    return _Candidates(
        [peak for _, peak in flat],
        [landmark for landmark, _ in flat],
        places + pointed,
        _NEAR_PX + _SHARE * np.hypot(pointed[:, 0], pointed[:, 1]),
    )


def _place(found: _Candidates, chosen: dict[int, int], anchor: int) -> FloatArray:
    """The anchor peak, or else the mean of the votes, weighted by their certainty."""
    if anchor in chosen:
        return np.asarray(found.votes[chosen[anchor]], np.float64)
    rows = list(chosen.values())
    return np.asarray(np.average(found.votes[rows], axis=0, weights=found.errors[rows] ** -2), np.float64)


def instance_map(offsets: Float32Array, tool: Mask, anchors: FloatArray) -> LabelMap:
    """The instrument of each pixel.

    Args:
        offsets: float32 (2, h, w), heatmap px.
        tool: bool (h, w), pixels of instruments.
        anchors: float64 (instruments, 2), heatmap px.

    Returns:
        uint8 (h, w): k for instrument k - 1; 0 for the background and for pixels that point to none.
    """
    result = np.zeros(tool.shape, np.uint8)
    if not len(anchors):
        return result
    rows, columns = np.nonzero(tool)
    dx, dy = offsets[0, rows, columns], offsets[1, rows, columns]
    reach = _PIXEL_REACH * (_NEAR_PX + _SHARE * np.hypot(dx, dy))
    distance = np.stack([np.hypot(columns + dx - x, rows + dy - y) for x, y in anchors])
    nearest = distance.argmin(axis=0)
    result[rows, columns] = np.where(distance.min(axis=0) < reach, nearest + 1, 0)
    return result
