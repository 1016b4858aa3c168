"""Typed settings: values as YAML writes them, sentences, and an installation without pydantic."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass

from csl_tracker.errors import ConfigError
from csl_tracker.typed import NUMBER, PAIR, SETTINGS, TEXT, WHOLE, Count, Flag, Name, Section, Text, checked, mistake
from csl_tracker.yaml_files import parse_yaml


@dataclass(frozen=True, config=SETTINGS)
class Inner(Section):
    name: Name
    count: Count = 1
    even: bool = False

    def __post_init__(self) -> None:
        if self.even and self.count % 2:
            raise mistake(f"has the count {self.count}; give an even one")


@dataclass(frozen=True, config=SETTINGS)
class Outer(Section):
    inner: Inner = Inner("first")
    several: tuple[Inner, ...] = ()
    tone: Annotated[Literal["low", "high"], TEXT] = "low"
    size: Annotated[tuple[Annotated[int, WHOLE], Annotated[int, WHOLE]], PAIR] = (1, 2)
    share: Annotated[float, Field(ge=0, lt=1), NUMBER] = 0.5
    on: Flag = False
    table: dict[Text, tuple[Name, ...]] | None = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", {}),
        ("inner: {name: 0012, count: 0x10}", {"inner": {"name": "0012", "count": 16, "even": False}}),
        ("several: [{name: 1.50, count: 2e1}]", {"several": ({"name": "1.50", "count": 20, "even": False},)}),
        ("{share: '1e-1', on: off, size: ['3', 4.0], tone: high}", {"share": 0.1, "size": (3, 4), "tone": "high"}),
        ("table: {007: [1e3]}", {"table": {"007": ("1e3",)}}),
    ],
)
def test_values_are_taken_as_they_are_written(text: str, expected: dict[str, Any]) -> None:
    found = asdict(checked(Outer, parse_yaml(text), "FILE"))
    assert {**asdict(Outer()), **expected} == found
    assert type(found["inner"]["count"]) is int
    assert type(found["share"]) is float


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "FILE holds [1] where a section with settings belongs."),
        ("toned: low", "FILE has the unknown setting 'toned'; the nearest known one is 'tone'."),
        ("xyz: 1", "FILE has the unknown setting 'xyz'; known are inner, several, tone, size, share, on, table."),
        ("inner: {}", "FILE: inner.name is missing; add it."),
        ("inner: {name: '  '}", "FILE: inner.name is '  '; give a text that is not empty."),
        ("inner: {name: no, count: no}", "FILE: inner.count is 'no'; give a whole number."),
        ("inner: {name: true}", "FILE: inner.name is true, a truth value; write it in quotes."),
        ("several: [{name: a}, {name: b, count: 1.5}]", "FILE: several[1].count is 1.5; give a whole number."),
        ("several: [{name: a, even: true}]", "FILE: several[0] has the count 1; give an even one."),
        ("several: {name: a}", "FILE: several is {'name': 'a'}; give a list."),
        ("tone: loud", "FILE: tone 'loud' is unknown; choose one of 'low' or 'high'."),
        ("size: [1]", "FILE: size is [1]; give 2 values, height and width."),
        ("share: 1", "FILE: share is 1; give less than 1."),
        ("share: .nan", "FILE: share is nan; give a finite number."),
        ("share: true", "FILE: share is True; give a finite number."),
        ("on: maybe", "FILE: on is 'maybe'; give true or false."),
        ("table: [a]", "FILE: table is ['a']; give a mapping of names to values."),
        ("table: {a: [b, ~]}", "FILE: table.a[1] is empty; write a text, or one in quotes."),
    ],
)
def test_a_mistake_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(Outer, parse_yaml(text), "FILE")
    assert str(caught.value) == said


def test_long_values_are_cut() -> None:
    with pytest.raises(ConfigError) as caught:
        checked(Outer, {"several": "x" * 10_000}, "FILE")
    assert len(str(caught.value)) < 150


def test_sections_made_in_python_are_checked_too() -> None:
    with pytest.raises(ConfigError, match="Outer: share is 1; give less than 1"):
        replace(Outer(), share=1)
    with pytest.raises(ConfigError, match="Inner has the count 3; give an even one"):
        Inner("a", 3, True)
    with pytest.raises(ConfigError, match="Inner: counts is unknown; leave it out"):
        Inner("a", counts=3)  # type: ignore[call-arg]


WITHOUT = """
import sys
sys.modules["pydantic"] = None
import csl_tracker.bags.replay, csl_tracker.evaluation.runs, csl_tracker.evaluation.sequence
import csl_tracker.reporting.accuracy_tables, csl_tracker.reporting.report, csl_tracker.tracker
from csl_tracker.cli.main import COMMANDS, build_parser, main
for command in COMMANDS:
    build_parser(command)
sys.exit(main(["train", "config.yaml"]))
"""


def test_only_training_needs_pydantic() -> None:
    ended = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "'train' needs the Python package 'pydantic', which is not installed here; run 'pip install " in ended.stderr
