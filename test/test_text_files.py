"""Text files of editors and spreadsheets, and every reader of users' tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.datasets.endovis2015_annotations import read_poses
from csl_tracker.errors import DatasetError
from csl_tracker.evaluation.published import read_comparators
from csl_tracker.text_files import decode, read_text

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["", "a,b\r\n1,2\r\n", "µm 手術"])
def test_usual_encodings_are_read(encoding: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_bytes(text.encode(encoding))
    assert read_text(tmp_path / "f.txt") == text


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"caf\xe9", b"\xfe\xff\xd8\x00"])
def test_other_bytes_are_no_text(content: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        decode(content)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("text", "read", "expected"),
    [
        ("1 2 3 4 5 6 7\r\n-1 -1 0 0 0 0 0\r\n", lambda path: read_poses(path).centers.tolist(), [[1.0, 2.0], [np.nan] * 2]),
        ("name,kind,x,y\nFPBC,threshold,20,0.8\n", lambda path: [curve.name for curve in read_comparators(path)], ["FPBC"]),
    ],
)
def test_readers_take_them(encoding: str, text: str, read: Callable[[Path], object], expected: object, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode(encoding))
    np.testing.assert_equal(read(path), expected)


@pytest.mark.parametrize("read", [read_poses, read_comparators])
def test_readers_name_a_file_in_another_encoding(read: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("1 2 3 4 5 6 7 é".encode("latin-1"))
    with pytest.raises(DatasetError, match=str(tmp_path / "file")):
        read(tmp_path / "file")
