import json
import runpy
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.mark.parametrize(("script", "function"), [("engines", "table"), ("latency", "tables")])
def test_the_pages_figures_are_those_of_the_committed_file(script: str, function: str) -> None:
    page = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    if not (RESULTS / f"{script}.json").exists():
        assert "Not measured yet" in page
        return
    figures = json.loads((RESULTS / f"{script}.json").read_text(encoding="utf-8"))
    module = runpy.run_path(str(ROOT / "benchmark" / f"{script}.py"))
    assert module[function](figures) in page


def test_percentiles_are_in_milliseconds() -> None:
    module = runpy.run_path(str(ROOT / "benchmark" / "latency.py"))
    assert module["percentiles"](np.arange(101) / 1000) == pytest.approx({"p50": 50.0, "p95": 95.0, "p99": 99.0})


def test_what_is_not_offered_is_what_moves_the_keypoints() -> None:
    """The rule of the page: without being asked for, nothing runs that shifts landmarks by more than 0.1 px in the median."""
    if not (RESULTS / "engines.json").exists():
        pytest.skip("docs/results/engines.json is not there yet")
    for result in json.loads((RESULTS / "engines.json").read_text(encoding="utf-8"))["results"]:
        for name, row in result["paths"].items():
            if name.endswith("float32") or name.startswith("torch"):
                assert row["median_shift_px"] < 0.001
                assert row["lost"] == 0
            else:
                assert name.endswith(("bfloat16", "(not offered)"))
