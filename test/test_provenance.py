from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from csl_tracker import __version__
from csl_tracker.errors import DatasetError
from csl_tracker.provenance import machine, portable, portable_command, sha256_of, versions


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing\.txt cannot be read \(No such file"):
        sha256_of([tmp_path / "nothing.txt"])


def test_hash_of_one_and_of_several_files(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    one, two = hashlib.sha256(b"one"), hashlib.sha256(b"two")
    assert sha256_of([a]) == one.hexdigest()
    assert sha256_of([a, b]) == hashlib.sha256(one.digest() + two.digest()).hexdigest()
    assert sha256_of([b, a]) != sha256_of([a, b])
    assert sha256_of([]) == ""


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["track", "video.mp4"], "csl-tracker track video.mp4"),
        (["evaluate", "--root", "/home/someone/data/endovis"], "csl-tracker evaluate --root endovis"),
        (
            ["evaluate", "--root=/home/someone/data", "--json", "out/a b.json"],
            "csl-tracker evaluate --root=data --json 'out/a b.json'",
        ),
        (["train", "lr=0.1"], "csl-tracker train lr=0.1"),
    ],
)
def test_command_without_the_paths_of_this_machine(arguments: list[str], command: str) -> None:
    assert portable_command(arguments) == command


def test_machine_and_versions_are_plain_json() -> None:
    here = machine()
    assert here["cpu"]
    assert here["cores"] >= 1
    assert versions()["csl_tracker"] == __version__
    assert versions()["numpy"].count(".") == 2
    json.dumps([here, versions()], allow_nan=False)


def test_data_without_the_paths_of_this_machine() -> None:
    data = {
        "output": "/home/someone/out/run",
        "root": "${DATA}",
        "train": ({"root": "/data/endovis", "share": 0.5},),
        "x": None,
    }
    assert portable(data) == {"output": "run", "root": "${DATA}", "train": [{"root": "endovis", "share": 0.5}], "x": None}
