from __future__ import annotations

import csv
import io

import pytest

from csl_tracker.reporting.table import Column, Spread, Table, markdown, plain

EVIL = "a|b\x1b[2J\n<script>[x](javascript:1)"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Spread(None)),
        ([None, None], Spread(None)),
        ([2.0, None], Spread(2.0)),
        ([1.0, 3.0], Spread(2.0, 2.0**0.5)),
    ],
)
def test_spread_over_seeds(values: list[float | None], expected: Spread) -> None:
    assert Spread.of(values) == expected


def test_markdown_and_csv_of_every_kind_of_cell() -> None:
    table = Table(
        "t",
        "T",
        "",
        (Column("a", "A"), Column("b", "B", 1, True), Column("c", "C", 2)),
        (("x|y", Spread(1.25, 0.5), None), (3, Spread(2.0), 0.123456789), ("-", Spread(None), 1)),
    )
    assert table.markdown().splitlines() == [
        "| A | B | C |",
        "| --- | --- | --- |",
        r"| x\|y | 1.2 ± 0.5 | - |",
        "| 3 | 2.0 | 0.12 |",
        "| - | - | 1 |",
    ]
    assert list(csv.reader(io.StringIO(table.csv()))) == [
        ["a", "b", "b_sd", "c"],
        ["x|y", "1.25", "0.5", ""],
        ["3", "2.0", "", "0.123457"],
        ["-", "", "", "1"],
    ]


def test_a_section_escapes_its_heading_and_caption() -> None:
    lines = Table("t", "a|b", EVIL, (Column("a", "A"),), (("x",),)).section().split("\n")
    assert lines[0] == r"## a\|b"
    assert lines[2] == r"a\|b\x1b[2J\x0a&lt;script>[x\](javascript:1)"
    assert lines[4:] == ["| A |", "| --- |", "| x |"]


def test_no_text_leaves_its_cell_in_markdown() -> None:
    lines = markdown(("", "n"), [(EVIL, 1), ("", 22)], right=(1,)).split("\n")
    assert lines == ["| | n |", "| --- | ---: |", r"| a\|b\x1b[2J\x0a&lt;script>[x\](javascript:1) | 1 |", "|  | 22 |"]


def test_columns_of_a_terminal_are_aligned_and_steer_nothing() -> None:
    lines = plain([("name", "count", ""), (EVIL, 7, "last"), ("b", 100, "")], right=(1,), indent="  ")
    assert lines[0].index("count") + len("count") == lines[1].index("7") + 1 == lines[2].index("100") + 3
    assert all(line.isprintable() and line == line.rstrip() and line.startswith("  ") for line in lines)
    assert plain([]) == []
