from __future__ import annotations

import json
from pathlib import Path

import pytest

from csl_tracker.errors import ConfigError, DatasetError
from csl_tracker.output import write_between, write_json


def test_json_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot be written"):
        write_json(tmp_path / "file" / "figures.json", {})


def test_json_rounds_floats_and_keeps_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, {"a": [1 / 3, None, 2], "b": {"c": 0.1}})
    assert json.loads(path.read_text()) == {"a": [0.333333, None, 2], "b": {"c": 0.1}}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text())["b"] == {"c": 0.1}
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_of_a_list_stand_on_one_line_and_text_stays(tmp_path: Path) -> None:
    data = {"a": [1, 2.5, None], "b": [["x [\n1,\n2]", 1], [], [[1, 2], [3]]], "c": {"d": [True, -1e-05]}}
    write_json(tmp_path / "x.json", data)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == data
    assert '"a": [1, 2.5, null]' in text
    assert '"d": [true, -1e-05]' in text


def test_a_text_goes_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above <a> old <b> below", encoding="utf-8")
    write_between(page, "<a>", "<b>", "new")
    write_between(page, "<a>", "<b>", "newer")
    assert page.read_text(encoding="utf-8") == "above <a>\n\nnewer\n\n<b> below"
    for begin, end, missing in (("<c>", "<b>", "<c>"), ("<a>", "<c>", "<c>")):
        with pytest.raises(ConfigError, match=f"lacks {missing}"):
            write_between(page, begin, end, "lost")
    assert "newer" in page.read_text(encoding="utf-8")
