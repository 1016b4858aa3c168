"""``csl-tracker robustness`` from the command line to the heat map: stopped, continued, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from csl_tracker.cli.main import main
from csl_tracker.datasets.registry import open_dataset
from csl_tracker.datasets.synthetic import SyntheticSequence
from csl_tracker.datasets.synthetic.layout import write_endovis2015
from csl_tracker.evaluation import robustness
from csl_tracker.evaluation.robustness import Bench, chosen_frames


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("robustness")
    for seed, name in enumerate(("A", "B")):
        write_endovis2015(SyntheticSequence(seed, 5, (64, 96), name=name), folder)
    return folder


def words(root: Path, weights: Path, out: Path, *more: str) -> list[str]:
    network = ["--weights", str(weights), "--device", "cpu", "--engine", "torch"]
    return ["robustness", "--dataset", "synthetic", "--root", str(root), "--out", str(out), *network, *more]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--kinds", "fog"], "no corruption 'fog'; choose from blood, smoke"),
        (["--severities", "0"], "no severity 0; give numbers from 1 to 5"),
        (["--frames", "-1"], "number of frames is -1; give one from 1, or 0 for all"),
        (["--sequences", "C"], "C"),
    ],
)
def test_mistakes_are_one_sentence(
    root: Path, random_weights: Path, tmp_path: Path, more: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(root, random_weights, tmp_path / "out", *more)) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_cells_tables_and_heat_map_and_only_what_is_missing(
    root: Path, random_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command = words(root, random_weights, out, "--kinds", "grey", "zoom", "--severities", "3", "5", "--frames", "3")
    measured: list[str] = []
    measure = robustness.measure

    def stop_at_the_fourth(*given: Any) -> dict[str, Any]:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(given[3])
        return measure(*given)

    monkeypatch.setattr(robustness, "measure", stop_at_the_fourth)
    assert main(command) == 130
    assert measured == ["clean", "grey/3", "grey/5"]
    kept = json.loads((out / "robustness.json").read_text())["sequences"]
    monkeypatch.setattr(robustness, "measure", lambda *given: measured.append(given[3]) or measure(*given))
    assert main(command) == 0
    assert measured[3:] == ["zoom/3", "zoom/5", "clean", "grey/3", "grey/5", "zoom/3", "zoom/5"]
    data = json.loads((out / "robustness.json").read_text())
    for name in "AB":
        assert list(data["sequences"][name]) == ["clean", "grey/3", "grey/5", "zoom/3", "zoom/5"]
    assert data["sequences"]["A"]["grey/3"] == kept["A"]["grey/3"]
    clean = data["sequences"]["A"]["clean"]
    assert clean["frames"] == 3
    assert clean["visible"] > 0
    assert str(tmp_path) not in json.dumps(data)
    page = (out / "README.md").read_text()
    assert "![DICE drop by corruption and severity](dice_drop.png)" in page
    assert "| grey |" in page
    assert {"dice_drop.png", "dice_drop.svg", "dice_drop.csv", "robustness.csv"} <= {path.name for path in out.iterdir()}
    drops = (out / "dice_drop.csv").read_text().splitlines()
    assert drops[0] == "corruption,severity_3,severity_5"
    expected = sum(cells["clean"]["dice"] - cells["grey/3"]["dice"] for cells in data["sequences"].values()) / 2
    assert float(drops[1].split(",")[1]) == pytest.approx(expected, abs=1e-5)

    count = len(measured)
    assert main(command) == 0  # nothing is left to measure
    assert len(measured) == count
    capsys.readouterr()
    assert main([*command[:-1], "4"]) == 2
    assert "was measured with frames 3 and not with 4; give another folder" in capsys.readouterr().err
    older = {**data, "versions": {**data["versions"], "torch": "1.0"}}
    (out / "robustness.json").write_text(json.dumps(older))
    assert main(command) == 2
    assert "was measured with version of torch 1.0 and not with" in capsys.readouterr().err
    (out / "robustness.json").write_text("[]")
    assert main(command) == 2
    assert "is no file of 'csl-tracker robustness'" in capsys.readouterr().err


def test_the_clean_cell_is_what_evaluate_says(root: Path, random_weights: Path, tmp_path: Path) -> None:
    assert main(words(root, random_weights, tmp_path / "out", "--kinds", "grey", "--severities", "1", "--frames", "0")) == 0
    common = ["--dataset", "synthetic", "--root", str(root), "--weights", str(random_weights), "--engine", "torch"]
    assert main(["evaluate", *common, "--device", "cpu", "--json", str(tmp_path / "e.json")]) == 0
    cells = json.loads((tmp_path / "out/robustness.json").read_text())["sequences"]
    for name, figures in json.loads((tmp_path / "e.json").read_text())["sequences"].items():
        for key in ("frames", "visible", "dice", "threshold_score_20px", "miss_rate", "extra_instruments_per_frame"):
            assert cells[name]["clean"][key] == figures[key]
        assert cells[name]["clean"]["landmark_error_px"]["mean"] == figures["landmark_error_px"]["mean"]


@pytest.mark.parametrize(
    ("number", "frames"), [(0, [0, 1, 2, 3, 4]), (1, [0]), (2, [0, 2]), (3, [0, 1, 3]), (9, [0, 1, 2, 3, 4])]
)
def test_frames_are_evenly_spaced(root: Path, number: int, frames: list[int]) -> None:
    (sequence,) = open_dataset("synthetic", root, ["A"])
    assert [sample.frame for sample in chosen_frames(sequence, number)] == frames


def test_all_cells_by_default() -> None:
    assert len(Bench().cells()) == 1 + 16 * 5
