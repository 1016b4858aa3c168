"""What an experiment can tell apart: the differences that a paired comparison over test sequences detects.

    python benchmark/power.py docs/results/synthetic_strategies.json --json docs/results/power.json

From the differences between two strategies on the test sequences of a finished experiment (means over its seeds), the standard
deviation over sequences gives, for a planned number of test sequences, the smallest true difference that a paired t test finds
with a power of 80 %: ``(t(1 - alpha / 2) + t(0.8)) sd / sqrt(n)``, quantiles of the t distribution with n - 1 degrees of
freedom (Cohen 1988, with the t instead of the normal distribution). alpha is that of the smallest of the planned comparisons
under Holm's correction. Differences of the paper, on other data, stand beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from csl_tracker.network_names import upgraded  # noqa: E402
from csl_tracker.output import write_json  # noqa: E402
from csl_tracker.provenance import machine, sha256_of, versions  # noqa: E402

POWER = 0.8
LEVEL = 0.05
COMPARISONS = 6
"""Those of the protocol ``synthetic_strategies``."""
NUMBERS = (8, 12, 16, 24, 32)
QUANTITIES: Mapping[str, tuple[str, ...]] = {
    "dice": ("dice",),
    "landmark_error_px": ("landmark_error_px", "mean"),
    "threshold_score_20px": ("threshold_score_20px",),
}
OF_THE_PAPER = {"dice": {"sl": 0.754 - 0.737, "csl_no_skip": 0.754 - 0.744, "unet": 0.754 - 0.725}}
"""Laina et al. 2017, section 3, RM, nine test sequences: CSL's DICE minus that of the others."""


def detectable(deviation: float, number: int, level: float = LEVEL / COMPARISONS, power: float = POWER) -> float:
    """The smallest true mean difference that a paired t test of ``number`` differences finds with this power."""
    quantile = stats.t(number - 1).ppf
    return float((quantile(1 - level / 2) + quantile(power)) * deviation / np.sqrt(number))


def differences(runs: Sequence[Mapping[str, Any]], other: str, path: Sequence[str]) -> np.ndarray:
    """``csl`` minus another model by test sequence, means over the seeds; float64 (sequences,)."""
    means = {model: _means(runs, model, path) for model in ("csl", other)}
    return np.array([means["csl"][name] - means[other][name] for name in means["csl"] if name in means[other]])


def _means(runs: Sequence[Mapping[str, Any]], model: str, path: Sequence[str]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in runs:
        strategy = upgraded(run["network"])["strategy"] if "@" not in run["model"] else run["model"]
        if strategy != model:
            continue
        for name, report in run["sequences"].items():
            value = report
            for key in path:
                value = None if value is None else value.get(key)
            if value is not None:
                found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> int:
    """Compute the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="runs of a finished experiment")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    runs = json.loads(args.results.read_text(encoding="utf-8"))["runs"]
    rows = []
    for key, path in QUANTITIES.items():
        for other in ("l", "sl", "sl_skip", "csl_no_skip", "unet"):
            values = differences(runs, other, path)
            if len(values) < 2:
                continue
            deviation = float(values.std(ddof=1))
            rows.append(
                {
                    "quantity": key,
                    "comparison": f"csl - {other}",
                    "sequences": len(values),
                    "difference": float(values.mean()),
                    "deviation": deviation,
                    "detectable": {str(number): detectable(deviation, number) for number in NUMBERS},
                    "paper": OF_THE_PAPER.get(key, {}).get(other.removesuffix("_skip") if other == "sl_skip" else other),
                }
            )
    report = {
        "command": f"python benchmark/power.py {args.results.name} --json {args.json.name}",
        "machine": machine(),
        "versions": versions(),
        "input_sha256": sha256_of([args.results]),
        "power": POWER,
        "level": LEVEL,
        "comparisons": COMPARISONS,
        "rows": rows,
    }
    write_json(args.json, report)
    for row in rows:
        print(row["quantity"], row["comparison"], {k: round(v, 4) for k, v in row["detectable"].items()}, row["difference"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
