from __future__ import annotations

import csv
import io
import sys

import pytest

from csl_tracker.errors import DatasetError
from csl_tracker.text import PrintableStream, csv_cell, excerpt, markdown_cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Müller 0012", "Müller 0012"),
        ("a\x1b[2J\x07b", r"a\x1b[2J\x07b"),
        ("a\rb\x9bc", r"a\x0db\x9bc"),
        ("ab\u202etxt.exe", r"ab\u202etxt.exe"),
        ("a\u2028b\ufeff", r"a\u2028b\ufeff"),
        ("\udcff.png", r"\udcff.png"),
        ("\U000e0041", r"\U000e0041"),
        ("a\u200db", "a\u200db"),
        ("one\n\ttwo", "one\n\ttwo"),
    ],
)
def test_what_steers_a_terminal_is_shown_as_its_code(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_an_error_is_one_printable_line() -> None:
    assert str(DatasetError("The image 'a\x1b]0;x\x07\nb' is missing.")) == r"The image 'a\x1b]0;x\x07\x0ab' is missing."


def test_a_stream_writes_only_what_is_printable() -> None:
    inner = io.StringIO()
    print("a\x1b[31mb", file=PrintableStream(inner))
    assert inner.getvalue() == "a\\x1b[31mb\n"
    assert PrintableStream(sys.stdout).encoding == sys.stdout.encoding


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1+1", "' =1+1"),
        ("-tip", "'-tip"),
        ("\t=1", "'\t=1"),
        ("tip", "tip"),
        ("-", "-"),
        ("-1.5", "-1.5"),
        (-1.5, -1.5),
        (None, None),
        ("a\nb\x1b", "a b\\x1b"),
    ],
)
def test_no_cell_of_a_csv_is_a_formula(value: object, cell: object) -> None:
    assert csv_cell(value) == cell
    text = io.StringIO()
    csv.writer(text).writerow([csv_cell(value)])
    assert next(csv.reader(io.StringIO(text.getvalue()))) == ["" if cell is None else str(cell)]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a|b", "a\\|b"),
        ("<script>x</script>", "&lt;script>x&lt;/script>"),
        ("< 20 px", "< 20 px"),
        ("[a](javascript:x)", "[a\\](javascript:x)"),
        ("a\nb", "a\\x0ab"),
    ],
)
def test_a_cell_of_markdown_stays_a_cell(text: str, cell: str) -> None:
    assert markdown_cell(text) == cell


def test_an_excerpt_is_one_printable_line() -> None:
    assert excerpt("a\nb\x1b[2J") == r"a\x0ab\x1b[2J"
    assert excerpt("x" * 300, 40) == "x" * 40 + "..."
    assert excerpt(17) == "17"
