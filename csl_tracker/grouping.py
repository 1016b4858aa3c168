"""Groups the peaks of all landmarks into instruments."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from csl_tracker.heatmaps import Peak
from csl_tracker.instruments import InstrumentSet

Group = list["Peak | None"]
"""One instrument: a peak, or None, for every landmark."""

_DOUBT_COST = 2.0
"""Cost of a peak with zero confidence; an edge as long as the image diagonal costs 1."""
_OFF_TOOL_COST = 0.3
_HOP_COST = 0.05
_MAX_COST = 0.5
ALONG_LINE = np.linspace(0.0, 1.0, 9)
"""Sample positions on the line between two peaks, as fractions of its length."""
_BEND_COST = 0.1
_REGRESSED_SIGMA_PX = 8.0
"""Assumed standard deviation of a regressed landmark, heatmap px: regression estimates no uncertainty."""
_MOST_EXCHANGED = 8
"""Maximum landmarks for the exhaustive exchange between two instruments."""
_MOST_PAIRS = 256
MIN_LANDMARKS = 2
"""Minimum visible landmarks of an instrument (fewer if the model has fewer)."""


Costs = list[list[float]]
"""Cost of joining any two peaks. Nested lists: for few peaks, list indexing is faster than array indexing."""


class ForegroundMap(Protocol):
    """Foreground probability, float32 (h, w): an array or an object indexed like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w)."""

    def __getitem__(self, at: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]], /) -> npt.NDArray[np.float32]:
        """Values at (rows, columns)."""


@dataclass(frozen=True)
class LineSupport:
    """Mean foreground probability along the line between any two peaks, computed on the network's device.

    Attributes:
        shape: (h, w) of the heatmaps.
        values: float64 (landmarks, count, landmarks, count), indexed by landmark and rank of both peaks; NaN if the
            skeleton does not connect them.
    """

    shape: tuple[int, int]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Pairs:
    """Index pairs (one < other) of peaks connected by the skeleton, with the number of edges between their landmarks."""

    one: npt.NDArray[np.intp]
    other: npt.NDArray[np.intp]
    hops: npt.NDArray[np.float64]


class _Pool:
    """Peaks that are not assigned to an instrument yet.

    Args:
        peaks: Peaks of each landmark, highest first.
        most: Maximum number of peaks per landmark.

    Attributes:
        peaks: Peaks of all landmarks.
        landmark: Landmark of each peak.
        rank: Rank of each peak within its landmark; 0 is the highest.
        confidence: Confidence of each peak.
        free: Landmark -> indices of its unassigned peaks; landmarks without any are absent.
    """

    def __init__(self, peaks: Sequence[Sequence[Peak]], most: int) -> None:
        items = [(i, rank, peak) for i, found in enumerate(peaks) for rank, peak in enumerate(found[:most])]
        self.peaks = [peak for _, _, peak in items]
        self.landmark = [i for i, _, _ in items]
        self.rank = [rank for _, rank, _ in items]
        self.confidence = [peak.confidence for peak in self.peaks]
        self.free: dict[int, list[int]] = {}
        for k, i in enumerate(self.landmark):
            self.free.setdefault(i, []).append(k)

    def of(self, free: dict[int, list[int]]) -> _Pool:
        """The pool with other free peaks."""
        pool = copy.copy(self)
        pool.free = free
        return pool

    def without(self, taken: Iterable[int]) -> _Pool:
        """The pool without the taken peaks."""
        assigned = set(taken)
        left = {i: [k for k in ks if k not in assigned] for i, ks in self.free.items()}
        return self.of({i: ks for i, ks in left.items() if ks})


def skeleton_hops(instruments: InstrumentSet) -> npt.NDArray[np.float64]:
    """Number of skeleton edges between any two landmarks; 1 for all pairs without a skeleton."""
    count = instruments.num_landmarks
    if not instruments.skeleton:
        return np.ones((count, count))
    hops = np.full((count, count), np.inf)
    np.fill_diagonal(hops, 0.0)
    for a, b in instruments.skeleton:
        i, j = instruments.landmarks.index(a), instruments.landmarks.index(b)
        hops[i, j] = hops[j, i] = 1.0
    for via in range(count):
        hops = np.minimum(hops, hops[:, via, None] + hops[None, via, :])
    return hops


class Grouper:
    """Joins peaks along the skeleton.

    An instrument is a choice of one peak per landmark. Its cost is the missing confidence of its peaks plus, for each skeleton
    edge, the distance (relative to the image diagonal) and the share of the line between the peaks outside the segmented
    instrument. This is a pictorial structure (Felzenszwalb and Huttenlocher 2005); dynamic programming finds the exact
    optimum. Missing landmarks are bridged at a cost per hop. Instruments are extracted one after the other. Finally, pairs of
    instruments exchange landmarks if that lowers their joint cost: where tips cross, the nearest tip often belongs to the
    other instrument.

    Args:
        instruments: Landmarks and skeleton.
        max_instruments: Maximum number of instruments; with 1, the highest peak of each landmark is used, as in the paper.
        threshold: Minimum confidence of a visible landmark.
        min_landmarks: Minimum visible landmarks of an instrument.
    """

    def __init__(
        self, instruments: InstrumentSet, max_instruments: int, threshold: float, min_landmarks: int = MIN_LANDMARKS
    ) -> None:
        self.count = instruments.num_landmarks
        self.max_instruments = max_instruments
        self.threshold = threshold
        self.min_landmarks = min(min_landmarks, self.count)
        self.hops = skeleton_hops(instruments)
        self.edges = [(i, j) for i, j in itertools.combinations(range(self.count), 2) if self.hops[i, j] == 1]
        self.chains = instruments.chains()
        self._pairs: dict[tuple[int, ...], _Pairs] = {}
        self._trees: dict[tuple[int, ...], list[tuple[int, int | None]]] = {}

    def group(
        self, peaks: Sequence[Sequence[Peak]], foreground: ForegroundMap | LineSupport, always_report: bool = False
    ) -> list[Group]:
        """Group the peaks of one image.

        Args:
            peaks: Peaks of each landmark, highest first.
            foreground: (h, w), foreground probability on the heatmap grid, or its samples along lines.
            always_report: Return ``max_instruments`` groups if there are enough peaks, regardless of confidence.

        Returns:
            Groups, most confident first. Landmarks that are not visible get the best matching peak below the threshold, if any.
        """
        if self.max_instruments == 1:
            best: Group = [found[0] if found else None for found in peaks]
            if self._seen(best) >= self.min_landmarks or (always_report and any(best)):
                return [best]
            return []
        pool = _Pool(peaks, self.max_instruments)
        costs = self._costs(pool, foreground)
        groups: list[dict[int, int]] = []
        while len(groups) < self.max_instruments:
            if not always_report and self._seen_free(pool) < self.min_landmarks:
                break
            chosen = self._cheapest(pool, costs)
            if not always_report:
                chosen = self._drop_distant(chosen, pool, costs)
            if not chosen:
                break
            groups.append(chosen)
            pool = pool.without(chosen.values())
        seen = [sum(pool.confidence[k] >= self.threshold for k in group.values()) for group in groups]
        real = [group for group, count in zip(groups, seen, strict=True) if count >= self.min_landmarks]
        for one, other in itertools.combinations(real, 2):
            self._exchange(one, other, pool, costs)
        complete: list[Group] = [[pool.peaks[group[i]] if i in group else None for i in range(self.count)] for group in groups]
        return sorted(complete, key=_weight, reverse=True)

    def group_regressed(self, points: npt.NDArray[np.float32], always_report: bool = False) -> list[Group]:
        """Group the output of a regression network.

        Args:
            points: float32 (slots, landmarks, 3): x and y in heatmap px, and the visibility probability.
            always_report: Return ``max_instruments`` groups if there are enough slots, regardless of confidence.

        Returns:
            Groups, most confident first.
        """
        groups: list[Group] = [
            [Peak(float(x), float(y), _REGRESSED_SIGMA_PX**2 * np.eye(2), float(seen)) for x, y, seen in slot]
            for slot in points
        ]
        order = sorted(groups, key=_weight, reverse=True)
        if not always_report:
            order = [group for group in order if self._seen(group) >= self.min_landmarks]
        return order[: self.max_instruments]

    def _exchange(self, one: dict[int, int], other: dict[int, int], pool: _Pool, costs: Costs) -> None:
        """Swap common landmarks between two instruments, in place, for the minimum joint cost."""
        both = [i for i in range(self.count) if i in one and i in other]
        if len(both) < 2 or len(both) > _MOST_EXCHANGED:
            return
        sides = (one, other)

        def line(i: int, a: int, j: int, b: int) -> float:
            return costs[sides[a][i]][sides[b][j]] if i in sides[a] and j in sides[b] else 0.0

        def bend(chain: tuple[int, int, int], *on: int) -> float:
            ends = [sides[side].get(i) for i, side in zip(chain, on, strict=True)]
            return _BEND_COST * _bend(*(pool.peaks[k] for k in ends if k is not None)) if None not in ends else 0.0

        # The joint cost of an edge or a chain depends only on which of its landmarks are swapped relative to each other.
        edges = [(i, j, [line(i, 0, j, apart) + line(i, 1, j, 1 - apart) for apart in (0, 1)]) for i, j in self.edges]
        chains = [
            (chain, [[bend(chain, 0, b, c) + bend(chain, 1, 1 - b, 1 - c) for c in (0, 1)] for b in (0, 1)])
            for chain in self.chains
        ]

        # Common case: no edge and no chain gains from a swap.
        if all(stay <= cross for _, _, (stay, cross) in edges) and all(
            price[0][0] <= min(price[0][1], *price[1]) for _, price in chains
        ):
            return

        def cost(swapped: tuple[int, ...]) -> float:
            side = [0] * self.count
            for i, value in zip(both[1:], swapped, strict=True):
                side[i] = value
            total = sum(price[side[i] ^ side[j]] for i, j, price in edges)
            return total + sum(price[side[i] ^ side[j]][side[i] ^ side[k]] for (i, j, k), price in chains)

        best = min(itertools.product((0, 1), repeat=len(both) - 1), key=cost)  # no swap comes first and wins ties
        for i, value in zip(both[1:], best, strict=True):
            if value:
                one[i], other[i] = other[i], one[i]

    def _seen_free(self, pool: _Pool) -> int:
        """Number of landmarks with an unassigned visible peak."""
        return sum(any(pool.confidence[k] >= self.threshold for k in ks) for ks in pool.free.values())

    def _seen(self, group: Group) -> int:
        return sum(peak is not None and peak.confidence >= self.threshold for peak in group)

    def _cheapest(self, pool: _Pool, costs: Costs) -> dict[int, int]:
        """Landmark -> peak index of the cheapest instrument among the free peaks."""
        free = pool.free
        order = self._tree(tuple(free))
        total = {i: [_DOUBT_COST * (1.0 - pool.confidence[k]) for k in ks] for i, ks in free.items()}
        best: dict[int, list[int]] = {}
        for i, parent in reversed(order):
            if parent is None:
                continue
            below, best[i] = total[i], []
            for at, k in enumerate(free[parent]):
                row = costs[k]
                ways = [row[child] + cost for child, cost in zip(free[i], below, strict=True)]
                least = min(ways)
                best[i].append(ways.index(least))
                total[parent][at] += least
        at_peak: dict[int, int] = {}
        for i, parent in order:
            at_peak[i] = total[i].index(min(total[i])) if parent is None else best[i][at_peak[parent]]
        return {i: free[i][k] for i, k in at_peak.items()}

    def _tree(self, present: tuple[int, ...]) -> list[tuple[int, int | None]]:
        """(landmark, parent) in topological order: a minimum spanning tree by hops; parent None for unconnected landmarks."""
        if present not in self._trees:
            order: list[tuple[int, int | None]] = []
            rest = list(present)
            while rest:
                ways = [(float(self.hops[i, j]), i, j) for i, _ in order for j in rest if math.isfinite(self.hops[i, j])]
                _, parent, i = min(ways) if ways else (0.0, None, rest[0])
                order.append((i, parent))
                rest.remove(i)
            self._trees[present] = order
        return self._trees[present]

    def _drop_distant(self, chosen: dict[int, int], pool: _Pool, costs: Costs) -> dict[int, int]:
        """Remove visible landmarks that are too far from the others; empty if too few remain.

        They may belong to another instrument. Peaks below the threshold take their place.
        """
        parts: list[set[int]] = []
        for k in chosen.values():
            if pool.confidence[k] >= self.threshold:
                near = [part for part in parts if any(costs[k][other] < _MAX_COST for other in part)]
                parts = [part for part in parts if part not in near] + [{k}.union(*near)]
        kept = max(parts, key=lambda part: sum(pool.confidence[k] for k in sorted(part)), default=set())
        if len(kept) < self.min_landmarks:
            return {}
        if len(kept) == len(chosen):  # nothing was removed
            return chosen
        kept_peaks = {i: k for i, k in chosen.items() if k in kept}
        missing = {i: ks for i, ks in pool.free.items() if i not in kept_peaks}
        guesses = {i: [k for k in ks if pool.confidence[k] < self.threshold] for i, ks in missing.items()}
        free = {i: ks for i, ks in guesses.items() if ks} | {i: [k] for i, k in kept_peaks.items()}
        return self._cheapest(pool.of(free), costs)

    def _costs(self, pool: _Pool, foreground: ForegroundMap | LineSupport) -> Costs:
        """Cost of each pair of peaks; infinite if the skeleton does not connect their landmarks."""
        pairs = self._pairs_of(tuple(pool.landmark))
        height, width = foreground.shape[:2]
        position = np.array([(peak.x, peak.y) for peak in pool.peaks], np.float64).reshape(-1, 2)
        offsets = position[pairs.other] - position[pairs.one]
        distance = np.hypot(offsets[:, 0], offsets[:, 1]) / math.hypot(height, width)
        if isinstance(foreground, LineSupport):
            landmark, rank = np.array(pool.landmark, np.intp), np.array(pool.rank, np.intp)
            ends = (landmark[pairs.one], rank[pairs.one], landmark[pairs.other], rank[pairs.other])
            on_tool = foreground.values[ends]
        else:
            line = np.rint(position[pairs.one, None] + ALONG_LINE[:, None] * offsets[:, None])
            columns, rows = np.clip(line, 0, (width - 1, height - 1)).astype(np.intp).transpose(2, 0, 1)
            on_tool = foreground[rows, columns].mean(axis=-1, dtype=np.float64)
        off_tool = 1.0 - on_tool
        cost = distance / pairs.hops + _OFF_TOOL_COST * off_tool + _HOP_COST * (pairs.hops - 1.0)
        costs: Costs = [[math.inf] * len(pool.peaks) for _ in pool.peaks]
        for one, other, price in zip(pairs.one.tolist(), pairs.other.tolist(), cost.tolist(), strict=True):
            costs[one][other] = costs[other][one] = price
        return costs

    def _pairs_of(self, landmark: tuple[int, ...]) -> _Pairs:
        """Connected pairs among peaks of these landmarks, cached: few combinations occur in practice."""
        if landmark not in self._pairs:
            if len(self._pairs) >= _MOST_PAIRS:
                self._pairs.clear()
            kinds = np.array(landmark, np.intp)
            hops = self.hops[kinds[:, None], kinds]
            one, other = np.nonzero(np.triu(np.isfinite(hops) & (hops > 0)))
            self._pairs[landmark] = _Pairs(one, other, hops[one, other])
        return self._pairs[landmark]


def _weight(group: Group) -> float:
    return sum(peak.confidence for peak in group if peak is not None)


def _bend(a: Peak, b: Peak, c: Peak) -> float:
    """1 minus the cosine of the turn at b on the path a-b-c: 0 straight, 2 reversed; 0 if two points coincide."""
    ux, uy, vx, vy = b.x - a.x, b.y - a.y, c.x - b.x, c.y - b.y
    length = math.hypot(ux, uy) * math.hypot(vx, vy)
    return 1.0 - (ux * vx + uy * vy) / length if length > 1.0 else 0.0
