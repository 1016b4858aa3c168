import json
import logging
import os
import re
from pathlib import Path

import pytest

from csl_tracker.engines.artefacts import ArtefactCache, ArtefactKey, CacheError, cache_folder
from csl_tracker.errors import EngineError

KEY = ArtefactKey("ab" * 32, "onnx", "1.2.3+x", "cpu", (128, 160))


def write(folder: Path) -> dict[str, object]:
    (folder / "network.onnx").write_bytes(b"network")
    return {"check": {"disagreement": 1e-6}}


@pytest.fixture
def cache(tmp_path):
    return ArtefactCache(tmp_path / "cache")


@pytest.mark.parametrize(
    ("given", "expected"), [("", "~/.cache"), ("relative/place", "~/.cache"), ("/somewhere", "/somewhere")]
)
def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch, given, expected):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_folder() == Path(expected).expanduser() / "csl_tracker" / "engines"


def test_what_was_put_is_found_under_its_key_alone(cache):
    assert cache.find(KEY) is None
    assert cache.put(KEY, write).folder == cache.find(KEY).folder
    assert cache.find(KEY).agreement == 1e-6
    assert (cache.find(KEY).folder / "network.onnx").read_bytes() == b"network"
    for change in (
        {"weights_sha256": "cd" * 32},
        {"engine": "openvino"},
        {"engine_version": "1.2.4"},
        {"device": "gpu"},
        {"size": (160, 128)},
    ):
        assert cache.find(ArtefactKey(**{**KEY.__dict__, **change})) is None
    assert cache.sizes(KEY.weights_sha256) == {"onnx": [(128, 160)]}
    assert cache.sizes("cd" * 32) == {}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "network.onnx").write_bytes(b"netwerk"), "network.onnx is damaged"),
        (lambda folder: (folder / "network.onnx").unlink(), "network.onnx is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "Expecting property name"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "not of the format"),
        (lambda folder: edit(folder, files={}), "names no files"),
        (lambda folder: edit(folder, key={}), "other weights"),
        (lambda folder: edit(folder, format="x"), "not of the format"),
    ],
)
def test_what_is_damaged_is_said_once_and_not_used(cache, caplog, damage, words):
    folder = cache.put(KEY, write).folder
    damage(folder)
    with caplog.at_level(logging.WARNING):
        assert cache.find(KEY) is None
    assert len(caplog.records) == 1
    assert words in caplog.text
    assert "'csl-tracker export' writes it again" in caplog.text
    cache.put(KEY, write)
    assert cache.find(KEY) is not None


def give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another user")
    os.chown(path, 12345, 12345)


def replace_by_link(path: Path) -> None:
    elsewhere = path.parents[1] / path.name
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: folder.chmod(0o777), "other users can write to .*-cpu-"),
        (lambda folder: folder.chmod(0o1777), "other users can write to .*-cpu-"),  # they can still add files
        (lambda folder: folder.parent.chmod(0o777), "other users can write to .*/cache; .*'chmod go-w"),
        (lambda folder: folder.parent.parent.chmod(0o757), "other users can write to"),
        (lambda folder: (folder / "network.onnx").chmod(0o666), r"other users can write to .*/network.onnx"),
        (lambda folder: (folder / "manifest.json").chmod(0o646), r"other users can write to .*/manifest.json"),
        (lambda folder: give_away(folder), r"-cpu-.* belongs to another user \(number 12345\)"),
        (lambda folder: give_away(folder.parent), "/cache belongs to another user"),
        (lambda folder: give_away(folder.parent.parent), "belongs to another user"),
        (lambda folder: give_away(folder / "network.onnx"), "network.onnx belongs to another user"),
        (lambda folder: give_away(folder / "manifest.json"), "manifest.json belongs to another user"),
        (lambda folder: replace_by_link(folder / "network.onnx"), "cannot be used"),
        (lambda folder: replace_by_link(folder / "manifest.json"), "cannot be used"),
        (lambda folder: (folder / "more.bin").write_bytes(b""), "more.bin is not listed in its manifest"),
        (lambda folder: (folder / "manifest.json").write_text("[" * 100_000), "cannot be used"),
        (lambda folder: (folder / "manifest.json").write_text('"' + "x" * (2 << 20) + '"'), "larger than 1048576"),
    ],
)
def test_what_another_user_could_have_written_is_not_used(cache, caplog, change, words):
    folder = cache.put(KEY, write).folder
    assert cache.find(KEY) is not None
    change(folder)
    with caplog.at_level(logging.WARNING):
        assert cache.find(KEY) is None
    assert len(caplog.records) == 1
    assert re.search(words, caplog.text)
    assert "built from the weights" in caplog.text


def test_a_cache_of_others_is_not_written_to(cache):
    cache.folder.mkdir(mode=0o755)
    cache.folder.chmod(0o777)
    with pytest.raises(CacheError, match="it is not trusted: other users can write to"):
        cache.put(KEY, write)
    assert list(cache.folder.iterdir()) == []


def test_a_folder_like_tmp_may_be_on_the_way_and_root_may_own(cache, tmp_path, monkeypatch):
    cache.put(KEY, write)
    tmp_path.chmod(0o1777)
    assert cache.find(KEY) is not None
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert cache.find(KEY) is not None


def test_a_link_of_another_user_on_the_way_is_not_followed(cache, tmp_path, caplog):
    cache.put(KEY, write)
    (tmp_path / "link").symlink_to(cache.folder)
    assert ArtefactCache(tmp_path / "link").find(KEY) is not None
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another user")
    os.lchown(tmp_path / "link", 12345, 12345)
    assert ArtefactCache(tmp_path / "link").find(KEY) is None
    assert "link belongs to another user" in caplog.text


def test_nobody_else_can_write_to_what_is_made(cache):
    before = os.umask(0)
    try:
        folder = ArtefactCache(cache.folder / "below").put(KEY, write).folder
    finally:
        os.umask(before)
    for path in (cache.folder, folder.parent, folder, *folder.iterdir()):
        assert not path.stat().st_mode & 0o022, path
    assert ArtefactCache(cache.folder / "below").find(KEY) is not None


def edit(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("error", [EngineError("no"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failed_export_leaves_the_old_one_and_nothing_else(cache, error):
    cache.put(KEY, write)

    def fail(folder):
        (folder / "network.onnx").write_bytes(b"half")
        raise error

    with pytest.raises((EngineError, KeyboardInterrupt)) as raised:
        cache.put(KEY, fail)
    if isinstance(error, OSError):
        assert "No space left on device" in str(raised.value)
    assert (cache.find(KEY).folder / "network.onnx").read_bytes() == b"network"
    assert len(list(cache.folder.iterdir())) == 1


def test_a_cache_that_cannot_be_written_to_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    cache = ArtefactCache(tmp_path / "file" / "cache")
    with pytest.raises(CacheError, match=r"file/cache cannot be written to .* set XDG_CACHE_HOME"):
        cache.put(KEY, write)
    assert cache.find(KEY) is None
    assert cache.sizes(KEY.weights_sha256) == {}
