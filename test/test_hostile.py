"""``benchmark/hostile.py`` on a few of its files; all of them take minutes."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmark" / "hostile.py"
FAST = ("zstd chunk that says 1 kB", "names a chunk again", "view without end", "aliases in metadata", "escape codes in names")


def test_a_few_hostile_files_are_refused_within_the_limits(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--json", str(tmp_path / "hostile.json"), "--only", *FAST]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "hostile.json").read_text(encoding="utf-8"))
    assert len(report["rows"]) == len(FAST)
    assert all(row["right"] and 10 < row["peak_mb"] < report["limits"]["peak_mb"] for row in report["rows"])
    assert {"command", "machine", "versions"} <= set(report)
    assert str(tmp_path) not in json.dumps(report)


@pytest.mark.parametrize(
    ("status", "output", "right"),
    [
        (2, "WARNING: odd\ncsl-tracker: The bag is broken.\n", True),
        (2, "csl-tracker: one.\ncsl-tracker: two.\n", False),
        (1, "Traceback (most recent call last):\n", False),
        (2, "Traceback (most recent call last):\ncsl-tracker: The bag is broken.\n", False),
        (0, "read it\n", False),
        (-9, "", False),
        (2, "csl-tracker: The bag \x1b[2J is broken.\n", False),
    ],
)
def test_what_counts_as_refused(monkeypatch: pytest.MonkeyPatch, status: int, output: str, right: bool) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmark")
    module = runpy.run_path(str(SCRIPT))
    case = module["Case"]("bags", "x", lambda place: place, ("bag", "info", "FILE"))
    assert module["judge"](case, status, output, "", ())["right"] is right
    assert not module["judge"](case, status, output, "", ("outside",))["right"]


def test_the_page_has_the_table_of_the_committed_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmark")
    module = runpy.run_path(str(SCRIPT))
    report = json.loads((ROOT / "docs" / "results" / "hostile.json").read_text(encoding="utf-8"))
    assert module["table"](report) in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    assert {row["kind"] for row in report["rows"]} >= {"weights", "bags", "images", "videos", "datasets", "export cache"}
    assert not [row["case"] for row in report["rows"] if not module["within"](row)]
    assert all(row["right"] and row["peak_mb"] < report["limits"]["peak_mb"] for row in report["rows"])
