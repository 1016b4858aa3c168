"""Folders as people unpack them, and the names by which labels call the files in them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from csl_tracker.datasets.folders import FileFinder, choose, path_parts, spellings, unique_names, walk
from csl_tracker.errors import DatasetError

NFD = unicodedata.normalize("NFD", "Müller")
NFC = "Müller"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_a_walk_sees_no_clutter_and_follows_no_link_upwards(tmp_path: Path) -> None:
    touch(
        tmp_path, "b/x.png", "a/y.png", "__MACOSX/a/._y.png", "a/._y.png", "a/.DS_Store", "a/Thumbs.db", "desktop.ini", ".git/z"
    )
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path / "b")
    seen = [(folder.relative_to(tmp_path).as_posix(), names) for folder, _, names in walk(tmp_path)]
    assert seen == [(".", []), ("a", ["y.png"]), ("b", ["x.png"]), ("c", ["x.png"])]
    assert [folder.name for folder, _, _ in walk(tmp_path, 0)] == [tmp_path.name]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("a/b.png", ("a", "b.png")),
        ("C:\\data\\b.png", ("data", "b.png")),
        ("/abs/../b.png", ("abs", "b.png")),
        ("https://host/a/b.png", ("host", "a", "b.png")),
        ("../../etc/passwd", ("etc", "passwd")),
        ("", ()),
    ],
)
def test_parts_of_a_path_of_any_system(name: str, parts: tuple[str, ...]) -> None:
    assert path_parts(name) == parts


def test_the_plain_name_comes_first() -> None:
    assert spellings("a%20b.png")[0] == ("a%20b.png",)
    assert ("case 7", "f 0.png") in spellings("/data/local-files/?d=case%207%2Ff%200.png")
    assert spellings("https://h/x/f.png?token=a%2Fb#c")[-1] == ("h", "x", "f.png")


@pytest.mark.parametrize(
    ("disk", "name", "found"),
    [
        (["a b.png"], "a%20b.png", "a b.png"),
        (["a%20b.png", "a b.png"], "a%20b.png", "a%20b.png"),
        ([f"{NFD}.png"], f"{NFC}.png", f"{NFD}.png"),
        ([f"{NFC}.png"], f"{NFD}.png", f"{NFC}.png"),
        ([f"{NFD}/f.png"], f"{NFC}/f.png", f"{NFD}/f.png"),
        (["F1.PNG"], "f1.png", "F1.PNG"),
        (["F1.PNG", "f1.png"], "f1.png", "f1.png"),
        (["sub/x/f.png"], "elsewhere/f.png", "sub/x/f.png"),
        (["sub/f.png", "other/f.png"], "elsewhere/f.png", None),
        (["f.png"], "https://h/x/f.png?token=1#a", "f.png"),
        (["f.png"], "/data/upload/1/0123abcd-f.png", "f.png"),
        (["f.png"], "x" * 5000, None),
        (["f.png"], "a\0b", None),
        (["f#1.png"], "f#1.png", "f#1.png"),
    ],
)
def test_a_file_is_found_as_a_label_calls_it(tmp_path: Path, disk: list[str], name: str, found: str | None) -> None:
    touch(tmp_path, *disk)
    path = FileFinder(tmp_path, [tmp_path], 3).find(name)
    assert path == (None if found is None else tmp_path / found)
    assert found is None or (path is not None and path.read_text() == found)


def test_names_of_sequences_match_in_any_form(tmp_path: Path) -> None:
    touch(tmp_path, f"{NFD}/x", "b/c/x", "d/c/x")
    names = unique_names(tmp_path, [tmp_path / NFD, tmp_path / "b/c", tmp_path / "d/c"])
    assert list(names) == ["b/c", "d/c", NFC]
    assert [name for name, _ in choose(tmp_path, names, [NFD, "b/c"])] == [NFC, "b/c"]
    with pytest.raises(DatasetError, match="no sequence 'c'; it has b/c, d/c"):
        choose(tmp_path, names, ["c"])


def test_a_folder_that_cannot_be_listed_is_passed_by(tmp_path: Path) -> None:
    touch(tmp_path, "a/f.png")
    os.symlink(tmp_path / "gone", tmp_path / "dangling")
    assert FileFinder(tmp_path, [tmp_path / "dangling", tmp_path / "a"]).find("f.png") == tmp_path / "a" / "f.png"
