from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.cli.evaluate import format_table
from csl_tracker.cli.main import main
from csl_tracker.instruments import ENDOVIS, InstrumentSet
from csl_tracker.networks import NetworkConfig
from csl_tracker.video import VideoWriter

FRAMES = 3


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Dataset1 with one instrument, Dataset5 with two; 160x128 px."""
    mask = np.zeros((128, 160), np.uint8)
    mask[40:80, 60:], mask[40:80, 60:90] = 160, 70
    names = {
        "Dataset1": (["Segmentation"], ["Pose"]),
        "Dataset5": ([f"{side}_Instrument_{kind}" for side in ("Left", "Right")] for kind in ("Segmentation", "Pose")),
    }
    for name, (masks, poses) in names.items():
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for video in ("Video", *masks):
            with VideoWriter(folder / f"{video}.avi", 25, crf=4) as writer:
                for _ in range(FRAMES):
                    writer.write(mask)
        for pose in poses:
            (folder / f"{pose}.txt").write_text("100 60 -1 0 -1 0 5\n-1 -1 -1 0 -1 0 5\n102 60 -1 0 -1 0 5\n")
    return tmp_path / "data"


def run(dataset: Path, weights: Path, *more: str) -> int:
    common = [
        "--dataset",
        "endovis2015",
        "--root",
        str(dataset),
        "--weights",
        str(weights),
        "--device",
        "cpu",
        "--engine",
        "torch",
    ]
    return main(["evaluate", *common, *more])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--dataset", "endovis", "--root", "x"], "no dataset 'endovis'; known are"),
        (["--dataset", "endovis2015", "--root", "nowhere"], "The dataset folder nowhere does not exist"),
        (["--dataset", "endovis2015", "--root", "nowhere", "--json", "."], "is a folder; name a file"),
    ],
)
def test_mistakes_end_with_one_sentence(
    random_weights: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert main(["evaluate", "--weights", str(random_weights), *arguments]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", ["0", "-1", "two"])
def test_impossible_number_of_instruments(dataset: Path, random_weights: Path, number: str) -> None:
    with pytest.raises(SystemExit) as info:
        run(dataset, random_weights, "--max-instruments", number)
    assert info.value.code == 2


@pytest.mark.parametrize("size", ["480", "480x", "x640", "0x640", "480x-640", "480x640x3", "a x b"])
def test_impossible_reference_size(dataset: Path, random_weights: Path, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        run(dataset, random_weights, "--reference-size", size)
    assert info.value.code == 2
    assert "is no size; give height x width in px, such as 480x640" in capsys.readouterr().err


def test_distances_of_a_reference_size_are_stated_with_it(dataset: Path, random_weights: Path, tmp_path: Path) -> None:
    figures = []
    for name, more in (("source.json", []), ("twice.json", ["--reference-size", "256x320"])):
        assert run(dataset, random_weights, "--sequences", "Dataset1", "--json", str(tmp_path / name), *more) == 0
        figures.append(json.loads((tmp_path / name).read_text())["sequences"]["Dataset1"])
    source, twice = figures
    assert (source.pop("reference_size"), twice.pop("reference_size")) == (None, [256, 320])
    assert twice["landmark_error_px"]["mean"] == pytest.approx(2 * source["landmark_error_px"]["mean"], abs=1e-5)
    assert {key: twice[key] for key in ("dice", "miss_rate", "visible")} == {
        key: source[key] for key in ("dice", "miss_rate", "visible")
    }


def test_weights_for_other_landmarks_leave_no_file(
    dataset: Path, make_weights: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("left_tip", "right_tip", "joint", "shaft", "head")
    alien = make_weights(instruments=InstrumentSet(landmarks=names, classes=ENDOVIS.classes), network=NetworkConfig())
    out = tmp_path / "out" / "figures.json"
    assert run(dataset, alien, "--json", str(out)) == 2
    assert "for other landmarks than the dataset's: they have left_tip, right_tip, joint" in capsys.readouterr().err
    assert not out.parent.exists()


def test_figures_have_what_the_docs_promise(
    dataset: Path, random_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "figures.json"
    assert run(dataset, random_weights, "--json", str(out)) == 0
    report = json.loads(out.read_text())
    assert list(report["sequences"]) == ["Dataset1", "Dataset5"]
    assert [s["max_instruments"] for s in report["sequences"].values()] == [1, 2]
    figures = report["sequences"]["Dataset1"]
    raw = figures["details"]["landmarks"]  # what csl-tracker compare pairs
    assert {name: len(part["error_px"]) for name, part in raw.items()} == {
        name: part["visible"] for name, part in figures["landmarks"].items()
    }
    assert figures["frames"] == FRAMES
    for key in ("dice", "precision", "recall", "threshold_score_20px", "miss_rate", "false_positive_rate"):
        assert 0 <= figures[key] <= 1, key
    assert figures["kbb_0.15"] is None  # the pose file's centre alone spans no box
    assert {"mean", "median", "p90", "p95", "max"} == set(figures["landmark_error_px"])
    assert (figures["landmarks"]["center"]["visible"], figures["landmarks"]["center"]["absent"]) == (2, 1)
    assert figures["landmarks"]["head"]["landmark_error_px"]["mean"] is None
    assert len(report["weights"]["sha256"]) == len(report["input_sha256"]) == len(figures["input_sha256"]) == 64
    assert report["machine"]["cores"] >= 1
    assert report["versions"]["csl_tracker"]
    assert str(tmp_path) not in out.read_text()
    assert not [p for p in out.parent.iterdir() if p != out]
    table = capsys.readouterr().out
    assert "Dataset5" in table
    assert "left_clasper" in table


def test_only_the_named_sequences(dataset: Path, random_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    assert run(dataset, random_weights, "--sequences", "Dataset5", "--max-instruments", "3", "--json", str(out)) == 0
    report = json.loads(out.read_text())
    assert list(report["sequences"]) == ["Dataset5"]
    assert report["sequences"]["Dataset5"]["max_instruments"] == 3


def test_table_shows_a_dash_for_what_was_not_measured() -> None:
    nothing = {"mean": None, "median": None}
    part = {
        "visible": 0,
        "landmark_error_px": nothing,
        "threshold_score_20px": None,
        "miss_rate": None,
        "false_positive_rate": None,
    }
    figures = {"frames": 4, "dice": 0.91649, "precision": None, "recall": 1.0, **part, "landmarks": {"center": part}}
    lines = format_table({"Dataset3": {**figures, "second_annotation": {}}}).splitlines()
    assert lines[2].split() == ["Dataset3", "4", "0.916", "-", "1.000", "0", "-", "-", "-", "-", "-"]
    assert len(lines) == 4


def test_nothing_in_common_is_a_sentence(
    dataset: Path, make_weights: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("left_tip", "right_tip", "joint", "hub", "eye")
    alien = make_weights(instruments=InstrumentSet(names, ("background", "needle", "thread")), network=NetworkConfig())
    assert run(dataset, alien, "--partial") == 2
    captured = capsys.readouterr()
    assert (
        "the landmarks left_tip, right_tip, joint, hub, eye and the classes background, needle, thread; the dataset"
        in captured.err
    )
    assert "They have nothing in common" in captured.err
    assert captured.out == ""
    assert run(dataset, alien, "--partial", "--landmarks", "center=rub") == 2
    assert "The landmarks of the command hold 'center=rub'; write THEIRS=OURS with theirs of" in capsys.readouterr().err


def test_renamed_landmarks_and_classes_are_measured(
    dataset: Path, make_weights: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("ring", "joint", "hub", "eye", "tail")
    weights = make_weights(instruments=InstrumentSet(names, ("background", "rod", "hand")), network=NetworkConfig())
    more = ["--sequences", "Dataset1", "--json", str(tmp_path / "x.json"), "--partial"]
    assert run(dataset, weights, *more, "--landmarks", "center=ring", "--classes", "shaft=rod", "manipulator=hand") == 0
    report = json.loads((tmp_path / "x.json").read_text())
    figures = report["sequences"]["Dataset1"]
    assert report["renamed"] == ["center=ring", "shaft=rod", "manipulator=hand"]
    assert (figures["landmarks"]["ring"]["visible"], figures["landmarks"]["ring"]["absent"]) == (2, 1)
    assert figures["dice"] is not None
    out = capsys.readouterr().out
    assert "Dataset1: joint, hub, eye, tail not labelled; not measured." in out
    assert "  joint" not in out


def test_frames_without_labels_are_a_sentence(dataset: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("Pose.txt", "Segmentation.avi"):
        (dataset / "Dataset1" / name).unlink()
    assert run(dataset, random_weights, "--sequences", "Dataset1") == 2
    captured = capsys.readouterr()
    assert "No frame of Dataset1 in " in captured.err
    assert "nothing can be measured" in captured.err
    assert captured.out == ""
