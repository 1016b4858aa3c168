"""Protocols: the shipped ones, the shorthands, and files that are wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from csl_tracker.datasets.sample import share_of_frames
from csl_tracker.errors import ConfigError
from csl_tracker.evaluation.protocol_models import Part
from csl_tracker.evaluation.protocols import load_protocol, parse_protocol, shipped_protocols

GOOD: dict[str, Any] = {
    "name": "mine",
    "description": "two\nlines",
    "dataset": "endovis2015",
    "folds": [
        {
            "name": "only",
            "train": [{"sequences": ["A"], "last": 0.9}],
            "validation": [{"sequences": ["A"], "first": 0.9}],
            "test": [{"sequences": ["B"]}],
        }
    ],
}
ROTATED = {"name": "mine", "dataset": "endovis2015", "held_back": 0.2}


def changed(path: str, value: Any) -> dict[str, Any]:
    """GOOD with another value at a dotted path; ``...`` removes it."""
    data = copy.deepcopy(GOOD)
    *steps, last = path.split(".")
    where: Any = data
    for step in steps:
        where = where[int(step)] if isinstance(where, list) else where[step]
    if value is ...:
        del where[last]
    else:
        where[last] = value
    return data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (["a"], "holds ['a'] where a section with settings belongs"),
        (None, "holds None where a section"),
        (changed("name", ""), "name is ''; give a text"),
        (changed("dataset", ...), "dataset is missing"),
        (changed("fold", []), "unknown setting 'fold'; the nearest known one is 'folds'"),
        (changed("folds", []), "folds is []; give a list that is not empty"),
        (changed("folds", ...), "no folds"),
        (changed("leave_one_out", ["A", "B"]), "exactly one of"),
        (changed("held_back", 0.1), "held_back beside folds"),
        (changed("folds.0.validation", ...), "folds[0].validation is missing"),
        (changed("folds.0.tests", []), "folds[0] has the unknown setting 'tests'; the nearest known one is 'test'"),
        (changed("folds.0.train.0.sequences", ["A", "A"]), "folds[0].train[0].sequences names the sequence A twice"),
        (changed("folds.0.train.0.sequences", "A"), "folds[0].train[0].sequences is 'A'; give a list"),
        (changed("folds.0.train.0.last", 1.5), "last is 1.5; give at most 1"),
        (changed("folds.0.train.0.last", "half"), "last is 'half'; give a finite number"),
        (changed("folds.0.train.0.last", True), "last is True; give a finite number"),
        (changed("folds.0.train.0.last", 0), "first be less than last"),
        (changed("folds.0.train.0.last", 1.0), "both in train and in validation"),
        (changed("folds.0.test.0.sequences", ["B", "A"]), "frames of A both in train and in test"),
        (changed("folds", GOOD["folds"] * 2), "two folds of one name"),
        (changed("settings", [1]), "settings is [1]; give a mapping"),
        (changed("preset_settings", {"modern": 3}), "preset_settings.modern is 3; give a mapping"),
        (
            changed("synthesis", {"size": [96, 127], "groups": [{"sequences": ["A"], "frames": 1, "seed": 1}]}),
            "size[1] is 127; give a multiple of 2",
        ),
        (changed("synthesis", {"size": [96], "groups": []}), "size is [96]; give 2 values, height and width"),
        (
            changed("synthesis", {"size": [96, 96], "groups": [{"sequences": ["A"], "frames": 0, "seed": 1}]}),
            "synthesis.groups[0].frames is 0; give at least 1",
        ),
        (
            changed("synthesis", {"size": [96, 96], "fps": 0, "groups": [{"sequences": ["A"], "frames": 1, "seed": 1}]}),
            "synthesis.fps is 0; give more than 0",
        ),
        ({**ROTATED, "leave_one_out": ["A"]}, "at least two"),
        ({**ROTATED, "leave_one_out": ["A", "B"], "held_back": 1}, "held_back is 1; give less than 1"),
        ({**ROTATED, "leave_one_out": ["A", "B"], "held_back": 0}, "held_back is 0; give more than 0"),
        ({**ROTATED, "leave_group_out_from": "../types.yaml"}, "give the name of a .yaml file in the data's folder"),
        ({**ROTATED, "leave_group_out": {"x": ["A"], "y": ["A", "B"]}}, "two groups"),
        ({**ROTATED, "leave_group_out": ["A", "B"]}, "leave_group_out is ['A', 'B']; give a mapping"),
    ],
)
def test_wrong_protocols_are_named(data: Any, said: str) -> None:
    with pytest.raises(ConfigError, match="The protocol FILE") as caught:
        parse_protocol(data, "FILE")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("nonsense", None, "choose one of endovis_loso"),
        ("missing.yaml", None, "cannot be read"),
        ("broken.yaml", "name: [", "not readable YAML"),
    ],
)
def test_a_protocol_that_is_not_there(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_protocol(str(path) if path.suffix else name)


@pytest.mark.parametrize(
    ("name", "folds", "sequences", "rotates"),
    [
        ("endovis_loso", 4, 4, True),
        ("endovis_test", 1, 10, False),
        ("endovis_table1", 4, 9, False),
        ("rm_9_9", 1, 18, False),
        ("rm_half_split", 1, 18, False),
        ("synthetic", 1, 36, False),
        ("synthetic_strategies", 1, 60, False),
    ],
)
def test_shipped_protocols(name: str, folds: int, sequences: int, rotates: bool) -> None:
    protocol = load_protocol(name)
    assert protocol.name == name
    assert (len(protocol.folds), len(protocol.sequences), protocol.rotates) == (folds, sequences, rotates)
    assert "\n" not in protocol.description
    assert len(protocol.description) > 100
    for fold in protocol.folds:
        trained = {name for part in fold.train for name in part.sequences}
        assert {name for part in fold.validation for name in part.sequences} <= trained or name.startswith("synthetic")


def test_table_1_trains_on_the_other_training_surgeries() -> None:
    """Laina et al. 2017, section 3: set N without training surgery N; sets 5 and 6, new surgeries, with all four; no set 1."""
    found = {
        fold.test[0].sequences: {int(name[-1]) for part in fold.train for name in part.sequences}
        for fold in load_protocol("endovis_table1").folds
    }
    assert found == {
        ("testing/Dataset2",): {1, 3, 4},
        ("testing/Dataset3",): {1, 2, 4},
        ("testing/Dataset4",): {1, 2, 3},
        ("Dataset5", "Dataset6"): {1, 2, 3, 4},
    }
    names = {name for fold in load_protocol("endovis_table1").folds for part in fold.train for name in part.sequences}
    assert {name.split("/")[0] for name in names} == {"training"}


def test_planned_comparisons_are_pairs_of_models() -> None:
    data = {"name": "mine", "dataset": "synthetic", "leave_one_out": ["A", "B"], "comparisons": [["csl", "unet@width=8"]]}
    assert parse_protocol(data, "FILE").comparisons == (("csl", "unet@width=8"),)
    for wrong in ("csl", ["csl"], ["csl", "csl"], ["csl", "l", "sl"]):
        with pytest.raises(ConfigError, match="give two different models"):
            parse_protocol({**data, "comparisons": [wrong]}, "FILE")


def test_the_powers_level_is_that_of_the_planned_comparisons() -> None:
    from benchmark.power import COMPARISONS

    assert len(load_protocol("synthetic_strategies").comparisons) == COMPARISONS


def test_every_shipped_protocol_is_tested() -> None:
    tested = next(mark for mark in test_shipped_protocols.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    assert set(shipped_protocols()) == {case[0] for case in tested.args[1]} | {"rm_cross_validation"}


def test_groups_come_from_a_file_beside_the_data(tmp_path: Path) -> None:
    protocol = load_protocol("rm_cross_validation")
    assert (protocol.folds, protocol.groups_file, protocol.rotates) == ((), "instrument_types.yaml", True)
    with pytest.raises(ConfigError, match=r"needs the file instrument_types.yaml beside the data.*as --root"):
        protocol.with_groups(None)
    with pytest.raises(ConfigError, match=r"needs the file .*/instrument_types.yaml is not there; write it: a line for every"):
        protocol.with_groups(tmp_path)
    with pytest.raises(ConfigError, match="needs the file"):
        protocol.restricted(["Seq01"])
    (tmp_path / "instrument_types.yaml").write_text("forceps: [Seq01, Seq02]\n0012: [Seq03]\n")
    whole = protocol.with_groups(tmp_path)
    assert [(fold.name, fold.test) for fold in whole.folds] == [
        ("forceps", (Part(("Seq01", "Seq02")),)),
        ("0012", (Part(("Seq03",)),)),
    ]
    assert whole.folds[1].train == (Part(("Seq01", "Seq02"), 0.0, 0.9),)
    assert whole.with_groups(None) is whole
    assert len(whole.restricted(["Seq01", "Seq03"]).folds) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [Seq01]", "leaves out groups in turn and has 1 of them; give at least two"),
        ("a: [Seq01]\nb: [Seq01]", "has the sequence Seq01 in two groups"),
        ("a: [Seq01]\nb: Seq02", "b is 'Seq02'; give a list"),
        ("a: [Seq01]\na: [Seq02]", "the key 'a' a second time"),
        ("a: [Seq01, true]\nb: [Seq02]", "is true, a truth value; write it in quotes"),
        ("- a", "give a mapping"),
        ("", "give a mapping"),
    ],
)
def test_groups_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "instrument_types.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_protocol("rm_cross_validation").with_groups(tmp_path)
    assert "instrument_types.yaml" in str(caught.value)


def test_halves_of_200_frames() -> None:
    (fold,) = load_protocol("rm_half_split").folds
    assert [fold.train[0].frames(200), fold.validation[0].frames(200), fold.test[0].frames(200)] == [
        range(0, 90),
        range(90, 100),
        range(100, 200),
    ]


def test_seeds_of_the_synthetic_sequences_are_their_own() -> None:
    synthesis = load_protocol("synthetic").synthesis
    assert synthesis is not None
    seeds = [group.seed + index for group in synthesis.groups for index in range(len(group.sequences))]
    assert len(set(seeds)) == 36
    assert not set(seeds) & {*range(1_000_000, 10_000_000), *range(7001, 7100)}
    assert max(seeds) < 300_000_000


def test_leave_one_out_by_hand() -> None:
    protocol = parse_protocol({**ROTATED, "leave_one_out": ["A", "B", "C"]}, "FILE")
    assert [(f.name, f.test, f.train, f.validation) for f in protocol.folds] == [
        ("A", (Part(("A",)),), (Part(("B", "C"), 0.0, 0.8),), (Part(("B", "C"), 0.8, 1.0),)),
        ("B", (Part(("B",)),), (Part(("A", "C"), 0.0, 0.8),), (Part(("A", "C"), 0.8, 1.0),)),
        ("C", (Part(("C",)),), (Part(("A", "B"), 0.0, 0.8),), (Part(("A", "B"), 0.8, 1.0),)),
    ]


def test_restricted_is_what_fewer_sequences_would_give() -> None:
    names = ["A", "C", "D"]
    whole = parse_protocol({**ROTATED, "leave_one_out": ["A", "B", "C", "D"]}, "FILE")
    assert whole.restricted(names).folds == parse_protocol({**ROTATED, "leave_one_out": names}, "FILE").folds


@pytest.mark.parametrize(
    ("name", "kept", "said"),
    [
        ("endovis_loso", ["Dataset9"], "no sequence 'Dataset9'"),
        ("endovis_loso", ["Dataset1"], "at least two"),
        ("rm_9_9", ["Seq01", "Seq10"], "fixed folds"),
    ],
)
def test_restrictions_that_cannot_be(name: str, kept: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_protocol(name).restricted(kept)


def test_parts_that_meet_neither_overlap_nor_leave_a_gap() -> None:
    for count in range(0, 200):
        for tenths in range(0, 21):
            cut = tenths / 20
            frames = [*share_of_frames(count, 0.0, 1 - (1 - cut)), *share_of_frames(count, cut, 1.0)]
            assert frames == list(range(count))
