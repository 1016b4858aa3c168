import json

import pytest
from evaluation_reports import bag_report, write

from csl_tracker.cli.main import main


@pytest.mark.parametrize("suffix", [".md", ".html", ".json"])
def test_the_comparison_is_written(tmp_path, suffix, capsys):
    a, b = write(tmp_path / "<a>.json", bag_report(0, 6)), write(tmp_path / "b.json", bag_report(1, 5))
    out = tmp_path / f"comparison{suffix}"
    assert main(["compare", str(a), str(b), str(b), "--out", str(out)]) == 0
    assert capsys.readouterr().out.count("| recording | landmark_error_px | 6.") == 2
    text = out.read_text(encoding="utf-8")
    assert text.count("landmark_error_px.median") == 2
    assert "<a>" not in text or suffix != ".html"
    assert main(["compare", str(a), str(b), "--out", str(out)]) == 2
    assert "give --overwrite" in capsys.readouterr().err


def test_a_file_that_is_compared_is_not_overwritten(tmp_path, capsys):
    a, b = write(tmp_path / "a.json", bag_report(0, 6)), write(tmp_path / "b.json", bag_report(1, 5))
    before = b.read_bytes()
    assert main(["compare", str(a), str(b), "--out", str(b), "--overwrite"]) == 2
    assert "is one of the compared files" in capsys.readouterr().err
    assert b.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a.json"], "name two or more"),
        (["a.json", "b.json", "--out", "c.txt"], "ends in none of"),
        (["a.json", "b.json"], "read"),
    ],
)
def test_arguments_that_make_no_comparison(arguments, sentence, capsys):
    assert main(["compare", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_swapped_files_give_the_mirrored_table(tmp_path, capsys):
    a, b = write(tmp_path / "a.json", bag_report(0, 6)), write(tmp_path / "b.json", bag_report(1, 5))
    written = []
    for files in ((a, b), (b, a)):
        assert main(["compare", *map(str, files), "--out", str(tmp_path / "out.json"), "--overwrite"]) == 0
        assert "better (these frames only)" in capsys.readouterr().out or files == (b, a)
        written.append(json.loads((tmp_path / "out.json").read_text())["comparisons"][0]["changes"])
    assert len(written[0]) == len(written[1]) > 5
    for there, back in zip(*written, strict=True):
        assert (there["sequence"], there["quantity"], there["units"]) == (back["sequence"], back["quantity"], back["units"])
        assert (there["a"], there["b"], there["p"], there["p_holm"]) == (back["b"], back["a"], back["p"], back["p_holm"])
        assert there["difference"] == -back["difference"]
        if there["low"] is not None:
            assert (there["low"], there["high"]) == (-back["high"], -back["low"])
        pair = {there["verdict"].partition(" (")[0], back["verdict"].partition(" (")[0]}
        assert pair in ({"better", "worse"}, {"equal"}, {"not separable"})
