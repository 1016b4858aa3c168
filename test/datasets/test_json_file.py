"""JSON files of datasets: encodings, and what is refused before it is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from csl_tracker.datasets import json_file
from csl_tracker.datasets.json_file import load_json
from csl_tracker.errors import DatasetError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.json").write_text('{"a": "Müller [[[[", "b": "\\\\"}', encoding=encoding)
    assert load_json(tmp_path / "x.json") == {"a": "Müller [[[[", "b": "\\"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "100000 levels deep and 32 are the limit"),
        (b'{"a":' * 40, "40 levels deep"),
        (b'["\\"[", ' + b"[" * 33, "34 levels deep"),
        (b"[" + b"1," * 3_000_001, "has 3000002 values and 3000000 are the limit"),
        (b'["' + b"\\u0041" * 1_000_001 + b'"]', "more than 1000000 backslashes"),
        (b"[" + b"1" * 5000 + b"]", "holds a number of thousands of digits|is not valid JSON"),
        (b'["\xff"]', "cannot be read"),
        (b'{"a": 1', "is not valid JSON from line 1 on"),
        (b"", "is not valid JSON"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_what_is_refused_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=said) as caught:
        load_json(path, "The joint file")
    assert str(caught.value).startswith(f"The joint file {path} ")


def test_a_large_file_is_not_even_read(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(json_file.MAX_BYTES + 1)  # sparse
    with pytest.raises(DatasetError, match="has 64 MiB and 64 are the limit; export the labels in parts"):
        load_json(tmp_path / "x.json")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        load_json(tmp_path / "x.json")
