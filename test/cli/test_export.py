from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from csl_tracker.cli.main import main
from csl_tracker.engines import create_engine, inductor
from csl_tracker.engines.artefacts import ArtefactCache
from csl_tracker.engines.device_engine import TorchDeviceEngine
from csl_tracker.engines.device_path import DeviceNetwork
from csl_tracker.networks import NetworkConfig, NetworkOutput
from csl_tracker.tracker import Tracker
from csl_tracker.weights import Model, load_weights

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("openvino", reason="openvino is not installed")

QUICK = NetworkConfig("unet", encoder="none", decoder="none", width=4)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "csl_tracker" / "engines"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(2):
        noise = np.random.default_rng(index).integers(0, 256, (12, 16, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(noise, (160, 128)))
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_file"], "There is no weights file"),
        (["--size", "big"], "The size 'big' is no HxW"),
        (["--size", "0x100"], "The size '0x100' is no HxW"),
        (["--count", "0"], "--count is 0"),
        (["--no-cache"], "name a folder with --out"),
        (["--engine", "onnx", "--precision", "bfloat16"], "does not support bfloat16; use --engine openvino"),
        (["--engine", "openvino", "--precision", "float16"], "does not support float16; omit --precision"),
        (["--engine", "openvino", "--device", "cuda"], "omit --device cuda"),
        (["--engine", "inductor", "--device", "toaster"], "The device 'toaster' is unknown"),
        (["--engine", "inductor", "--out", "there"], "omit --out and --no-cache"),
        (["--out", "FILE"], "is a file; give a folder with --out"),
        (["--frames", "missing"], "missing"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(
    quick_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    given = [str(tmp_path / "file") if word == "FILE" else word for word in arguments]
    assert main(["export", *([] if arguments[0] == "no_such_file" else [str(quick_weights)]), *given]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_model_of_an_experiment_stays_in_its_folder(make_weights: Callable[..., Path], frames: Path, tmp_path: Path) -> None:
    weights = make_weights(network=QUICK, name="endovis_loso/Dataset1/csl/seed0")
    arguments = ["--engine", "onnx", "--no-cache", "--frames", str(frames), "--count", "1", "--size", "128x160"]
    assert main(["export", str(weights), *arguments, "--out", str(tmp_path / "out")]) == 0
    stem = "endovis_loso_Dataset1_csl_seed0-128x160"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{stem}.onnx", f"{stem}.onnx.json"]


@pytest.mark.parametrize(("engine", "suffixes"), [("openvino", [".bin", ".xml"]), ("onnx", [".onnx"])])
def test_an_exported_network_is_checked_and_then_used(
    random_weights: Path,
    tmp_path: Path,
    frames: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
    engine: str,
    suffixes: list[str],
) -> None:
    out = tmp_path / "out"
    command = [
        "export",
        str(random_weights),
        "--engine",
        engine,
        "--size",
        "128x160",
        "--frames",
        str(frames),
        "--out",
        str(out),
    ]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"{engine} " in said
    assert "float32, input 128x160" in said
    assert " in 2 frames" in said
    assert sorted(path.name for path in out.iterdir()) == sorted(
        f"random-128x160{end}" for end in (*suffixes, f".{engine}.json")
    )
    report = json.loads((out / f"random-128x160.{engine}.json").read_text())
    assert report["check"]["frames"] == 2
    assert report["check"]["disagreement"] < 1e-4
    assert str(tmp_path) not in json.dumps(report)
    assert len(list(cache.iterdir())) == 1
    assert main(command) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err
    # The network that was exported runs: it is not built again, for it could not be.
    tracker = Tracker.from_weights(random_weights, "cpu", engine)
    tracker.engine.build = None  # type: ignore[attr-defined]
    image = cv2.imread(str(frames / "0.png"))
    expected = Tracker.from_weights(random_weights, "cpu", "torch").engine.run(image, True)
    np.testing.assert_allclose(tracker.engine.run(image, True).heatmaps, expected.heatmaps, atol=1e-4)


def test_a_damaged_cache_costs_time_and_one_sentence(
    quick_weights: Path, frames: Path, cache: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(quick_weights), "--size", "128x160", "--frames", str(frames), "--count", "1"]
    assert main(command) == 0
    (network,) = cache.glob("*/network.bin")
    network.write_bytes(network.read_bytes()[:-100])
    engine = create_engine(Tracker.from_weights(quick_weights, "cpu", "torch").model, "cpu", "openvino")
    engine.warm_up((128, 160))
    assert "network.bin is damaged" in caplog.text
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    caplog.clear()
    assert main(["info", str(quick_weights)]) == 0
    assert "auto selects openvino on cpu; the fastest of openvino, onnx, torch; exported for 128x160" in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_to_keeps_nobody_from_a_copy(
    quick_weights: Path, tmp_path: Path, frames: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("in the way")
    command = ["export", str(quick_weights), "--size", "128x160", "--frames", str(frames), "--count", "1"]
    assert main(command) == 2
    assert "set XDG_CACHE_HOME" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "The cache was not changed" in capsys.readouterr().out
    assert (tmp_path / "out" / "random-128x160.xml").is_file()


def test_a_network_that_says_something_else_is_not_written(
    make_weights: Callable[..., Path],
    frames: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from csl_tracker.engines.openvino_engine import OpenVinoEngine

    infer = OpenVinoEngine.infer

    def wrong(self, image):  # type: ignore[no-untyped-def]
        return infer(self, 255 - image)

    monkeypatch.setattr(OpenVinoEngine, "infer", wrong)
    path = make_weights(network=QUICK)
    assert main(["export", str(path), "--size", "128x160", "--frames", str(frames), "--count", "1"]) == 2
    assert "differ between openvino and float32 torch" in capsys.readouterr().err
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(("factor", "status"), [(1.0, 0), (float("nan"), 2)])
def test_a_compiled_network_is_checked_before_it_is_kept(
    make_weights: Callable[..., Path],
    frames: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    status: int,
) -> None:
    """The compiler, which takes a minute, is replaced by one that changes the network by a factor."""

    def write(network: DeviceNetwork, size: tuple[int, int], folder: Path) -> None:
        (folder / inductor.PACKAGE).write_text(f"{size[0]}x{size[1]} {network.precision}")

    def load(network: DeviceNetwork, model: Model, folder: Path) -> DeviceNetwork:
        assert (folder / inductor.PACKAGE).read_text() == "128x160 float32"
        return replace(network, infer=lambda x: NetworkOutput(*(factor * part for part in network.infer(x)[:2])))

    monkeypatch.setattr(inductor, "write_inductor", write)
    monkeypatch.setattr(inductor, "load_inductor", load)
    path = make_weights(network=QUICK, confidence_threshold=1e-4)
    command = ["export", str(path), "--engine", "inductor", "--device", "cpu", "--size", "128x160", "--frames", str(frames)]
    assert main(command) == status
    said = capsys.readouterr()
    model = load_weights(path)
    engine = TorchDeviceEngine(model, "cpu", "float32")
    found = inductor.find_inductor(engine.network, model, (128, 160), "cpu", ArtefactCache())
    if status:
        assert "change when it is compiled in float32" in said.err
        assert found is None
        return
    assert "for cpu, float32, input 128x160: landmarks shift by 0.0000 px" in said.out
    assert found is not None
    assert found.manifest["outputs"] == ["heatmaps", "scores"]
    other = TorchDeviceEngine(model, "cpu", "float32", mirror=True)
    assert inductor.find_inductor(other.network, model, (128, 160), "cpu", ArtefactCache()) is None
    assert inductor.find_inductor(engine.network, model, (64, 64), "cpu", ArtefactCache()) is None


def test_a_copy_has_all_its_files_or_none(
    quick_weights: Path,
    tmp_path: Path,
    frames: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["export", str(quick_weights), "--size", "128x160", "--frames", str(frames), "--count", "1"]
    out = tmp_path / "out"
    copy = shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if Path(source).suffix == ".bin":
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target)

    monkeypatch.setattr("csl_tracker.cli.export.shutil.copyfile", full)
    assert main([*command, "--out", str(out)]) == 2
    assert "out (No space left on device); make room on the disk, or choose another folder" in capsys.readouterr().err
    assert not out.exists()
    out.mkdir()
    (out / "random-128x160.xml").write_text("older")
    assert main([*command, "--out", str(out), "--overwrite"]) == 2
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("random-128x160.xml", "older")]


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_a_full_disk_is_one_sentence(
    quick_weights: Path, frames: Path, cache: Path, capsys: pytest.CaptureFixture[str], full_disk, engine: str
) -> None:
    command = ["export", str(quick_weights), "--size", "128x160", "--frames", str(frames), "--engine", engine]
    with full_disk(10_000):
        assert main(command) == 2
    error = capsys.readouterr().err
    assert "cannot be written (" in error
    assert "make room, or set XDG_CACHE_HOME" in error
    assert not [path for path in cache.rglob("*") if path.is_file()]
