from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from csl_tracker.cli.main import main

CONFIG = Path(__file__).parents[2] / "config" / "train" / "csl_lite0.yaml"
COMMAND = [sys.executable, "-m", "csl_tracker.cli.main"]


@pytest.mark.parametrize(
    ("arguments", "file", "words"),
    [
        (["train", str(CONFIG), "output=FILE"], "FILE", "(File exists); a file has the place of a folder"),
        (["train", str(CONFIG), "output=FILE/run"], "FILE/run", "(Not a directory); a file has the place of a folder"),
        (["train", "LONG"], "LONG", "(File name too long); check the path"),
        (["train", "LOCKED"], "LOCKED", "(Permission denied); check the path and its permissions"),
        (["track", "LONG"], "LONG", "(File name too long); check the path"),
        (["synthesize", "FILE/folder"], "FILE/folder", "Not a directory"),
        (["synthesize", "LONG"], "LONG", "File name too long"),
    ],
)
def test_what_the_system_refuses_is_one_sentence_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], file: str, words: str
) -> None:
    if "LOCKED" in arguments and os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "FILE").write_text("mine")
    (tmp_path / "LOCKED").touch(mode=0)

    def placed(word: str) -> str:
        for name, path in (("FILE", "FILE"), ("LOCKED", "LOCKED"), ("LONG", "n" * 300)):
            word = word.replace(name, str(tmp_path / path))
        return word

    assert main([placed(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("csl-tracker: ")]
    assert len(lines) == 1, captured.err
    assert placed(file) in lines[0]
    assert words in lines[0]
    assert "Traceback" not in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["FILE", "LOCKED"]
    assert (tmp_path / "FILE").read_text() == "mine"


def test_the_process_ends_so_too_and_debug_shows_the_traceback(tmp_path: Path) -> None:
    path = str(tmp_path / ("n" * 300))
    plain, debug = (
        subprocess.run([*COMMAND, *flags, "track", path], capture_output=True, text=True, check=False)
        for flags in ([], ["--debug"])
    )
    assert (plain.returncode, plain.stdout) == (2, "")
    assert plain.stderr.startswith(f"csl-tracker: The system refused '{path}")
    assert plain.stderr.endswith(" (File name too long); check the path and its permissions.\n")
    assert plain.stderr.count("\n") == 1
    assert debug.returncode == 1
    assert "Traceback" in debug.stderr


def test_a_reader_that_has_gone_is_no_mistake(random_weights: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, "info", str(random_weights)],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
