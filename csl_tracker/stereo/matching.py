"""Associate the instruments of the left and right image, and reject outlier landmarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csl_tracker.arrays import FloatArray
from csl_tracker.assignment import assign
from csl_tracker.results import InstrumentEstimate
from csl_tracker.stereo.geometry import StereoGeometry, Triangulation, triangulate

REASONS = ("not_visible", "no_covariance", "disparity", "epipolar", "apart")
"""Why a landmark of matched instruments was not triangulated."""


@dataclass(frozen=True)
class MatchLimits:
    """Limits for matches.

    Attributes:
        min_depth: Smallest valid depth, m.
        max_depth: Largest valid depth, m; a disparity that is not positive exceeds it.
        epipolar_gate: Largest row difference of a landmark, in standard deviations.
        max_extent: Largest distance of a landmark from its instrument's median landmark, m.
        min_landmarks: Number of landmarks that must agree to match two instruments.
        pixel_noise: Standard deviation added in quadrature to every coordinate, px: errors of calibration and timing.
        ambiguity: Two pairings are ambiguous if their evidence differs by less, in units of chi-squared (twice the
            log-likelihood ratio).
    """

    min_depth: float = 0.02
    max_depth: float = 0.3
    epipolar_gate: float = 4.0
    max_extent: float = 0.08
    min_landmarks: int = 2
    pixel_noise: float = 0.5
    ambiguity: float = 6.0


@dataclass(frozen=True)
class View:
    """An instrument in a rectified image.

    Attributes:
        slot: Slot in its image.
        confidence: 0..1.
        names: Landmarks.
        points: float64 (n, 2), rectified px.
        covariances: float64 (n, 2, 2), px^2.
        visible: bool (n,).
    """

    slot: str
    confidence: float
    names: tuple[str, ...]
    points: FloatArray
    covariances: FloatArray
    visible: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, instrument: InstrumentEstimate) -> View:
        """Convert a tracker's estimate, in px of its image."""
        marks = instrument.landmarks
        return cls(
            slot=instrument.slot,
            confidence=instrument.confidence,
            names=tuple(mark.name for mark in marks),
            points=np.array([(mark.x, mark.y) for mark in marks], np.float64).reshape(-1, 2),
            covariances=np.array([mark.covariance for mark in marks], np.float64).reshape(-1, 2, 2),
            visible=np.array([mark.visible for mark in marks], np.bool_),
        )


@dataclass(frozen=True)
class StereoInstrument:
    """An instrument in space.

    Attributes:
        slot: Slot in the left image.
        confidence: Smaller of the confidences in both images.
        names: Triangulated landmarks.
        positions: float64 (n, 3), m, in the left camera's rectified frame.
        covariances: float64 (n, 3, 3), m^2.
    """

    slot: str
    confidence: float
    names: tuple[str, ...]
    positions: FloatArray
    covariances: FloatArray

    def select(self, names: Sequence[str]) -> tuple[FloatArray, FloatArray]:
        """Positions (k, 3) and covariances (k, 3, 3) of those named landmarks that exist, in the order of the names."""
        indices = [self.names.index(name) for name in names if name in self.names]
        return self.positions[indices], self.covariances[indices]


@dataclass(frozen=True)
class Matches:
    """Matches of a pair of images.

    Attributes:
        instruments: Matched instruments.
        rejected: Counts by reason: :data:`REASONS` count landmarks of matched instruments; ``unmatched`` and ``ambiguous``
            count instruments of the left image.
    """

    instruments: tuple[StereoInstrument, ...]
    rejected: Counter[str]


@dataclass(frozen=True)
class _Candidate:
    """A left and a right instrument that may be the same."""

    names: tuple[str, ...]
    triangulation: Triangulation
    good: npt.NDArray[np.bool_]
    evidence: float
    rejected: Counter[str]


