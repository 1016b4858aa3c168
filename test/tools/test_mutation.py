"""The collecting part of tools/mutation.py, on a made-up folder as mutmut writes it; mutmut itself is not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mutation
import pytest

from csl_tracker.errors import ConfigError

SOURCE = '''
def x_half__mutmut_orig(a):
    """Half of it."""
    if a < 0:
        raise ValueError("negative")
    return a / 2

def x_half__mutmut_1(a):
    """Half of it."""
    if a <= 0:
        raise ValueError("negative")
    return a / 2

def x_half__mutmut_2(a):
    """Half of it."""
    if a < 0:
        raise ValueError(None)
    return a / 2

def x_half__mutmut_3(a):
    """Half of it."""
    if a < 0:
        raise ValueError("negative")
    return a * 2

class Box:
    def xǁBoxǁwide__mutmut_orig(self):
        return wide(
            self,
            strict=True,
        )

    def xǁBoxǁwide__mutmut_1(self):
        return wide(
            self,
            )
'''
LIMIT = ("core/half.py", "half", "if a <= 0:")
TEXT = ("core/half.py", "half", "raise ValueError(None)")
STRICT = ("core/half.py", "Box.wide", "- strict=True,")


def write(folder: Path, codes: dict[str, int | None]) -> Path:
    (folder / "core").mkdir(parents=True)
    (folder / "core" / "half.py").write_text(SOURCE, encoding="utf-8")
    meta = {
        "exit_code_by_key": {f"core.half.{name}": code for name, code in codes.items()},
        "durations_by_key": dict.fromkeys(codes, 0.5),
    }
    (folder / "core" / "half.py.meta").write_text(json.dumps(meta), encoding="utf-8")
    stats = {"duration_by_test": {"test/test_half.py::test_a[x::y]": 0.1, "test/test_half.py::test_b": 0.1}}
    (folder / "mutmut-stats.json").write_text(json.dumps(stats), encoding="utf-8")
    return folder


CODES: dict[str, int | None] = {
    "x_half__mutmut_1": 0,
    "x_half__mutmut_2": 33,
    "x_half__mutmut_3": 1,
    "xǁBoxǁwide__mutmut_1": 0,
}


@pytest.mark.parametrize(
    ("reasons", "problems"),
    [
        ({}, ["No reason ... if a <= 0:", "raise ValueError(None)", "- strict=True,"]),
        ({LIMIT: "zero is zero", TEXT: "a sentence"}, ["- strict=True,"]),
        (
            {LIMIT: "", TEXT: "", STRICT: "", ("core/half.py", "half", "return a * 2"): "x"},
            ["No such survivor ... return a * 2"],
        ),
        ({LIMIT: "", TEXT: "", STRICT: "", ("core/other.py", "half", "if a <= 0:"): "x"}, ["No such survivor ... other.py"]),
        ({LIMIT: "", TEXT: "", STRICT: ""}, []),
    ],
)
def test_each_survivor_needs_a_reason_and_each_reason_a_survivor(
    tmp_path: Path, reasons: dict[tuple[str, str, str], str], problems: list[str]
) -> None:
    _, found = mutation.collect(mutation.read_mutants(write(tmp_path, CODES)), reasons)
    assert len(found) == len(problems)
    for sentence, parts in zip(found, problems, strict=True):
        assert all(part in sentence for part in parts.split(" ... "))


@pytest.mark.parametrize("code", [None, 2])
def test_mutants_that_are_left_to_test_are_a_problem(tmp_path: Path, code: int | None) -> None:
    mutants = mutation.read_mutants(write(tmp_path, {**CODES, "x_half__mutmut_2": code}))
    data, problems = mutation.collect(mutants, {LIMIT: "", STRICT: "", TEXT: "kept until all are tested"})
    assert problems == ["1 mutants are not tested yet; run this again."]
    assert data["all"]["not_tested"] == 1


def test_survivors_are_named_by_function_and_change(tmp_path: Path) -> None:
    mutants = mutation.read_mutants(write(tmp_path, CODES))
    assert [mutant.key for mutant in mutants if mutant.status != "killed"] == [LIMIT, TEXT, STRICT]
    assert (mutants[0].removed, mutants[0].added) == (("if a < 0:",), ("if a <= 0:",))
    assert (mutants[3].removed, mutants[3].added) == (("strict=True,",), ())


@pytest.mark.parametrize(
    ("code", "status", "detected"),
    [
        (1, "killed", 1),
        (3, "killed", 1),
        (36, "timeout", 1),
        (-24, "timeout", 1),
        (0, "survived", 0),
        (33, "no_tests", 0),
        (-11, "crashed", 0),
        (None, "not_tested", 0),
    ],
)
def test_the_score_is_the_share_that_is_killed_or_timed_out(
    tmp_path: Path, code: int | None, status: str, detected: int
) -> None:
    codes = {**dict.fromkeys(CODES, 1), "x_half__mutmut_2": code}
    data, _ = mutation.collect(mutation.read_mutants(write(tmp_path, codes)), {})
    for of in (data["all"], data["modules"]["core/half.py"]):
        assert of["mutants"] == 4
        assert of[status] == (4 if status == "killed" else 1)
        assert of["score"] == (3 + detected) / 4


def test_only_undetected_mutants_are_tested_again(tmp_path: Path) -> None:
    folder = write(tmp_path, {**CODES, "xǁBoxǁwide__mutmut_1": -24})
    mutation.forget_survivors(folder)
    statuses = [mutant.status for mutant in mutation.read_mutants(folder)]
    assert statuses == ["not tested", "not tested", "killed", "timeout"]
    assert mutation.seconds(folder) == 2.0


def test_the_inputs_are_the_modules_and_the_tests(tmp_path: Path) -> None:
    assert mutation.inputs(write(tmp_path / "mutants", CODES), tmp_path) == [
        tmp_path / "core" / "half.py",
        tmp_path / "test" / "test_half.py",
    ]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, ConfigError, "cannot be read"),
        (
            "- {reason: a, mutants: {m.py: {f: [x]}}}\n- {reason: b, mutants: {m.py: {f: [x]}}}\n",
            ValueError,
            "two reasons for f in m.py: x",
        ),
    ],
)
def test_bad_reasons_are_refused(tmp_path: Path, text: str | None, error: type[Exception], message: str) -> None:
    path = tmp_path / "reasons.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message):
        mutation.read_reasons(path)


def test_reasons_of_a_group(tmp_path: Path) -> None:
    path = tmp_path / "reasons.yaml"
    path.write_text("- {reason: a, mutants: {m.py: {f: [x, y], g: [x]}}}\n- {reason: b, mutants: {m.py: {f: [z]}}}\n")
    assert mutation.read_reasons(path) == {
        ("m.py", "f", "x"): "a",
        ("m.py", "f", "y"): "a",
        ("m.py", "g", "x"): "a",
        ("m.py", "f", "z"): "b",
    }


def test_the_committed_result_has_a_reason_for_every_survivor() -> None:
    if not mutation.RESULT.exists():
        pytest.skip("docs/results/mutation.json is not in this copy")
    result: dict[str, Any] = json.loads(mutation.RESULT.read_text(encoding="utf-8"))
    reasons = mutation.read_reasons(mutation.REASONS)
    survivors = [
        mutation.Mutant(s["module"], s["function"], s["status"], tuple(s["removed"]), tuple(s["added"]))
        for s in result["survivors"]
    ]
    assert [reasons[mutant.key] for mutant in survivors] == [s["reason"] for s in result["survivors"]]
    assert {mutant.key for mutant in survivors} == reasons.keys()
    assert f"{mutation.BEGIN}\n\n{mutation.table(result)}\n\n{mutation.END}" in mutation.PAGE.read_text(encoding="utf-8")
    assert len(survivors) == result["all"]["mutants"] - result["all"]["killed"] - result["all"]["timeout"]
