from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from csl_tracker.errors import DatasetError
from csl_tracker.reporting import plot_style
from csl_tracker.reporting.summary import write_summary

Make = Callable[..., Any]
TABLES = ("overview", "comparisons", "per_landmark", "per_class", "table1", "error_tail", "training", "runs")
PUBLISHED = "name,kind,x,y\nFPBC,kbb,0.1,0.5\nFPBC,kbb,0.2,0.6\nPOSE,threshold,20,0.7\n"
FIGURES = ("threshold_curves", "kbb_curves", "error_tail", "loss_curves")


@pytest.fixture(scope="module")
def results(make_run: Make, sequence: Make, landmark: Make) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for seed in (0, 1):
        for model, size in (("csl", 4.0), ("sl", 9.0), ("l", 12.0)):
            parts = {}
            for name in ("Dataset1", "Dataset2"):
                marks = {key: landmark([float(x) for x in rng.gamma(2, size, 12)], 90.0) for key in ("center", "head")}
                parts[name] = sequence(marks, dice=None if model == "l" else rng.uniform(0.8, 1, 12).tolist())
            made.append(make_run(model, parts, seed))
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, results: list[dict[str, Any]]) -> Path:
    """A folder with the summary of all the results and of published curves."""
    out = tmp_path_factory.mktemp("whole")
    curves = tmp_path_factory.mktemp("published") / "c.csv"
    curves.write_text(PUBLISHED)
    write_summary(results, out, curves)
    return out


def test_nothing_to_summarise(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no finished run to summarise into .*out"):
        write_summary([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_curves_leave_nothing_behind(tmp_path: Path, results: list[dict[str, Any]]) -> None:
    (tmp_path / "c.csv").write_text("name,kind,x,y\nFPBC,kbb,1,2\n")
    with pytest.raises(DatasetError, match=r"Line 2 of .*c\.csv has y=2"):
        write_summary(results, tmp_path / "out", tmp_path / "c.csv")
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written(tmp_path: Path, results: list[dict[str, Any]]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_summary(results, tmp_path / "file")


def test_same_results_same_bytes(tmp_path: Path, whole: Path, results: list[dict[str, Any]]) -> None:
    (tmp_path / "c.csv").write_text(PUBLISHED)
    written = write_summary(list(reversed(results)), tmp_path / "out", tmp_path / "c.csv")
    names = {path.name for path in written}
    assert names == {
        "README.md",
        *(f"{name}.{suffix}" for name in TABLES for suffix in ("md", "csv")),
        *(f"{name}.{suffix}" for name in FIGURES for suffix in ("png", "svg")),
    }
    assert {path.name for path in whole.iterdir()} == names
    for path in written:
        assert path.read_bytes() == (whole / path.name).read_bytes(), path.name


def test_page_shows_every_table_and_figure(whole: Path) -> None:
    page = (whole / "README.md").read_text()
    assert "3 models, 1 fold, 2 seeds: all 6 runs are there." in page
    for name in TABLES:
        assert (whole / f"{name}.md").read_text().strip() in page, name
        assert f"]({name}.csv)" in page
    for name in FIGURES:
        assert f"]({name}.png)" in page
        assert f"]({name}.svg)" in page
    assert "csl-tracker experiment synthetic --root data --out out" in page
    assert "distances are in px of the source image" in page


def test_page_says_what_is_missing(tmp_path: Path, results: list[dict[str, Any]]) -> None:
    bare = {"sequences": {}, "curve": {}}
    write_summary([{**result, **bare} for result in results[:-1]], tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "5 of 6 runs are there; l has 1 of 2 seeds whole. **The experiment is not finished.**" in page


def test_models_and_published_curves_are_named_in_the_figures(whole: Path) -> None:
    threshold, kbb = (set(labels(whole / f"{name}_curves.svg")) for name in ("threshold", "kbb"))
    assert {"L", "SL", "CSL", "center", "head", "mean of the landmarks"} <= threshold & kbb
    assert "threshold (px)" in threshold
    assert ("POSE (published)" in threshold, "FPBC (published)" in threshold) == (True, False)
    assert ("POSE (published)" in kbb, "FPBC (published)" in kbb) == (False, True)
    assert "Published curves beside ours: POSE." in (whole / "README.md").read_text()


def test_distances_of_a_reference_size_are_named(tmp_path: Path, make_run: Make, sequence: Make, landmark: Make) -> None:
    parts = {"Dataset1": sequence({"center": landmark([3.0, 4.0], None)}, reference_size=(480, 640))}
    written = {path.name for path in write_summary([make_run("csl", parts)], tmp_path)}
    assert "distances are in px of 640x480" in (tmp_path / "README.md").read_text()
    assert "threshold (px of 640x480)" in labels(tmp_path / "threshold_curves.svg")
    assert "kbb_curves.svg" not in written, "a single landmark spans no box"
    assert "KBB score" not in (tmp_path / "README.md").read_text()


def test_panels_in_the_folder_are_shown(tmp_path: Path, results: list[dict[str, Any]]) -> None:
    (tmp_path / "panels_all_Dataset1.png").touch()
    write_summary([{**results[0], "sequences": {}, "curve": {}}], tmp_path)
    assert "## Examples\n\n![panels all Dataset1](panels_all_Dataset1.png)" in (tmp_path / "README.md").read_text()


def test_run_without_any_curve_or_landmark(tmp_path: Path, make_run: Make, sequence: Make, landmark: Make) -> None:
    parts = {"Dataset1": sequence({"center": landmark([])})}
    written = {path.name for path in write_summary([make_run("csl", parts, curve={})], tmp_path)}
    assert not [name for name in written if name.endswith((".png", ".svg"))]
    assert "README.md" in written
    assert "comparisons.csv" not in written, "one model has nothing to be compared with"


def test_looks_of_models_differ_and_hold() -> None:
    names = ["l", "sl", "csl_no_skip", "csl", "unet", "forest", "csl@encoder_weights=", "own"]
    looks = plot_style.lines(names)
    assert len({look.color for look in looks.values()}) == len(names)
    assert len({look.label for look in looks.values()}) == len(names)
    assert plot_style.lines(["csl"])["csl"] == looks["csl"]


def labels(path: Path) -> list[str]:
    """Texts of an SVG, which Matplotlib names in comments beside their outlines."""
    import re

    return re.findall(r"<!-- (.+?) -->", path.read_text())
