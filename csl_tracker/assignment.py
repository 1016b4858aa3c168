"""One-to-one assignment at the smallest total cost.

SciPy is a run-time requirement for this: evaluation, the datasets and the stereo node all assign instruments. It costs 143 MB
on disk, and 42 MB and half a second in the stereo node. The tracker node does not import this module.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]


def assign(cost: npt.ArrayLike) -> list[int]:
    """Give every row a column of its own so that the sum of their costs is smallest.

    Of several assignments with the same sum the first in lexicographic order wins: row 0 takes the lowest column that it can,
    then row 1, and so on. The Hungarian method alone leaves that open.

    Args:
        cost: (rows, columns), no more rows than columns. Infinity and NaN forbid a pair. To let a row go without a column,
            add a column that costs what this costs.

    Returns:
        The column of every row. Where forbidden pairs leave no assignment, row ``k`` gets column ``k``.

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
        return list(first)  # no two rows want one column
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
    """One of the cheapest assignments; None where there is none."""
    try:
        return list(linear_sum_assignment(costs)[1].tolist())
    except ValueError:  # infeasible
        return None


def _total(costs: npt.NDArray[np.float64], chosen: list[int]) -> float:
    return float(sum(costs[row, column] for row, column in enumerate(chosen)))
