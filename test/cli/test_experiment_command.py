"""``csl-tracker experiment``: what needs no training. Real experiments are in test/training/test_experiment.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from csl_tracker.cli.main import build_parser, main
from csl_tracker.evaluation.protocols import shipped_protocols
from csl_tracker.network_names import STRATEGIES
from csl_tracker.training.presets import PRESETS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "No protocol was named; 'csl-tracker experiment --list'"),
        (["synthetic"], "needs --out"),
        (["rm", "--out", "OUT"], "There is no protocol 'rm'; choose one of endovis_loso"),
        (["synthetic", "--out", "OUT", "--seeds", "0"], "--seeds is 0"),
        (["synthetic", "--out", "OUT", "--models", "csi"], "no known strategy"),
        (["synthetic", "--out", "OUT", "--preset", "best"], "the preset 'best', which is unknown"),
        (["synthetic", "--out", "OUT", "--config", "nowhere.yaml"], "settings file nowhere.yaml cannot be read"),
        (["synthetic", "--out", "OUT", "--device", "tpu"], "device 'tpu' is unknown"),
        (["synthetic", "--out", "OUT", "steps=0"], "steps is 0; give at least 1"),
        (["synthetic", "--out", "OUT", "--sequences", "Test1"], "fixed folds"),
        (["synthetic", "--out", "OUT", "--summary-only"], "no finished run"),
        (["synthetic", "--out", "/proc/nowhere", "--device", "cpu"], "cannot be written"),
        (["endovis_loso", "--out", "OUT", "--device", "cpu"], "as --root: a correct layout is"),
        (["endovis_loso", "--out", "OUT", "--root", "OUT/nowhere", "--device", "cpu"], "There is no folder"),
        (["rm_9_9", "--out", "OUT", "--root", "OUT", "--device", "cpu"], "the layout of retinal stands in docs/datasets.md"),
    ],
)
def test_a_mistake_is_one_sentence(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["experiment", *(word.replace("OUT", str(out)) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("csl-tracker: ")
    assert error.count("\n") == 1
    assert not out.exists()


def test_runs_of_another_protocol_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tmp_path / "runs/x/csl/seed0/result.json"
    result.parent.mkdir(parents=True)
    result.write_text('{"protocol": "other"}')
    assert main(["experiment", "synthetic", "--out", str(tmp_path), "--device", "cpu"]) == 2
    assert "holds runs of the protocol other and not of synthetic" in capsys.readouterr().err


def test_the_list_explains_everything_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    named = {line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ")}
    assert {*shipped_protocols(), *STRATEGIES} <= named
    assert all(preset in lines[-1] for preset in PRESETS)


@pytest.mark.parametrize(
    "words",
    [
        "synthetic steps=5 clip=1 --out o --models csl l@clip=2 --sequences A --device cpu",
        "synthetic --out o --models csl l@clip=2 steps=5 clip=1 --sequences A --device cpu",
        "steps=5 synthetic --out o --models csl l@clip=2 --sequences A clip=1 --device cpu",
        "synthetic --out o --models csl l@clip=2 --sequences A --device cpu steps=5 clip=1",
    ],
)
def test_settings_may_stand_anywhere(words: str) -> None:
    args = build_parser("experiment").parse_args(["experiment", *words.split()])
    assert (args.protocol, args.overrides, args.models) == ("synthetic", ["steps=5", "clip=1"], ["csl", "l@clip=2"])
    assert (args.out, args.sequences, args.device) == (Path("o"), ["A"], "cpu")


def test_a_path_with_an_equals_sign_is_no_setting() -> None:
    args = build_parser("experiment").parse_args(["experiment", "synthetic", "--out", "rate=3"])
    assert (args.out, args.overrides) == (Path("rate=3"), [])


def test_options_of_one_word_are_told_from_those_of_several() -> None:
    with pytest.raises(SystemExit):
        build_parser("experiment").parse_args(["experiment", "synthetic", "--reference-size", "big"])
