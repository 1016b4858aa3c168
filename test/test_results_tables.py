"""Tables of committed experiments are made from their committed runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_results import landmark, make, sequence

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
RUN_FILES = ("synthetic_strategies", "endovis_strategies", "endovis_strategies_800", "endovis_recipe", "presets")


@pytest.fixture(scope="module")
def remake() -> Any:
    return _script("remake_tables")


@pytest.fixture(scope="module")
def collect() -> Callable[..., dict[str, Any]]:
    found: Callable[..., dict[str, Any]] = _script("collect_runs").collect
    return found


def _script(name: str) -> Any:
    import importlib

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        return importlib.import_module(f"benchmark.{name}")


def test_the_committed_tables_are_those_of_the_committed_runs(
    remake: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["remake_tables.py", "--check"])
    assert remake.main() == 0, capsys.readouterr().out


def results(count: int = 3) -> list[dict[str, Any]]:
    """Runs of two models with two seeds; a landmark of one instrument in two has no box."""
    made = []
    rng = np.random.default_rng(0)
    for model, scale in (("csl", 5.0), ("sl", 12.0)):
        for seed in (0, 1):
            parts = {}
            for index in range(count):
                size = 10 + index
                marks = {
                    "center": landmark([float(x) for x in rng.gamma(2.0, scale, size)], None),
                    "head": landmark([float(x) for x in rng.gamma(2.0, scale, 6)], 100.0, slots=[0, 1] * 3),
                }
                dice = rng.uniform(0.5, 1.0, size).tolist()
                parts[f"Test{index + 1}"] = reported(sequence(marks, dice=dice))
            configuration = {"preset": "modern", "steps": 400, "learning_rate": 0.1}
            made.append(make(model, parts, seed, configuration=configuration))
    return made


def reported(part: dict[str, Any]) -> dict[str, Any]:
    """A sequence with all the figures that an evaluation writes."""
    details = part["details"]

    def figures(errors: list[float], boxes: list[float | None]) -> dict[str, Any]:
        shares = {str(t): float(np.mean(np.array(errors) < t)) for t in (20, 60)}
        boxed = [(error, box) for error, box in zip(errors, boxes, strict=True) if box is not None]
        return {
            "visible": len(errors),
            "unanswered": 0,
            "landmark_error_px": {
                "mean": float(np.mean(errors)),
                **{key: float(np.quantile(errors, q)) for key, q in (("median", 0.5), ("p90", 0.9), ("p95", 0.95))},
            },
            "threshold_score_20px": shares["20"],
            "threshold_scores_px": shares,
            "kbb_0.15": float(np.mean([error < 0.15 * box for error, box in boxed])) if boxed else None,
            "miss_rate": 0.0,
        }

    pooled = [value for mark in details["landmarks"].values() for value in mark["error_px"]]
    sides = [value for mark in details["landmarks"].values() for value in mark["box_px"]]
    details["segmented_frame"] = list(range(len(details["dice"])))
    return {
        **part,
        **figures(pooled, sides),
        **{key: float(np.mean(details[key])) for key in ("dice", "precision", "recall")},
        "segmented_frames": len(details["dice"]),
        "landmarks": {
            name: {**part["landmarks"][name], **figures(mark["error_px"], mark["box_px"])}
            for name, mark in details["landmarks"].items()
        },
    }


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    for result in results():
        path = tmp_path / "out" / "runs" / "all" / result["model"] / f"seed{result['seed']}" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(result))
    return tmp_path / "out"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_collected_runs_give_the_tables_of_the_experiment(
    remake: Any, collect: Callable[..., dict[str, Any]], experiment: Path
) -> None:
    from csl_tracker.reporting.summary import write_summary

    write_summary(results(), experiment)
    made = remake.remake(json.loads(json.dumps(collect([experiment], []))), experiment)
    assert {"README.md", "overview.csv", "comparisons.csv", "error_tail.csv", "training.csv"} <= made.keys()
    for name, text in made.items():
        assert text == (experiment / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("count", [3, 7])
def test_runs_without_frames_have_the_same_figures_and_keep_the_others(
    remake: Any, collect: Callable[..., dict[str, Any]], tmp_path: Path, count: int
) -> None:
    for result in results(count):
        path = tmp_path / "runs" / "all" / result["model"] / f"seed{result['seed']}" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(result))
    whole = remake.remake(collect([tmp_path], []), tmp_path)
    without = remake.remake(collect([tmp_path], [], figures_only=True), tmp_path)
    assert "error_tail.csv" not in without
    for name in ("overview", "per_landmark", "per_class", "table1", "training"):
        empty = set()
        for full, bare in zip(rows(whole[f"{name}.csv"]), rows(without[f"{name}.csv"]), strict=True):
            empty |= {key for key, value in full.items() if value and not bare[key]}
            for key, value in bare.items():
                if value:
                    assert same(value, full[key]), (name, key)
        assert ("error_px_median" in empty) == (name in ("overview", "per_landmark")), empty
    for full, bare in zip(rows(whole["comparisons.csv"]), rows(without["comparisons.csv"]), strict=True):
        keys = ["difference", "mean_a", "mean_b", "visible", "units", "sequences", *(["low", "p_holm"] if count < 6 else [])]
        assert all(same(full[key], bare[key]) for key in keys), (full, bare)
    for name, text in whole.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    kept = remake.remake(collect([tmp_path], [], figures_only=True), tmp_path)
    assert rows(kept["error_tail.csv"]) == rows(whole["error_tail.csv"])
    for name in ("overview", "table1", "training"):
        for full, bare in zip(rows(whole[f"{name}.csv"]), rows(kept[f"{name}.csv"]), strict=True):
            assert all(same(full[key], bare[key]) for key in full), (full, bare)
    assert "`overview`: median, p90, p95, KBB 0.15;" in kept["README.md"]


def same(one: str, other: str) -> bool:
    try:
        return float(one) == pytest.approx(float(other), abs=2e-6)
    except ValueError:
        return one == other


def test_nothing_that_changed_passes_the_check(
    remake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a.json").write_text(json.dumps({"runs": results()}))
    monkeypatch.setattr(remake, "RESULTS", tmp_path)
    monkeypatch.setattr(remake, "EXPERIMENTS", {"a": "a.json"})
    for arguments, code, said in (
        (["--check"], 1, "differs: a/overview.csv"),
        ([], 0, "wrote: a/overview.csv"),
        (["--check"], 0, ""),
    ):
        monkeypatch.setattr("sys.argv", ["remake_tables.py", *arguments])
        assert remake.main() == code
        out = capsys.readouterr().out
        assert said in out
        assert said or not out


@pytest.mark.parametrize("name", RUN_FILES)
def test_committed_runs_hold_no_coordinates(name: str) -> None:
    """Of single frames there are errors, sizes of boxes and shares: lists of numbers with these names only."""
    allowed = {"frame", "slot", "error_px", "box_px", "missed", "segmented_frame", "dice", "precision", "recall"}
    sizes = {"input_size", "crop", "size", "reference_size"}
    curves = {"step", "loss", "validation_step", "learning_rate"}
    data = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    for run in [*data["runs"], *data["evaluated"]]:
        for part in run["sequences"].values():
            assert set(_number_lists(part)) <= allowed | {"reference_size"}
        rest = {key: value for key, value in run.items() if key not in ("sequences", "curve")}
        assert all(key in sizes | curves or len(values) <= 4 for key, values in _number_lists(rest).items())


def _number_lists(data: Any, key: str = "") -> dict[str, list[Any]]:
    if isinstance(data, dict):
        return {name: found for k, value in data.items() for name, found in _number_lists(value, k).items()}
    if isinstance(data, list):
        if data and all(isinstance(value, int | float | None) for value in data):
            return {key: data}
        return {name: found for value in data for name, found in _number_lists(value, key).items()}
    return {}
