"""One-to-one assignment at minimum total cost.

This makes SciPy a run-time dependency of evaluation, the datasets and the stereo node: 143 MB on disk, and 42 MB and half a
second of start-up in the stereo node. The tracker node does not import this module.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]


def assign(cost: npt.ArrayLike) -> list[int]:
    """Assign a distinct column to each row at minimum total cost.

    Ties are resolved in lexicographic order (row 0 takes the lowest possible column, then row 1, and so on), which the
    Hungarian method alone does not define.

    Args:
        cost: (rows, columns), rows <= columns. Infinity and NaN forbid a pair. To allow a row to stay unassigned, add a
            column with the cost of not assigning it.

    Returns:
        The column of each row; row ``k`` gets column ``k`` if no assignment is feasible.

    Raises:
        ValueError: There are more rows than columns.
    """
    costs = np.asarray(cost, np.float64)
    rows, columns = costs.shape
    if rows > columns:
        raise ValueError(f"{rows} rows cannot have a column each of {columns}")
    costs = np.where(np.isnan(costs), np.inf, costs)
    first = costs.argmin(axis=1).tolist() if columns else []
    if len(set(first)) == rows and np.isfinite(costs[range(rows), first]).all():
        return list(first)  # the row minima do not conflict
    chosen = _any_cheapest(costs)
    if chosen is None:
        return list(range(rows))
    for row in range(rows):
        taken = set(chosen[:row])
        for column in (k for k in range(chosen[row]) if k not in taken):
            rest = [k for k in range(columns) if k not in taken and k != column]
            below = _any_cheapest(costs[row + 1 :, rest])
            if below is None:
                continue
            other = [*chosen[:row], column, *(rest[k] for k in below)]
            if _total(costs, other) <= _total(costs, chosen):
                chosen = other
                break
    return chosen


def _any_cheapest(costs: npt.NDArray[np.float64]) -> list[int] | None:
    """One of the cheapest assignments; None if infeasible."""
    try:
        return list(linear_sum_assignment(costs)[1].tolist())
    except ValueError:  # infeasible
        return None


def _total(costs: npt.NDArray[np.float64], chosen: list[int]) -> float:
    return float(sum(costs[row, column] for row, column in enumerate(chosen)))
