import json
import logging
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
    assert "'csl-tracker export' writes it anew" in caplog.text
    cache.put(KEY, write)
    assert cache.find(KEY) is not None


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
