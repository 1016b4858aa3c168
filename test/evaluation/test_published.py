from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from csl_tracker.errors import DatasetError
from csl_tracker.evaluation.published import paper, read_comparators

HEAD = "name,kind,x,y\n"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "Line 1 .* is ''; it has to be the header 'name,kind,x,y'"),
        ("FPBC,kbb,0.1,0.5\n", "Line 1 .* is 'FPBC,kbb,0.1,0.5'"),
        (HEAD, "has a header and no points"),
        (HEAD + "\n  , ,\n", "has a header and no points"),
        (HEAD + "FPBC,kbb,0.1,0.5\nFPBC,kbb,0.2\n", "Line 3 .* has 3 fields"),
        (HEAD + ",kbb,0.1,0.5\n", "Line 2 .* has no name"),
        (HEAD + "FPBC,roc,0.1,0.5\n", "Line 2 .* has the kind 'roc'; it has to be threshold or kbb"),
        (HEAD + "FPBC,kbb,a,0.5\n", "Line 2 .* has x='a'; write a number"),
        (HEAD + 'FPBC,kbb,0.1,"0,5"\n', "Line 2 .* has y='0,5'; write a number"),
        (HEAD + "FPBC,kbb,0.1,50\n", "Line 2 .* has y=50; a share is from 0 to 1"),
        (HEAD + "FPBC,kbb,0.1,nan\n", "Line 2 .* has y=nan"),
        (HEAD + "FPBC,kbb,-0.1,0.5\n", "Line 2 .* has x=-0.1"),
        (HEAD + "FPBC,kbb,inf,0.5\n", "Line 2 .* has x=inf"),
        (HEAD + "FPBC,kbb,0.1,0.5\nFPBC,kbb,0.10,0.6\n", "Line 3 .* a second point at x=0.1"),
    ],
)
def test_a_bad_file_gets_one_sentence_with_path_and_line(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_text(content)
    with pytest.raises(DatasetError, match=text) as info:
        read_comparators(path)
    assert str(path) in str(info.value)
    assert "\n" not in str(info.value)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_comparators(tmp_path / "nowhere.csv")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_comparators(tmp_path)
    (tmp_path / "curves.csv").write_bytes(HEAD.encode() + b"caf\xe9,kbb,0.1,0.2\n")
    with pytest.raises(DatasetError, match="is not a CSV file in UTF-8"):
        read_comparators(tmp_path / "curves.csv")


def test_curves_are_sorted_by_x_and_kept_apart_by_name_and_kind(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    rows = ["POSE,kbb,0.3,0.9", "POSE , kbb , 0.1, 0.4", "", '"A, B",threshold,20,0.79', "POSE,threshold,10,0.5"]
    path.write_text("\ufeff" + HEAD + "\r\n".join(rows), encoding="utf-8")
    curves = read_comparators(path)
    assert [(c.name, c.kind) for c in curves] == [("POSE", "kbb"), ("A, B", "threshold"), ("POSE", "threshold")]
    np.testing.assert_array_equal(curves[0].x, [0.1, 0.3])
    np.testing.assert_array_equal(curves[0].y, [0.4, 0.9])


def test_the_papers_table_is_consistent_with_itself() -> None:
    """DICE is the harmonic mean of precision and recall, up to rounding and to averaging by image."""
    sets = paper()["table1"]["sets"]
    assert list(sets) == ["2", "3", "4", "5", "6"]
    for row in sets.values():
        harmonic = 2 * row["precision"] * row["recall"] / (row["precision"] + row["recall"])
        assert math.isclose(row["dice"], harmonic, abs_tol=0.006)
        assert all(error > 0 for error in row["center_error_px"])
    assert paper()["rm_9_9"]["dice"]["csl"] > paper()["rm_9_9"]["dice"]["unet"]
