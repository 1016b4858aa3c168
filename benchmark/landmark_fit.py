"""Bundle fit of :mod:`benchmark.landmark_bundle` by Levenberg-Marquardt; used by :mod:`benchmark.calibrate_landmarks`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from benchmark.landmark_bundle import POINTS, SHARED, VIEW, Setup, Views, residuals
from csl_tracker.arrays import FloatArray

_STEP = 1e-5


@dataclass(frozen=True)
class Fit:
    """Result: view parameters (N, len(VIEW)), shared parameters, and the cost of each view (N,)."""

    view: FloatArray
    shared: FloatArray
    cost: FloatArray


def fit(setup: Setup, data: Views, start: Fit, weights: FloatArray | None = None, rounds: int = 60) -> Fit:
    """Levenberg-Marquardt with soft-L1 loss; the shared parameters come from the Schur complement.

    Args:
        setup: Model and priors. With all ``sigma`` 0, every view is fitted alone.
        data: Annotations.
        start: Initial parameters.
        weights: float64 (N,), weight of each view in the shared parameters; None for 1.
        rounds: Maximum number of steps.
    """
    weight = np.ones(len(data)) if weights is None else weights
    free = np.nonzero(setup.sigma > 0)[0]
    view, shared = start.view.copy(), start.shared.copy()
    damping = np.full(len(data), 1e-3)
    cost, prior = _cost(view, shared, setup, data), _prior_cost(shared, setup, free)
    for _ in range(rounds):
        step_view, step_shared = _step(view, shared, setup, data, weight, free, damping)
        trial_shared = shared.copy()
        trial_shared[free] += step_shared
        trial = view + step_view
        new, new_prior = _cost(trial, trial_shared, setup, data), _prior_cost(trial_shared, setup, free)
        if len(free):
            before, after = weight @ cost + prior, weight @ new + new_prior
            better = np.full(len(data), after < before)
            done = 0 <= before - after < 1e-7 * before
        else:
            better = new < cost
            done = bool(np.all(cost - new < 1e-7 * (1 + cost))) and bool(better.any())
        damping = np.where(better, np.maximum(damping / 4, 1e-9), np.minimum(damping * 5, 1e6))
        view = np.where(better[:, None], trial, view)
        cost = np.where(better, new, cost)
        if len(free) and better[0]:
            shared, prior = trial_shared, new_prior
        if done or damping.min() >= 1e6:
            break
    return Fit(view, shared, cost)


def start_views(setup: Setup, data: Views, shared: FloatArray) -> Fit:
    """Fit every view alone with fixed shared parameters, from several roll angles, and keep the best."""
    fixed = replace(setup, sigma=np.zeros(len(SHARED)))
    best: Fit | None = None
    for roll, pitch, yaw in itertools.product(setup.start, (-0.4, 0.4), (-0.4, 0.4)):
        guess = _guess(setup, data, shared)
        guess[:, VIEW.index("roll") : VIEW.index("jaw")] = roll, pitch, yaw
        found = fit(fixed, data, Fit(guess, shared, np.zeros(0)), rounds=40)
        if best is None:
            best = found
        else:
            keep = best.cost <= found.cost
            best = Fit(np.where(keep[:, None], best.view, found.view), shared, np.where(keep, best.cost, found.cost))
    assert best is not None
    return best


def _guess(setup: Setup, data: Views, shared: FloatArray) -> FloatArray:
    view = np.zeros((len(data), len(VIEW)))
    first, last = data.edges[:, [0, 2]], data.edges[:, [1, 3]]
    widths = [np.linalg.norm(pair[:, 0] - pair[:, 1], axis=-1) for pair in (first, last)]
    run = np.linalg.norm(first.mean(1) - last.mean(1), axis=-1)
    scale = widths[1] / (2 * setup.tool.radius_mm)
    # The width falls linearly along the image of the axis, by tan(elevation) / depth.
    elevation = np.arctan(-(widths[1] - widths[0]) / np.maximum(run, 1) / widths[1] * np.exp(shared[0]))
    elevation = np.clip(elevation, -0.9, 0.9)
    along = np.stack([np.cos(data.direction), np.sin(data.direction)], -1)
    anchor = np.where(np.isfinite(data.points[:, 0]), data.points[:, 0], data.points[:, POINTS.index("pose")])
    shaft = data.points[:, POINTS.index("shaft")] - (shared[SHARED.index("shaft")] * scale * np.cos(elevation))[:, None] * along
    origin = anchor - (shared[SHARED.index("tracked")] * scale * np.cos(elevation))[:, None] * along
    view[:, :2] = np.where(np.isfinite(origin), origin, shaft)
    view[:, 2], view[:, 3], view[:, 4] = data.direction, elevation, np.log(scale)
    view[:, VIEW.index("jaw")] = data.jaw
    return view


def _cost(view: FloatArray, shared: FloatArray, setup: Setup, data: Views) -> FloatArray:
    squared = residuals(view, shared, setup, data) ** 2
    return np.sum(2 * (np.sqrt(1 + squared) - 1), -1)


def _prior_cost(shared: FloatArray, setup: Setup, free: FloatArray) -> float:
    return float(np.sum(((shared - setup.mean)[free] / setup.sigma[free]) ** 2))


def _step(
    view: FloatArray,
    shared: FloatArray,
    setup: Setup,
    data: Views,
    weight: FloatArray,
    free: FloatArray,
    damping: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    base = residuals(view, shared, setup, data)
    robust = 1 / np.sqrt(1 + base**2)  # iteratively reweighted soft L1
    own = np.stack([_change(view, shared, setup, data, base, k, None) for k in range(len(VIEW))], -1)
    common = [_change(view, shared, setup, data, base, None, k) for k in free]
    weighted = own * robust[..., None]
    block = np.einsum("nri,nrj->nij", weighted, own)
    index = np.arange(len(VIEW))
    block[:, index, index] *= 1 + damping[:, None]
    block[:, index, index] += 1e-9
    gradient = np.einsum("nri,nr->ni", weighted, base)
    solved = np.linalg.solve(block, gradient[..., None])[..., 0]
    if not common:
        return -solved, np.zeros(0)
    shared_jacobian = np.stack(common, -1)
    cross = np.einsum("nri,nrj->nij", weighted, shared_jacobian)
    inverse = np.linalg.solve(block, cross)
    total = np.einsum("n,nri,nr,nrj->ij", weight, shared_jacobian, robust, shared_jacobian, optimize=True)
    total -= np.einsum("n,nia,nib->ab", weight, cross, inverse, optimize=True)
    pull = np.einsum("n,nri,nr,nr->i", weight, shared_jacobian, robust, base, optimize=True)
    pull -= np.einsum("n,nia,ni->a", weight, cross, solved, optimize=True)
    total[np.diag_indices(len(free))] += 1 / setup.sigma[free] ** 2
    pull += (shared - setup.mean)[free] / setup.sigma[free] ** 2
    move = -np.linalg.solve(total, pull)
    return -solved - np.einsum("nia,a->ni", inverse, move), move


def _change(
    view: FloatArray, shared: FloatArray, setup: Setup, data: Views, base: FloatArray, own: int | None, common: int | None
) -> FloatArray:
    if own is not None:
        moved = view.copy()
        moved[:, own] += _STEP
        return (residuals(moved, shared, setup, data) - base) / _STEP
    other = shared.copy()
    other[common] += _STEP
    return (residuals(view, other, setup, data) - base) / _STEP
