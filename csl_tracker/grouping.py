"""Peaks of all landmarks, grouped into instruments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from csl_tracker.heatmaps import Peak
from csl_tracker.instruments import InstrumentSet

Group = list["Peak | None"]
"""One instrument: a peak, or None, for every landmark."""

_OFF_TOOL_COST = 0.3
_HOP_COST = 0.05
_MAX_COST = 0.5
_LINE_SAMPLES = 9
_BEND_COST = 0.1
_REGRESSED_SIGMA_PX = 8.0
"""Standard deviation stated for a regressed landmark, px of the heatmap: regression itself says nothing of its precision."""
_MOST_EXCHANGED = 8
"""Landmarks, beyond which two instruments have too many ways to share them."""
MIN_LANDMARKS = 2
"""Seen landmarks that make an instrument, where the model has so many."""


@dataclass
class _Cluster:
    """Peaks that are held to be of one instrument: landmark index to peak."""

    members: dict[int, Peak] = field(default_factory=dict)

    def weight(self) -> float:
        return sum(peak.confidence for peak in self.members.values())


def _hops(instruments: InstrumentSet) -> npt.NDArray[np.float64]:
    """Number of skeleton edges between any two landmarks; 1 between all where there is no skeleton."""
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

    Two peaks belong together when they are near each other (relative to the image's diagonal) and the straight line between
    them stays on what the network segmented as instrument. The cheapest pairs are joined first, as in Kruskal's algorithm; an
    instrument never gets the same landmark twice. A landmark that is missing is bridged, at a cost per hop. At last instruments
    exchange landmarks where both become shorter, straighter, or better covered by the segmentation: where tips cross, the
    nearest tip is often the other's.

    Args:
        instruments: Landmarks and skeleton.
        max_instruments: Largest number of instruments; with 1, the highest peak of each landmark is taken, as in the paper.
        threshold: Confidence from which a landmark counts as seen.
        min_landmarks: Seen landmarks that an instrument needs.
    """

    def __init__(
        self, instruments: InstrumentSet, max_instruments: int, threshold: float, min_landmarks: int = MIN_LANDMARKS
    ) -> None:
        self.count = instruments.num_landmarks
        self.max_instruments = max_instruments
        self.threshold = threshold
        self.min_landmarks = min(min_landmarks, self.count)
        self.hops = _hops(instruments)
        self.chains = instruments.chains()

    def group(
        self, peaks: Sequence[Sequence[Peak]], foreground: npt.NDArray[np.float32], always_report: bool = False
    ) -> list[Group]:
        """Group the peaks of one image.

        Args:
            peaks: For each landmark its peaks, highest first.
            foreground: float32 (h, w), probability of instrument, on the heatmaps' pixels.
            always_report: Return ``max_instruments`` groups where there are peaks enough, however unsure.

        Returns:
            Groups, most confident first. A landmark that is not seen is filled with the best unsure peak that fits, if any.
        """
        if self.max_instruments == 1:
            best: Group = [found[0] if found else None for found in peaks]
            seen = sum(peak is not None and peak.confidence >= self.threshold for peak in best)
            if seen >= self.min_landmarks or (always_report and any(best)):
                return [best]
            return []
        candidates = [(i, peak) for i, found in enumerate(peaks) for peak in found[: self.max_instruments]]
        sure = [item for item in candidates if item[1].confidence >= self.threshold]
        clusters = [c for c in self._merge(sure, foreground, _MAX_COST) if len(c.members) >= self.min_landmarks]
        clusters = sorted(clusters, key=_Cluster.weight, reverse=True)[: self.max_instruments]
        left = self._left(candidates, clusters)
        if always_report and len(clusters) < self.max_instruments:
            unsure = sorted(self._merge(left, foreground, math.inf), key=_Cluster.weight, reverse=True)
            clusters += unsure[: self.max_instruments - len(clusters)]
            left = self._left(candidates, clusters)
        for cluster in clusters:
            self._fill(cluster, left, foreground, math.inf if always_report else _MAX_COST)
        groups: list[Group] = [[cluster.members.get(i) for i in range(self.count)] for cluster in clusters]
        for one, other in itertools.combinations(groups, 2):
            self._exchange(one, other, foreground)
        return groups

    def take(self, points: npt.NDArray[np.float32], always_report: bool = False) -> list[Group]:
        """Instruments that a network regressed one by one.

        Args:
            points: float32 (slots, landmarks, 3), x and y in heatmap px and the probability of being in view.
            always_report: Return ``max_instruments`` instruments where there are slots enough, however unsure.

        Returns:
            Groups, most confident first.
        """
        groups: list[Group] = [
            [Peak(float(x), float(y), _REGRESSED_SIGMA_PX**2 * np.eye(2), float(seen)) for x, y, seen in slot]
            for slot in points
        ]
        order = sorted(groups, key=lambda group: -sum(peak.confidence for peak in group if peak is not None))
        if not always_report:
            sure = [sum(peak is not None and peak.confidence >= self.threshold for peak in group) for group in order]
            order = [group for group, count in zip(order, sure, strict=True) if count >= self.min_landmarks]
        return order[: self.max_instruments]

    def _exchange(self, one: Group, other: Group, foreground: npt.NDArray[np.float32]) -> None:
        """Swap landmarks between two instruments, in place, for the cheapest of all ways to share what both have."""
        both = [i for i in range(self.count) if one[i] is not None and other[i] is not None]
        if len(both) < 2 or len(both) > _MOST_EXCHANGED:
            return
        pairs = {i: (one[i], other[i]) for i in range(self.count)}
        edges = [(i, j) for i, j in itertools.combinations(range(self.count), 2) if self.hops[i, j] == 1]
        lines = {
            (i, a, j, b): self._cost(i, p, j, q, foreground)
            for i, j in edges
            for (a, p), (b, q) in itertools.product(enumerate(pairs[i]), enumerate(pairs[j]))
            if p is not None and q is not None
        }
        bends = {
            (i, a, j, b, k, c): _bend(p, q, r)
            for i, j, k in self.chains
            for (a, p), (b, q), (c, r) in itertools.product(*(enumerate(pairs[n]) for n in (i, j, k)))
            if p is not None and q is not None and r is not None
        }

        def cost(swapped: tuple[int, ...]) -> float:
            side = [0] * self.count
            for i, value in zip(both, (0, *swapped), strict=True):
                side[i] = value
            total = 0.0
            for mine in (0, 1):
                a = [value ^ mine for value in side]
                total += sum(lines.get((i, a[i], j, a[j]), 0.0) for i, j in edges)
                total += _BEND_COST * sum(bends.get((i, a[i], j, a[j], k, a[k]), 0.0) for i, j, k in self.chains)
            return total

        best = min(itertools.product((0, 1), repeat=len(both) - 1), key=cost)  # the first is none: it stays in a draw
        for i, value in zip(both, (0, *best), strict=True):
            if value:
                one[i], other[i] = other[i], one[i]

    @staticmethod
    def _left(candidates: list[tuple[int, Peak]], clusters: list[_Cluster]) -> list[tuple[int, Peak]]:
        used = {id(peak) for cluster in clusters for peak in cluster.members.values()}
        return [item for item in candidates if id(item[1]) not in used]

    def _cost(self, i: int, a: Peak, j: int, b: Peak, foreground: npt.NDArray[np.float32]) -> float:
        hops = float(self.hops[i, j])
        if not math.isfinite(hops) or hops == 0:
            return math.inf
        height, width = foreground.shape
        distance = math.hypot(a.x - b.x, a.y - b.y) / math.hypot(height, width)
        steps = np.linspace(0.0, 1.0, _LINE_SAMPLES)
        rows = np.clip(np.rint(a.y + steps * (b.y - a.y)), 0, height - 1).astype(int)
        columns = np.clip(np.rint(a.x + steps * (b.x - a.x)), 0, width - 1).astype(int)
        on_tool = float(foreground[rows, columns].mean())
        return distance / hops + _OFF_TOOL_COST * (1.0 - on_tool) + _HOP_COST * (hops - 1.0)

    def _merge(self, items: list[tuple[int, Peak]], foreground: npt.NDArray[np.float32], limit: float) -> list[_Cluster]:
        clusters = [_Cluster({i: peak}) for i, peak in items]
        owner = list(range(len(items)))
        edges = []
        for m, n in itertools.combinations(range(len(items)), 2):
            cost = self._cost(*items[m], *items[n], foreground)
            if cost < limit:
                edges.append((cost, m, n))
        for _, m, n in sorted(edges):
            a, b = owner[m], owner[n]
            if a == b or clusters[a].members.keys() & clusters[b].members.keys():
                continue
            clusters[a].members.update(clusters[b].members)
            owner = [a if o == b else o for o in owner]
        return [clusters[k] for k in sorted(set(owner))]

    def _fill(self, cluster: _Cluster, left: list[tuple[int, Peak]], foreground: npt.NDArray[np.float32], limit: float) -> None:
        """Fill missing landmarks with the best peaks that are left; a sure one only where it fits, for it would count."""
        for landmark in range(self.count):
            if landmark in cluster.members:
                continue
            costs = [
                (min(self._cost(landmark, peak, j, other, foreground) for j, other in cluster.members.items()), k)
                for k, (i, peak) in enumerate(left)
                if i == landmark
            ]
            fitting = [(cost, k) for cost, k in costs if cost < limit or left[k][1].confidence < self.threshold]
            if fitting:
                _, k = min(fitting)
                cluster.members[landmark] = left.pop(k)[1]


def _bend(a: Peak, b: Peak, c: Peak) -> float:
    """How far the way from a over b to c is from straight: 0 straight on, 2 straight back; 0 where two of them are one."""
    ux, uy, vx, vy = b.x - a.x, b.y - a.y, c.x - b.x, c.y - b.y
    length = math.hypot(ux, uy) * math.hypot(vx, vy)
    return 1.0 - (ux * vx + uy * vy) / length if length > 1.0 else 0.0