def match(geometry: StereoGeometry, left: Sequence[View], right: Sequence[View], limits: MatchLimits) -> Matches:
    """Pair the instruments of two rectified images and triangulate their landmarks.

    The evidence for a pair is the sum, over landmarks that are visible in both images at a valid depth, of the margin by which
    their row difference stays below the gate. The pairing with the largest sum wins. Slots and track numbers are not compared,
    since each tracker assigns its own. A pair is discarded if the best pairing without it is nearly as good: no result is
    better than a wrong one.

    Args:
        geometry: The cameras.
        left: Instruments of the left image.
        right: Instruments of the right image.
        limits: Limits.

    Returns:
        The instruments in space, in the order of the left image, and the rejections.
    """
    candidates = [[_compare(geometry, a, b, limits) for b in right] for a in left]
    evidence = np.array([[c.evidence if c else 0.0 for c in row] for row in candidates]).reshape(len(left), len(right))
    best, partners = _pair_up(evidence)
    instruments = []
    rejected: Counter[str] = Counter()
    for row, column in enumerate(partners):
        candidate = None if column is None else candidates[row][column]
        if column is None or candidate is None:
            rejected["unmatched"] += 1
            continue
        without = evidence.copy()
        without[row, column] = 0.0
        if best - _pair_up(without)[0] < limits.ambiguity:
            rejected["ambiguous"] += 1
            continue
        rejected += candidate.rejected
        good = candidate.good
        instruments.append(
            StereoInstrument(
                slot=left[row].slot,
                confidence=min(left[row].confidence, right[column].confidence),
                names=tuple(name for name, fits in zip(candidate.names, good, strict=True) if fits),
                positions=candidate.triangulation.positions[good],
                covariances=candidate.triangulation.covariances[good],
            )
        )
    return Matches(tuple(instruments), rejected)


def _compare(geometry: StereoGeometry, left: View, right: View, limits: MatchLimits) -> _Candidate | None:
    """Triangulate two instruments as if they were the same; None if they cannot be."""
    rejected: Counter[str] = Counter()
    columns: list[tuple[int, int]] = []
    for i, name in enumerate(left.names):
        j = right.names.index(name) if name in right.names else -1
        seen = j >= 0 and left.visible[i] and right.visible[j]
        if not seen or not (np.isfinite(left.points[i]).all() and np.isfinite(right.points[j]).all()):
            rejected["not_visible"] += 1
        elif not (_is_covariance(left.covariances[i]) and _is_covariance(right.covariances[j])):
            rejected["no_covariance"] += 1
        else:
            columns.append((i, j))
    if len(columns) < limits.min_landmarks:
        return None
    in_left, in_right = (list(indices) for indices in zip(*columns, strict=True))
    noise = limits.pixel_noise**2 * np.eye(2)
    found = triangulate(
        geometry,
        left.points[in_left],
        right.points[in_right],
        left.covariances[in_left] + noise,
        right.covariances[in_right] + noise,
    )
    nearest, farthest = geometry.disparity_px(limits.min_depth), geometry.disparity_px(limits.max_depth)
    valid = (found.disparities >= farthest) & (found.disparities <= nearest)
    valid &= np.isfinite(found.positions).all(axis=1) & np.isfinite(found.covariances).all(axis=(1, 2))
    on_one_row = found.epipolar_chi2 <= limits.epipolar_gate**2
    good = valid & on_one_row
    together = good.copy()
    if good.any():
        middle = np.median(found.positions[good], axis=0)
        together &= np.linalg.norm(found.positions - middle, axis=1) <= limits.max_extent
    rejected["disparity"] += int((~valid).sum())
    rejected["epipolar"] += int((valid & ~on_one_row).sum())
    rejected["apart"] += int((good & ~together).sum())
    # Most of the common landmarks must agree: one or two landmarks of different instruments may agree by chance.
    if together.sum() < max(limits.min_landmarks, (len(columns) + 1) // 2):
        return None
    evidence = float((limits.epipolar_gate**2 - found.epipolar_chi2[together]).sum())
    return _Candidate(tuple(left.names[i] for i in in_left), found, together, evidence, +rejected)


def _is_covariance(matrix: FloatArray) -> bool:
    """Whether a matrix is finite, symmetric up to rounding, and positive semidefinite; zero means exact."""
    if not np.isfinite(matrix).all() or abs(matrix[0, 1] - matrix[1, 0]) > 1e-6 * (1.0 + abs(matrix[0, 1])):
        return False
    trace, determinant = float(np.trace(matrix)), float(np.linalg.det(matrix))
    return matrix[0, 0] >= 0 and matrix[1, 1] >= 0 and determinant >= -1e-9 * (1.0 + trace**2)


def _pair_up(evidence: FloatArray) -> tuple[float, list[int | None]]:
    """Find the pairing with the largest sum.

    Args:
        evidence: (rows, columns); only positive entries are paired.

    Returns:
        The sum, and for each row its column, or None.
    """
    rows = len(evidence)
    # The first columns mean "no partner": in a tie a row stays unpaired.
    cost = np.concatenate([np.zeros((rows, rows)), np.where(evidence > 0, -evidence, np.inf)], axis=1)
    columns = [column - rows if column >= rows else None for column in assign(cost)]
    return float(sum(evidence[row, column] for row, column in enumerate(columns) if column is not None)), columns
